"""What comes from outside is loaded without running it: types that are needed are built, anything else is refused."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmtrain.checkpoint_file import MAX_BYTES
from mmtrain.engine.safe_load import let_mmengine_load_safely, load_checkpoint_safely
from trainer_sdk.errors import CheckpointError

WEIGHTS = {"backbone.weight": torch.arange(6.0).reshape(2, 3)}


class Calls:
    """Pickled as a call: what an unpickler runs."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def saved(path: Path, **content: Any) -> Path:
    torch.save({"state_dict": WEIGHTS, **content}, path)
    return path


def test_a_training_checkpoint_of_mmengine(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    loss = {"log_scalars": {"train/loss": history}, "runtime_info": {"eta": np.float64(0.5), "best": np.int64(3)}}
    sigmas = np.array([[0.25, 0.5]], dtype=np.float32)
    path = saved(tmp_path / "last.pth", message_hub=loss, meta={"dataset_meta": {"sigmas": sigmas, "ids": (sigmas,)}})
    found = load_checkpoint_safely(path)
    again = found["message_hub"]["log_scalars"]["train/loss"]
    assert type(again) is HistoryBuffer
    assert (again.mean(), again.statistics("max")) == (2.0, 3.0)
    assert found["message_hub"]["runtime_info"] == {"eta": 0.5, "best": 3}
    for array in (found["meta"]["dataset_meta"]["sigmas"], *found["meta"]["dataset_meta"]["ids"]):
        assert type(array) is np.ndarray
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, sigmas)
    assert torch.equal(found["state_dict"]["backbone.weight"], WEIGHTS["backbone.weight"])


def test_what_was_loaded_can_be_saved_for_the_next(tmp_path: Path) -> None:
    hub = {"log_scalars": {"train/loss": HistoryBuffer([1.0], [1])}, "array": np.arange(3)}
    first = load_checkpoint_safely(saved(tmp_path / "first.pth", message_hub=hub))
    torch.save(first, tmp_path / "second.pth")
    again = load_checkpoint_safely(tmp_path / "second.pth")
    assert again["message_hub"]["log_scalars"]["train/loss"].current() == 1.0
    assert again["message_hub"]["array"].tolist() == [0, 1, 2]


def test_other_authors_options_and_the_format_before_1_6(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    content = {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    found = load_checkpoint_safely(path)
    assert found["args"].lr == 0.1
    assert torch.equal(found["model"]["backbone.weight"], WEIGHTS["backbone.weight"])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_checkpoint_does_nothing(tmp_path: Path, zipped: bool) -> None:
    trace, path = tmp_path / "it_ran", tmp_path / "evil.pth"
    content = {"state_dict": WEIGHTS, "meta": Calls(os.system, f"touch {trace}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"holds objects that are no weights.*system") as caught:
        load_checkpoint_safely(path)
    assert str(path) in caught.value.message
    assert "state_dict" in caught.value.hint
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have


def test_mmengine_does_not_fall_back_to_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "it_ran"
    path = saved(tmp_path / "evil.pth", meta=Calls(os.system, f"touch {trace}"))
    monkeypatch.setattr(mmengine_checkpoint, "_safe_torch_load", mmengine_checkpoint._safe_torch_load)
    let_mmengine_load_safely()
    with pytest.raises(CheckpointError):
        mmengine_checkpoint.CheckpointLoader.load_checkpoint(str(path))
    assert not trace.exists()


class Typed:
    """Pickled as a numpy array with any state."""

    def __init__(self, dtype_state: Any, data: Any, code: str = "f8") -> None:
        self._state, self._data, self._code = dtype_state, data, code

    def __reduce__(self) -> tuple[Any, ...]:
        dtype = DType(self._code, self._state)
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), dtype, False, self._data)


class DType:
    def __init__(self, code: str, state: Any) -> None:
        self._code, self._state = code, state

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, (self._code, False, True), self._state


PLAIN = (3, "<", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Calls(builtins.getattr, np.ndarray, "tofile"), id="a method of an allowed type"),
        pytest.param(Calls(builtins.getattr, HistoryBuffer, "__init__"), id="a way to a module's globals"),
        pytest.param(Calls(builtins.getattr, HistoryBuffer([], []), "mean"), id="of an object"),
        pytest.param(Typed((3, "|", None, None, None, -1, -1, 63), b"\0" * 8, "O"), id="pointers"),
        pytest.param(Typed((3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0), b"\0" * 8), id="fields"),
        pytest.param(Typed(PLAIN, [print]), id="data that are a list"),
        pytest.param(Typed(PLAIN, b"short"), id="too few bytes"),
        pytest.param(Calls(np.ndarray, (1,)), id="an array by its constructor"),
        pytest.param(np.array([object], dtype=object), id="an array of objects"),
    ],
)
def test_allowed_types_cannot_be_bent(tmp_path: Path, value: Any) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint_safely(saved(tmp_path / "bent.pth", meta=value))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)


def truncated(path: Path) -> None:
    whole = saved(path.with_suffix(".whole")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def scrambled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00(")
        archive.writestr("archive/version", b"3\n")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("\n<!DOCTYPE html><title>404</title>"), "is a web page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda path: path.write_bytes(pickle.dumps(WEIGHTS)), "is no PyTorch checkpoint"),
        (lambda path: torch.save([1], path), "holds a list"),
        (truncated, "cut short"),
        (scrambled, "is damaged"),
        (compressed, "compressed"),
        (huge, "16 GB at most"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, write: Callable[[Path], Any], said: str) -> None:
    path = tmp_path / "model.pth"
    write(path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint_safely(path, "s3://bucket/model.pth")
    assert "s3://bucket/model.pth" in caught.value.message


def test_lists_of_the_same_lists_do_not_multiply(tmp_path: Path) -> None:
    """A billion laughs: 60 levels of two would be 10^18 visits."""
    laughs: Any = np.arange(2)
    for _ in range(60):
        laughs = [laughs, laughs]
    found = load_checkpoint_safely(saved(tmp_path / "laughs.pth", meta={"laughs": laughs}))["meta"]["laughs"]
    assert found[0] is found[1]
    while isinstance(found, list):
        found = found[0]
    assert type(found) is np.ndarray


def test_a_tensor_that_claims_more_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    wide = torch.zeros(1).expand(10**12)  # one number, seen a trillion times
    found = load_checkpoint_safely(saved(tmp_path / "wide.pth", meta=wide))["meta"]
    assert found.untyped_storage().nbytes() == 4

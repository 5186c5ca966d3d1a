"""What of a checkpoint fits a model: heads begin anew by name, another model is refused, moved classes are noticed."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmtrain.engine.start import Start, fitting, write_start
from trainer_sdk.errors import CheckpointError

CLASSES = ("cat", "dog", "owl")


class Model(nn.Module):
    """A backbone, and a head with one output per class, as the MM packages name them."""

    def __init__(self, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.ModuleDict({"reg": nn.Linear(width, 4), "cls": nn.Linear(width, classes)})


def shapes(classes: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in Model(classes).state_dict().items()}


def start_of(checkpoint: dict[str, Any], model: nn.Module | None = None, names: tuple[str, ...] = CLASSES) -> Start:
    model = model or Model(len(names))
    return fitting(
        checkpoint,
        model,
        name="s3://b/best.pt",
        recipe="small-net",
        class_names=names,
        shapes_with_one_more=lambda: shapes(len(names) + 1),
    )


def weights(classes: int = 3) -> OrderedDict[str, Tensor]:
    state: OrderedDict[str, Tensor] = Model(classes).state_dict()
    return state


def saved_with(classes: tuple[str, ...]) -> dict[str, Any]:
    return {"state_dict": weights(len(classes)), "meta": {"dataset_meta": {"classes": classes}}}


def test_everything_fits() -> None:
    checkpoint = saved_with(CLASSES)
    start = start_of(checkpoint)
    assert start.state.keys() == checkpoint["state_dict"].keys()
    told = start.told
    assert (told.loaded, told.total) == (22, 22)
    assert (told.reinitialised, told.missing, told.unexpected, told.class_remark) == ([], [], [], None)


def test_heads_for_another_number_of_classes_begin_anew_by_name() -> None:
    start = start_of({"state_dict": weights(80)})
    assert start.told.reinitialised == ["head.cls.weight", "head.cls.bias"]
    assert start.told.loaded == 20
    assert not start.state.keys() & set(start.told.reinitialised)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"model": state, "epoch": 3}, id="other trainers"),
        pytest.param(lambda state: {"state_dict": prefixed(state, "module.")}, id="several processes"),
        pytest.param(lambda state: {"state_dict": prefixed(state, "model._orig_mod.")}, id="compiled in Lightning"),
        pytest.param(
            lambda state: {"ema_state_dict": {"steps": torch.tensor(7), **prefixed(state, "module.")}},
            id="averages",
        ),
        pytest.param(lambda state: {"state_dict": {**state, "data_preprocessor.mean": torch.zeros(3)}}, id="buffers"),
        pytest.param(
            lambda state: {"state_dict": {**state, "ema_backbone_0_weight": torch.zeros(3)}},
            id="averages of MMDetection 2",
        ),
    ],
)
def test_however_the_weights_are_wrapped(wrap: Any) -> None:
    state = weights()
    start = start_of(wrap(state))
    assert start.told.loaded == 22
    assert torch.equal(start.state["backbone.0.weight"], state["backbone.0.weight"])
    assert start.told.unexpected == []


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def test_averaged_weights_are_taken_where_mmengine_puts_them() -> None:
    averaged, raw = weights(), weights()
    start = start_of({"state_dict": averaged, "ema_state_dict": prefixed(raw, "module.")})
    assert torch.equal(start.state["backbone.0.weight"], averaged["backbone.0.weight"])


def test_a_bare_backbone() -> None:
    state = {name.removeprefix("backbone."): tensor for name, tensor in weights().items() if "backbone" in name}
    told = start_of(state).told
    assert told.loaded == 18
    assert told.missing == ["head.reg.weight", "head.reg.bias", "head.cls.weight", "head.cls.bias"]


class Renamed(Model):
    """Converts its own earlier names, as MM heads do."""

    def __init__(self) -> None:
        super().__init__()
        self._register_load_state_dict_pre_hook(self._convert)

    @staticmethod
    def _convert(state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        for key in [key for key in state if key.startswith("bbox_head.")]:
            state[key.replace("bbox_head.", "head.")] = state.pop(key)


def test_names_of_an_earlier_version_are_converted_by_the_model() -> None:
    old = {name.replace("head.", "bbox_head."): tensor for name, tensor in weights().items()}
    model = Renamed()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = start_of({"state_dict": old}, model)
    assert (start.told.loaded, start.told.unexpected) == (22, [])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())  # only looked at


def test_another_model_is_refused_with_what_does_not_fit() -> None:
    checkpoint = {"state_dict": Model(width=8).state_dict(), "meta": {"trainer": {"recipe": "large-net"}}}
    with pytest.raises(CheckpointError, match=r"s3://b/best.pt is no checkpoint of small-net: 0 of the 18") as caught:
        start_of(checkpoint)
    assert "one of large-net" in caught.value.message
    assert "backbone.0.weight (4, 4, 1, 1): (8, 8, 1, 1) in the file" in caught.value.message
    for way_out in ("MODEL_NAME", "CHECKPOINT_PATH", "pretrained=false"):
        assert way_out in caught.value.hint


@pytest.mark.parametrize(("lost", "fits"), [(3, True), (4, False)])
def test_four_fifths_of_the_backbone_must_fit(lost: int, fits: bool) -> None:
    state = weights()
    for name in [name for name in state if name.startswith("backbone.") and "num_batches" not in name][:lost]:
        del state[name]
    if fits:
        assert len(start_of({"state_dict": state}).told.missing) == lost
    else:
        with pytest.raises(CheckpointError, match=r"backbone\.0\.weight .*: not in the file"):
            start_of({"state_dict": state})


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"optimizer": {"lr": 0.1}}])
def test_a_file_without_weights(content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        start_of(content)


def test_classes_in_another_order_are_not_taken_for_each_other() -> None:
    told = start_of(saved_with(("dog", "cat", "owl"))).told
    assert told.reinitialised == ["head.cls.weight", "head.cls.bias"]
    assert told.class_remark is not None
    assert "dog, cat, owl in the checkpoint, cat, dog, owl in the data" in told.class_remark
    assert "begin anew" in told.class_remark


@pytest.mark.parametrize("key", ["CLASSES", "dataset_meta"])
def test_other_classes_in_the_same_places_are_told(key: str) -> None:
    theirs = ("lynx", "dog", "hawk")
    meta = {"CLASSES": theirs} if key == "CLASSES" else {"dataset_meta": {"CLASSES": list(theirs)}}
    told = start_of({"state_dict": weights(), "meta": meta}).told
    assert (told.loaded, told.reinitialised) == (22, [])
    assert told.class_remark is not None
    assert "lynx, dog, hawk" in told.class_remark


@pytest.mark.parametrize(
    "meta",
    [
        {"trainer": {"keypoints": ["right", "left"]}},
        {"dataset_meta": {"keypoint_id2name": {0: "right", 1: "left"}}},
    ],
)
def test_keypoints_in_other_places_are_told(meta: dict[str, Any]) -> None:
    def remark(*ours: str) -> str | None:
        checkpoint = {"state_dict": weights(), "meta": meta}
        found = fitting(
            checkpoint,
            Model(),
            name="b",
            recipe="r",
            class_names=CLASSES,
            keypoint_names=ours,
            shapes_with_one_more=dict,
        )
        return found.told.class_remark

    assert "right, left in the checkpoint, left, right in the data" in (remark("left", "right") or "")
    assert remark("right", "left") is None
    assert remark() is None


def test_the_clean_file_is_all_that_mmengine_needs(tmp_path: Path) -> None:
    target = tmp_path / "start.pth"
    model = Model()
    start = start_of({"state_dict": weights(80), "optimizer": {"lr": 1.0}}, model)
    write_start(start, model, target)
    clean = torch.load(target, weights_only=True)
    missing, unexpected = model.load_state_dict(clean["state_dict"], strict=False)
    assert missing == start.told.reinitialised
    assert unexpected == []
    assert clean["meta"] == {}

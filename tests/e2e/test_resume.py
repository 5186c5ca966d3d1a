"""A job that was killed goes on under its id, and ends as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.safe_load import load_checkpoint_safely
from tests.conftest import RunScript, ScriptRun, StartScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_faults import wait_for
from tests.e2e.test_jobs import TRAIN_S, request

SIX = {"epochs": 6, "workers": 1}
OPTIONS = {"ema": True, "deterministic": True, "val_interval": 2, "checkpoint_interval": 1, "mosaic": 0.5, "mixup": 0.5}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})


def curves(run: ScriptRun) -> dict[str, Any]:
    """Without the time that went by waiting for data, which is another one in every run."""
    found = dict(json.loads((run.folder / "out" / "report.json").read_text())["curves"])
    for point in found["train"]:
        assert 0 < point.pop("data_share") < 1
    return found


def last(run: ScriptRun) -> dict[str, Any]:
    return load_checkpoint_safely(run.folder / "out" / "last.pth")


def assert_same_tensors(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6, msg=name)


def test_three_epochs_a_kill_and_three_more_are_six(
    start_script: StartScript, run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> None:
    environment = {**request("rtmdet-tiny", SIX, **OPTIONS), "DATASET_PATH": str(shapes)}
    whole = run_script({**environment, "WORKSPACE_DIR": str(tmp_path / "whole")}, timeout_s=TRAIN_S)
    assert whole.exit_code == 0, whole.stdout

    environment |= {"CALLBACK_URL": backend.url}
    killed = start_script(environment)
    wait_for(lambda: "epoch_3" in (killed.folder / "work" / "last_checkpoint").read_text(), (FileNotFoundError,))
    killed.kill()
    parts = run_script(environment, timeout_s=TRAIN_S)
    assert parts.exit_code == 0, parts.stdout
    assert "going on after epoch" in parts.stdout

    for split in ("train", "validation"):
        assert len(curves(parts)[split]) == len(curves(whole)[split])
        for one, other in zip(curves(whole)[split], curves(parts)[split], strict=True):
            numbers = [point.get("metrics", point) for point in (one, other)]
            assert numbers[1] == pytest.approx(numbers[0], abs=1e-6)
    for part in ("state_dict", "ema_state_dict"):
        assert_same_tensors(last(whole)[part], last(parts)[part])
    assert backend.status_of(123) == "completed"
    assert backend.rejected == []

    calls = len(backend.calls)
    weights = (parts.folder / "out" / "last.pth").stat().st_mtime_ns
    again = run_script(environment)
    assert again.exit_code == 0
    assert [call.what for call in backend.calls[calls:]] == ["completion"]
    assert (again.folder / "out" / "last.pth").stat().st_mtime_ns == weights

"""A job that was killed goes on under its id, and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.safe_load import load_checkpoint_safely
from tests.conftest import ROOT, RunningScript, RunScript, ScriptRun, StartScript
from tests.doubles.backend import ContractBackend
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.e2e.test_faults import wait_for
from tests.e2e.test_jobs import TRAIN_S, request

SIX = {"epochs": 6, "workers": 1}
OPTIONS = {"ema": True, "deterministic": True, "val_interval": 2, "checkpoint_interval": 1, "mosaic": 0.5, "mixup": 0.5}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", counts={"train": 8, "val": 4})


@pytest.fixture(scope="module")
def environment(shapes: Path) -> dict[str, str]:
    return {**request("rtmdet-tiny", SIX, **OPTIONS), "DATASET_PATH": str(shapes)}


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    """Six epochs that nothing disturbed."""
    run = RunningScript(ROOT / "train.py", environment, (), tmp_path_factory.mktemp("whole")).wait(TRAIN_S)
    assert run.exit_code == 0, run.stdout
    return run


def curves(run: ScriptRun) -> dict[str, Any]:
    """Without what is measured of the machine, which is another number in every run: waiting for data, and memory."""
    found = dict(json.loads((run.folder / "out" / "report.json").read_text())["curves"])
    for point in found["train"]:
        assert 0 < point.pop("data_share") < 1
        assert point.pop("peak_rss_bytes") > 0
    return found


def last(run: ScriptRun) -> dict[str, Any]:
    return load_checkpoint_safely(run.folder / "out" / "last.pth")


def assert_same_tensors(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6, msg=name)


def assert_same_training(whole: ScriptRun, parts: ScriptRun) -> None:
    """In every logged number and every final weight."""
    for split in ("train", "validation"):
        assert len(curves(parts)[split]) == len(curves(whole)[split])
        for one, other in zip(curves(whole)[split], curves(parts)[split], strict=True):
            numbers = [point.get("metrics", point) for point in (one, other)]
            assert numbers[1] == pytest.approx(numbers[0], abs=1e-6)
    for part in ("state_dict", "ema_state_dict"):
        assert_same_tensors(last(whole)[part], last(parts)[part])


def test_three_epochs_a_kill_and_three_more_are_six(
    start_script: StartScript,
    run_script: RunScript,
    backend: ContractBackend,
    environment: dict[str, str],
    whole: ScriptRun,
) -> None:
    environment = environment | {"CALLBACK_URL": backend.url}
    killed = start_script(environment)
    wait_for(lambda: "epoch_3" in (killed.folder / "work" / "last_checkpoint").read_text(), (FileNotFoundError,))
    killed.kill()
    parts = run_script(environment, timeout_s=TRAIN_S)
    assert parts.exit_code == 0, parts.stdout
    assert "going on after epoch" in parts.stdout
    assert_same_training(whole, parts)
    assert backend.status_of(123) == "completed"
    assert backend.rejected == []

    calls = len(backend.calls)
    weights = (parts.folder / "out" / "last.pth").stat().st_mtime_ns
    again = run_script(environment)
    assert again.exit_code == 0
    assert [call.what for call in backend.calls[calls:]] == ["completion"]
    assert (again.folder / "out" / "last.pth").stat().st_mtime_ns == weights


def test_another_machine_goes_on_from_what_was_uploaded_and_a_third_trains_nothing(
    start_script: StartScript,
    run_script: RunScript,
    backend: ContractBackend,
    s3: S3Double,
    environment: dict[str, str],
    whole: ScriptRun,
) -> None:
    environment = environment | {"CALLBACK_URL": backend.url, **s3.environment()}
    progress = "checkpoints/123/resume/progress.json"
    killed = start_script(environment)
    wait_for(lambda: progress in s3.keys(CHECKPOINTS, "checkpoints/123/resume/"))
    killed.kill()
    assert not (killed.folder / "outcome.json").exists()
    epoch = json.loads(s3.get(CHECKPOINTS, progress))["epoch"]
    shutil.rmtree(killed.folder)

    calls = len(backend.calls)
    parts = run_script(environment, timeout_s=TRAIN_S)
    assert parts.exit_code == 0, parts.stdout
    told = [call.body["current_epoch"] for call in backend.calls[calls:] if call.what == "progress"]
    assert told[:2] == [0, epoch]  # that it started, and where it is before it has trained any further
    assert (
        f"goes on from epoch {epoch}, iteration {2 * epoch}, saved by an earlier run on another machine" in parts.stdout
    )
    assert f"going on after epoch {epoch}" in parts.stdout
    assert_same_training(whole, parts)
    assert not any("/resume/" in key for key in s3.keys(CHECKPOINTS))
    shutil.rmtree(parts.folder)

    before = s3.client.head_object(Bucket=CHECKPOINTS, Key="checkpoints/123/best.pt")["LastModified"]
    calls = len(backend.calls)
    again = run_script(environment)
    assert again.exit_code == 0, again.stdout
    assert again.outcome["status"] == "completed"
    assert not (again.folder / "plan.json").exists()
    assert s3.client.head_object(Bucket=CHECKPOINTS, Key="checkpoints/123/best.pt")["LastModified"] == before
    assert [call.what for call in backend.calls[calls:]] == ["progress", "logs", "completion"]
    assert backend.calls[-1].body["best_checkpoint_path"] == f"s3://{CHECKPOINTS}/checkpoints/123/best.pt"
    assert backend.status_of(123) == "completed"
    assert backend.rejected == []

"""MLflow is told what happens, and a job does not notice when nobody listens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mmtrain.jobs.tracking import Tracker
from tests.unit.test_plan import plan_of


def track(uri: str) -> Tracker:
    """A run of two epochs."""
    tracker = Tracker({"MLFLOW_TRACKING_URI": uri} if uri else {}, "7")
    tracker.plan(plan_of(epochs=2))
    for epoch in (1, 2):
        tracker.numbers({"loss": 1.0 / epoch, "mAP@0.5:0.95(M)": None if epoch == 1 else 0.5}, epoch)
    tracker.close()
    return tracker


def test_plan_and_numbers_of_every_epoch_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow's folders, the only store without a server
    track(tmp_path.as_uri())
    (run,) = (folder for folder in tmp_path.glob("*/*") if (folder / "params").is_dir())
    assert (run / "params" / "epochs").read_text() == "2"
    losses = [line.split()[1:] for line in (run / "metrics" / "loss").read_text().splitlines()]
    assert losses == [["1.0", "1"], ["0.5", "2"]]
    assert (run / "metrics" / "mAP_0.5_0.95_M").read_text().split()[1:] == ["0.5", "2"]


def test_a_dead_server_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    track("http://127.0.0.1:9")
    assert time.monotonic() - started < 20
    assert "MLflow hears no more of this job" in caplog.text


def test_nobody_asked_nobody_told() -> None:
    assert not track("")._thread.is_alive()

"""Whatever becomes of the worker or the backend, the job has one outcome and the backend hears of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import RunningScript, RunScript, StartScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import TRAIN_S, request

LONG = {"epochs": 500, "workers": 1}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})


@pytest.fixture
def training(start_script: StartScript, backend: ContractBackend, shapes: Path) -> RunningScript:
    """A job in the middle of a training that would take much longer than any test."""
    environment = {**request("rtmdet-tiny", LONG), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    job = start_script(environment)
    wait_for(lambda: "epoch_" in (job.folder / "work" / "last_checkpoint").read_text(), (FileNotFoundError,))
    return job


def wait_for(condition: Callable[[], bool], not_yet: tuple[type[Exception], ...] = ()) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except not_yet:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def worker_of(job: RunningScript) -> psutil.Process:
    """The process that trains: torchrun's child that runs our module."""
    family = psutil.Process(job.process.pid).children(recursive=True)
    workers = [process for process in family if "mmtrain.engine.worker" in process.cmdline()]
    return max(workers, key=lambda process: len(process.parents()) if process.children() else 0)


def told(backend: ContractBackend) -> list[str]:
    return [call.body["error_message"] for call in backend.calls if "error_message" in (call.body or {})]


@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [
        (signal.SIGKILL, 4, "[ResourceError] the training process was killed"),
        (signal.SIGSEGV, 1, "[FrameworkError] the training process died of SIGSEGV"),
        (signal.SIGBUS, 4, "[ResourceError] the training process died of SIGBUS"),
    ],
)
def test_a_worker_that_dies_is_named_and_told(
    training: RunningScript, backend: ContractBackend, number: signal.Signals, exit_code: int, said: str
) -> None:
    worker_of(training).send_signal(number)
    done = training.wait(TRAIN_S)
    assert done.exit_code == exit_code, done.stdout
    assert [message[: len(said)] for message in told(backend)] == [said]
    assert backend.status_of(123) == "failed"
    assert backend.rejected == []
    assert not (done.folder / "out" / "manifest.json").exists()


def test_sigterm_ends_the_job_in_order(training: RunningScript, backend: ContractBackend) -> None:
    family = psutil.Process(training.process.pid).children(recursive=True)
    training.process.send_signal(signal.SIGTERM)
    done = training.wait(TRAIN_S)
    assert done.exit_code == 143, done.stdout
    assert done.outcome["status"] == "interrupted"
    assert (done.folder / "work" / "interrupted.pth").exists()
    assert len(told(backend)) == 1
    assert told(backend)[0].startswith("[Interrupted] stopped by SIGTERM during train")
    wait_for(lambda: not any(process.is_running() for process in family))


def test_a_worker_does_not_outlive_its_parent(training: RunningScript) -> None:
    worker = worker_of(training)
    training.process.kill()
    wait_for(lambda: not worker.is_running())


def test_a_killed_job_starts_over_under_the_same_id(
    training: RunningScript, backend: ContractBackend, run_script: RunScript, shapes: Path
) -> None:
    training.kill()
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    done = run_script(environment, timeout_s=TRAIN_S)
    assert done.exit_code == 0, done.stdout
    assert backend.status_of(123) == "completed"
    assert not (done.folder / "work" / "epoch_2.pth").exists()


def test_a_second_job_under_the_same_id_leaves_the_first_alone(
    training: RunningScript, backend: ContractBackend, run_script: RunScript, shapes: Path
) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    second = run_script(environment)
    assert second.exit_code == 4
    assert "another process works on this job" in second.stdout
    assert told(backend) == []
    assert training.process.poll() is None
    assert (training.folder / "work" / "worker.json").exists()


def test_a_rerun_waits_for_the_worker_of_a_killed_parent(
    training: RunningScript, backend: ContractBackend, run_script: RunScript, shapes: Path
) -> None:
    training.process.kill()  # only the parent: its worker notices after an iteration
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    done = run_script(environment, timeout_s=TRAIN_S)
    assert done.exit_code == 0, done.stdout
    assert not (done.folder / "work" / "interrupted.pth").exists()
    assert not (done.folder / "work" / "worker_error.json").exists()


def test_an_exception_in_the_worker_arrives_with_its_traceback(
    start_script: StartScript, backend: ContractBackend, shapes: Path
) -> None:
    environment = {**request("rtmdet-tiny", LONG), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    job = start_script(environment)
    wait_for((job.folder / "work" / "worker.json").exists)
    for picture in (shapes / "images").iterdir():
        picture.unlink()  # after the inspection, before the training
    done = job.wait(TRAIN_S)
    assert done.exit_code == 1, done.stdout
    assert told(backend)[0].startswith("[FrameworkError] ")
    assert "shape_0" in told(backend)[0]
    assert "LoadImageFromFile" in done.outcome["traceback"] or "loading.py" in done.outcome["traceback"]


def test_a_dead_backend_costs_nothing_but_the_news(
    run_script: RunScript, backend: ContractBackend, shapes: Path
) -> None:
    backend.go_down()
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    environment["DELIVERY_TIMEOUT_S"] = "2"
    done = run_script(environment, timeout_s=TRAIN_S)
    assert done.exit_code == 2, done.stdout
    assert done.outcome["status"] == "completed"
    assert done.outcome["undelivered_events"] > 0
    best = (done.folder / "out" / "best.pth").stat().st_mtime_ns

    backend.come_back()
    again = run_script(environment)
    assert again.exit_code == 0, again.stdout
    assert (again.folder / "out" / "best.pth").stat().st_mtime_ns == best
    assert backend.status_of(123) == "completed"
    heard = [call.what for call in backend.calls]
    told_kinds = [event["kind"] for event in again.events]
    assert heard.count("results") == told_kinds.count("validation") > 0
    assert heard[-1] == "completion"
    assert set(told_kinds) >= {"started", "progress", "validation", "completed"}
    assert backend.rejected == []


def test_a_diverging_training_is_stopped(run_script: RunScript, backend: ContractBackend, shapes: Path) -> None:
    wild = {**LONG, "lr0": 9.9, "optimizer": "SGD"}  # with this decay every step multiplies the weights by -8.9
    advanced = {"ema": False, "warmup_epochs": 0, "weight_decay": 1.0, "checkpoint_interval": 1}
    environment = {**request("rtmdet-tiny", wild, **advanced), "DATASET_PATH": str(shapes)}
    done = run_script({**environment, "CALLBACK_URL": backend.url}, timeout_s=TRAIN_S)
    assert done.exit_code == 3, done.stdout
    assert told(backend)[0].startswith("[ValidationError] the loss was not finite")
    assert "lower lr0" in told(backend)[0]
    assert "the last good checkpoint is work/epoch_" in told(backend)[0]

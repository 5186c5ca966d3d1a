"""A backend that hears nothing until the job is over.

What a job could not tell outlives it, beside its artifacts too, and arrives later: once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, JobScript, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.faults.conftest import Seen
from trainer_sdk.delivery import log_rows
from trainer_sdk.delivery.backends import FileBackend
from trainer_sdk.delivery.outbox import Outbox
from trainer_sdk.events import LogLine, Started
from trainer_sdk.workspace import LOCK, take_lock

WORK = """
    session.tell(Progress(current_epoch=1, total_epochs=5, progress_percent=20, metrics=Metrics(loss=0.5)))
    session.log("one epoch")
    session.complete(DONE)
"""
RunJob = Callable[..., ScriptRun]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "storage" / "training-checkpoints" / "checkpoints" / "123" / "undelivered"


@pytest.fixture
def run_job(backend: ContractBackend, job_script: JobScript, run_script: RunScript, tmp_path: Path) -> RunJob:
    environ = {
        "CALLBACK_URL": backend.url,
        "JOB_ID": "123",
        "MODEL_NAME": "rtmdet_tiny",
        "DATASET_ID": "ds_abc",
        "DELIVERY_TIMEOUT_S": "30",
        "INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path / 'storage'}",
    }
    return lambda work, **change: run_script({**environ, **change}, script=job_script(work))


def replay(folder: Path, backend: ContractBackend, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "trainer_sdk.replay", str(folder)]
    environ |= {"CALLBACK_URL": backend.url, "DELIVERY_TIMEOUT_S": "30"} | more
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.short
@pytest.mark.fault(
    "backend dead for the whole job, its events replayed afterwards, from two copies",
    expected="all arrive, once and in order; the second copy finds the job completed and leaves it so",
)
def test_undelivered_events_are_beside_the_artifacts_and_can_be_replayed_once(
    backend: ContractBackend, run_job: RunJob, bucket: Path, tmp_path: Path, seen: Seen
) -> None:
    backend.go_down()
    unheard = run_job(WORK, DELIVERY_TIMEOUT_S="1")
    assert (unheard.exit_code, unheard.outcome["undelivered_events"]) == (2, 4)
    assert (bucket / "events.jsonl").read_bytes() == (unheard.folder / "events.jsonl").read_bytes()

    backend.come_back()
    shutil.copytree(bucket, tmp_path / "copy")
    done = replay(tmp_path / "copy", backend)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 events delivered" in done.stdout
    assert [call.what for call in backend.calls] == ["progress", "progress", "logs", "completion"]
    assert [call.path.split("/")[5] for call in backend.calls] == ["123"] * 4
    assert backend.status_of(123) == "completed"
    assert replay(tmp_path / "copy", backend).returncode == 0
    assert len(backend.calls) == 4

    other_copy = replay(unheard.folder, backend)  # of the same events: the backend knows them by their keys
    assert other_copy.returncode == 0
    told = json.loads((unheard.folder / "outcome.json").read_text())
    assert (told["status"], told["exit_code"], told["undelivered_events"]) == ("completed", 0, 0)
    late = backend.calls[4:]
    assert [call.what for call in late] == ["logs"]
    assert late[0].headers["idempotency-key"] in {call.headers["idempotency-key"] for call in backend.calls[:4]}
    seen("4 of 4 events arrived in order; of the second copy one log row, with the same key")


@pytest.mark.fault(
    "backend dead for the whole job, then a rerun",
    expected="nothing is trained again, the events arrive, their copy leaves the storage",
)
def test_a_rerun_that_delivers_them_takes_the_copy_away(
    backend: ContractBackend, run_job: RunJob, bucket: Path, seen: Seen
) -> None:
    backend.go_down()
    assert run_job(WORK, DELIVERY_TIMEOUT_S="1").exit_code == 2
    assert bucket.exists()
    backend.come_back()
    assert run_job(WORK).exit_code == 0
    assert list(bucket.iterdir()) == []
    assert backend.status_of(123) == "completed"
    seen("delivered by the rerun")


def test_a_job_that_delivered_everything_leaves_nothing(run_job: RunJob, bucket: Path) -> None:
    assert run_job(WORK).exit_code == 0
    assert not bucket.exists()


@pytest.mark.fault("backend dead while a job fails", expected="exit code of the failure; replay tells it")
def test_a_failed_jobs_events_are_kept_too(backend: ContractBackend, run_job: RunJob, bucket: Path, seen: Seen) -> None:
    backend.go_down()
    assert run_job("raise errors.DatasetError('empty')", DELIVERY_TIMEOUT_S="1").exit_code == 3
    backend.come_back()
    assert replay(bucket, backend).returncode == 0
    assert backend.status_of(123) == "failed"
    seen("exit 3; failed, after the replay of the uploaded copy")


@pytest.mark.fault(
    "backend and storage both dead at the end", expected="the outcome stands; the events stay in the folder"
)
def test_a_dead_storage_changes_no_outcome(backend: ContractBackend, run_job: RunJob, seen: Seen) -> None:
    backend.go_down()
    run = run_job(WORK, INTERNAL_STORAGE_ENDPOINT="file:///proc/nowhere", DELIVERY_TIMEOUT_S="1")
    assert (run.exit_code, run.outcome["status"]) == (2, "completed")
    seen("exit 2, completed")


@pytest.mark.fault("backend still dead during the replay", expected="exit 2, nothing is lost")
def test_what_stays_undelivered_is_said(backend: ContractBackend, run_job: RunJob, seen: Seen) -> None:
    backend.go_down()
    folder = run_job(WORK, DELIVERY_TIMEOUT_S="1").folder
    done = replay(folder, backend, DELIVERY_TIMEOUT_S="0.5")
    assert done.returncode == 2
    assert "0 of 4 events delivered" in done.stdout
    seen("exit 2, 0 of 4 events delivered")


@pytest.mark.parametrize(
    ("change", "said"), [({"CALLBACK_URL": ""}, "CALLBACK_URL is missing"), ({"CALLBACK_URL": "ftp://x"}, "is not an")]
)
def test_nothing_to_work_with(backend: ContractBackend, tmp_path: Path, change: dict[str, str], said: str) -> None:
    done = replay(tmp_path, backend, **change)
    assert done.returncode == 3
    assert said in done.stdout
    assert "is no job folder" in done.stdout


@pytest.mark.fault("replay while the job still runs", expected="refused, exit 4")
def test_a_folder_in_which_a_job_runs_is_left_alone(backend: ContractBackend, tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "events.jsonl").touch()
    with take_lock(tmp_path / LOCK) as lock:  # type: ignore[union-attr]
        assert lock
        assert replay(tmp_path, backend).returncode == 4
    seen("exit 4")


@pytest.mark.fault(
    "killed with log lines that waited for others, its folder copied and replayed", expected="they arrive"
)
def test_waiting_lines_are_replayed_for_their_job(
    backend: ContractBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr(log_rows, "FIRST_WINDOW_S", 1000.0)
    (tmp_path / "123").mkdir()
    killed = Outbox(tmp_path / "123", "123", FileBackend())
    killed.tell(Started(total_epochs=1))
    killed.tell(LogLine(message="one"))
    killed.tell(LogLine(message="two"))
    while not (tmp_path / "123" / "outbox.json").exists():
        time.sleep(0.01)
    shutil.copytree(tmp_path / "123", tmp_path / "some copy")
    assert replay(tmp_path / "some copy", backend).returncode == 0
    assert backend.jobs[123].logs == ["[INFO] one\ntwo"]
    seen("both lines, in one row")

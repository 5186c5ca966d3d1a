"""A job that is silent, cancelled or killed while it tells"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import JobScript, RunningScript, RunScript, StartScript
from tests.doubles.backend import ContractBackend
from tests.faults.conftest import Seen


@pytest.fixture
def environ(backend: ContractBackend) -> dict[str, str]:
    return {"CALLBACK_URL": backend.url, "JOB_ID": "123", "MODEL_NAME": "rtmdet_tiny", "DATASET_ID": "ds_abc"}


def until(true: Callable[[], object], running: RunningScript) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise TimeoutError(running.output())


CANCELLED = """
    session.tell(Progress(current_epoch=1, total_epochs=5, progress_percent=20))
    while session.over is None:
        time.sleep(0.05)
    raise errors.JobCancelled(f"the backend says {session.over}")
"""


@pytest.mark.short
@pytest.mark.fault("cancelled by the backend before its first call", expected="nothing revives it; exit 0")
def test_a_job_learns_from_its_own_progress_that_it_was_cancelled(
    backend: ContractBackend, environ: dict[str, str], run_script: RunScript, job_script: JobScript, seen: Seen
) -> None:
    backend.jobs[123].status = "cancelled"
    run = run_script(environ, script=job_script(CANCELLED))
    assert (run.exit_code, run.outcome["status"]) == (0, "cancelled")
    assert backend.calls == []
    assert backend.status_of(123) == "cancelled"
    seen("0 calls, still cancelled, exit 0")


STOPPED = """
    session.tell(Progress(current_epoch=1, total_epochs=5, progress_percent=20))
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.mark.fault("cancelled, then its pod is deleted (SIGTERM)", expected="it stays cancelled; exit 0")
def test_a_cancelled_job_whose_pod_is_deleted_does_not_become_a_failed_one(
    backend: ContractBackend, environ: dict[str, str], start_script: StartScript, job_script: JobScript, seen: Seen
) -> None:
    running = start_script(environ, script=job_script(STOPPED))
    until(lambda: len(backend.calls) == 2 and "at work" in running.output(), running)
    backend.jobs[123].status = "cancelled"
    running.process.terminate()
    run = running.wait(30)
    assert (run.exit_code, run.outcome["status"]) == (0, "cancelled")
    assert backend.status_of(123) == "cancelled"
    assert [call.what for call in backend.calls] == ["progress", "progress"]
    seen("exit 0, still cancelled")


SILENT = """
    while not os.path.exists("enough"):
        time.sleep(0.05)
    session.complete(DONE)
"""


@pytest.mark.short
@pytest.mark.fault("a step that says nothing for long, CALLBACK_INTERVAL 0.2", expected="progress all the same")
def test_a_silent_job_is_heard_of_and_counts_what_was_refused(
    backend: ContractBackend,
    environ: dict[str, str],
    start_script: StartScript,
    job_script: JobScript,
    tmp_path: Path,
    seen: Seen,
) -> None:
    backend.fail_next(1, status=422)
    running = start_script({**environ, "CALLBACK_INTERVAL": "0.2"}, script=job_script(SILENT))
    until(lambda: len(backend.accepted) >= 3, running)
    assert running.folder.joinpath("HEARTBEAT").exists()
    (tmp_path / "enough").touch()
    run = running.wait(30)
    assert run.exit_code == 0
    beats = [call.body for call in backend.accepted if call.what == "progress"]
    assert {(body["current_epoch"], body["status"]) for body in beats} == {(0, "running")}
    assert run.outcome["refused_events"] == 1
    assert [call.what for call in backend.calls][-1] == "completion"
    seen(f"{len(beats)} signs of life, then the outcome; the refused call is counted")


TALKING = """
    for epoch in range(21 if os.path.exists("again") else 1, 100):
        session.tell(Progress(current_epoch=epoch, total_epochs=99, progress_percent=epoch,
                              metrics=Metrics(loss=epoch)))
        session.log(f"epoch {epoch}")
        print("epoch", epoch, flush=True)
        if epoch == 20:
            time.sleep(60)
    session.complete(DONE)
"""


@pytest.mark.fault(
    "killed (-9) while the backend is down, then run again", expected="every event arrives, once, in order"
)
def test_killed_before_it_was_heard(
    backend: ContractBackend,
    environ: dict[str, str],
    start_script: StartScript,
    job_script: JobScript,
    tmp_path: Path,
    seen: Seen,
) -> None:
    backend.go_down()
    script = job_script(TALKING)
    killed = start_script(environ, script=script)
    until(lambda: "epoch 20\n" in killed.output(), killed)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    (tmp_path / "again").touch()
    backend.come_back()
    run = start_script(environ, script=script).wait(60)
    assert run.exit_code == 0, run.stdout
    rows = [call.body["current_epoch"] for call in backend.accepted if call.body.get("metrics")]
    assert rows == [*range(1, 100)]
    lines = [line for call in backend.accepted if call.what == "logs" for line in call.body["message"].split("\n")]
    assert lines == [f"epoch {epoch}" for epoch in range(1, 100)]
    numbers = [int(call.headers["x-event-sequence"]) for call in backend.accepted]
    assert numbers == sorted(set(numbers))
    seen("20 epochs of the killed run and 79 of the next, 99 log lines, all in order, none twice")

"""A job as a real process that is told to stop: by signals, by the clock, by the backend; its work is a few lines."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, JobScript, RunningScript, RunScript, StartScript
from tests.contract.test_session import completions, wait_for_line
from tests.doubles.backend import ContractBackend

StartJob = Callable[..., RunningScript]

AT_WORK = """
with session.step("train"):
    print("at work", flush=True)
    time.sleep(60)
session.complete(DONE)
"""
DEAF = """
with session.step("train"):
    print("at work", flush=True)
    while True:
        try:
            time.sleep(60)
        except Exception as error:
            print("swallowed", error, flush=True)
"""
HARD_OF_HEARING = """
with session.step("fetch"):
    try:
        print("at work", flush=True)
        time.sleep(60)
    except Exception:
        pass
with session.step("train"):
    print("should not be reached", flush=True)
session.complete(DONE)
"""
IMPORTING = """
import pathlib
lines = ("import pathlib, time", "print('at work', flush=True)", "for _ in range(15): time.sleep(0.1)",
         "pathlib.Path('whole').touch()")
pathlib.Path("slow.py").write_text("\\n".join(lines))
sys.path.insert(0, ".")
with session.step("fetch"):
    import slow
    time.sleep(60)
session.complete(DONE)
"""


@pytest.fixture
def start_job(backend: ContractBackend, job_script: JobScript, start_script: StartScript) -> StartJob:
    """``start_job(work, NAME=value)``."""
    environ = {"CALLBACK_URL": backend.url, "JOB_ID": "123", "MODEL_NAME": "rtmdet_tiny", "DATASET_ID": "ds_abc"}
    return lambda work, **change: start_script({**environ, **change}, script=job_script(work))


def said(backend: ContractBackend) -> list[str]:
    return [call.body["error_message"] for call in completions(backend)]


def test_a_job_that_swallows_the_exception_stops_at_the_next_step(
    start_job: StartJob, backend: ContractBackend
) -> None:
    job = start_job(HARD_OF_HEARING)
    wait_for_line(job, "at work")
    job.process.terminate()
    done = job.wait(30)
    assert done.exit_code == 143
    assert "should not be reached" not in done.stdout
    assert [text[:36] for text in said(backend)] == ["[Interrupted] stopped by SIGTERM dur"]


def test_an_import_is_finished_first(start_job: StartJob, backend: ContractBackend, tmp_path: Path) -> None:
    """An exception in the middle could leave the lock of a module taken, and whoever delivers waiting for it."""
    job = start_job(IMPORTING)
    wait_for_line(job, "at work")
    job.process.terminate()
    done = job.wait(20)
    assert (done.exit_code, done.outcome["phase"]) == (143, "fetch")
    assert (tmp_path / "whole").exists()
    assert [text[:36] for text in said(backend)] == ["[Interrupted] stopped by SIGTERM dur"]


def test_a_job_that_cannot_be_reached_by_any_exception_ends_in_its_period_all_the_same(
    start_job: StartJob, backend: ContractBackend
) -> None:
    job = start_job(DEAF, GRACE_PERIOD_S="3")
    wait_for_line(job, "at work")
    job.process.terminate()
    done = job.wait(30)
    assert done.exit_code == 143
    assert "swallowed" in done.stdout
    assert (done.outcome["status"], done.outcome["phase"]) == ("interrupted", "train")
    assert [text[:35] for text in said(backend)] == ["[Interrupted] stopped by SIGTERM du"]


@pytest.mark.parametrize("state", ["cancelled", "stopped"])
def test_a_job_that_the_backend_no_longer_wants_ends_well_and_says_nothing(
    start_job: StartJob, backend: ContractBackend, state: str
) -> None:
    job = start_job(AT_WORK, STATE_POLL_S="0.2")
    wait_for_line(job, "at work")
    while backend.status_of(123) != "running":
        time.sleep(0.02)
    backend.jobs[123].status = state
    done = job.wait(30)
    assert done.exit_code == 0, done.stdout
    assert done.outcome["status"] == "cancelled"
    assert done.outcome["message"] == f"the backend says {state}"
    assert completions(backend) == []
    assert backend.status_of(123) == state


def test_who_cancels_and_then_sends_sigterm_has_cancelled(start_job: StartJob, backend: ContractBackend) -> None:
    """Kubernetes: the backend marks the job, and deletes it."""
    job = start_job(AT_WORK, STATE_POLL_S="3600")
    wait_for_line(job, "at work")
    while backend.status_of(123) != "running":
        time.sleep(0.02)
    backend.jobs[123].status = "cancelled"
    job.process.terminate()
    done = job.wait(30)
    assert (done.exit_code, done.outcome["status"]) == (0, "cancelled")
    assert completions(backend) == []
    assert backend.status_of(123) == "cancelled"


def test_a_backend_that_hangs_does_not_hold_up_the_end(start_job: StartJob, backend: ContractBackend) -> None:
    job = start_job(AT_WORK, GRACE_PERIOD_S="8")
    wait_for_line(job, "at work")
    backend.hang()
    job.process.terminate()
    began = time.monotonic()
    done = job.wait(30)
    backend.answer_again()
    assert (done.exit_code, done.outcome["status"]) == (143, "interrupted")
    assert time.monotonic() - began < 20


def test_a_job_that_takes_too_long_ends_in_order_and_is_not_to_be_repeated(
    start_job: StartJob, backend: ContractBackend
) -> None:
    done = start_job(AT_WORK, MAX_DURATION_S="1.5").wait(30)
    assert done.exit_code == 3
    assert done.outcome["code"] == "ResourceError"
    assert not done.outcome["retryable"]
    (text,) = said(backend)
    assert text.startswith("[ResourceError] the job took longer than 1.5 s (MAX_DURATION_S) and stopped during train")
    assert "goes on from its last checkpoint" in text
    assert backend.status_of(123) == "failed"


def test_a_signal_while_python_still_imports_waits(
    backend: ContractBackend, run_script: RunScript, job_script: JobScript
) -> None:
    """train.py's first line; the body below stands where its imports do."""
    script = job_script("session.complete(DONE)")
    early = "from trainer_sdk.stopping import hold_signals\nhold_signals()\nos.kill(os.getpid(), 15)\n"
    script.write_text(
        script.read_text().replace("from trainer_sdk import errors", early + "from trainer_sdk import errors")
    )
    environ = {"CALLBACK_URL": backend.url, "JOB_ID": "123", "MODEL_NAME": "rtmdet_tiny", "DATASET_ID": "ds_abc"}
    done = run_script(environ, script=script)
    assert done.exit_code == 143
    assert [text[:46] for text in said(backend)] == ["[Interrupted] stopped by SIGTERM before the wo"]
    for script in ("train.py", "predict.py", "evaluate.py", "export.py"):
        source = (ROOT / script).read_text()
        assert source.index("hold_signals()  #") < source.index("from trainer_sdk.session")


@pytest.mark.parametrize("name", ["GRACE_PERIOD_S", "MAX_DURATION_S", "WATCHDOG_S", "STATE_POLL_S"])
def test_a_time_that_is_none_is_refused(start_job: StartJob, backend: ContractBackend, name: str) -> None:
    done = start_job("session.complete(DONE)", **{name: "soon"}).wait(30)
    assert done.exit_code == 3
    assert [text for text in said(backend) if f"{name}='soon' is not a number of seconds" in text]


def test_many_signals_are_one(start_job: StartJob, backend: ContractBackend) -> None:
    job = start_job(AT_WORK)
    wait_for_line(job, "at work")
    for number in (signal.SIGTERM, signal.SIGINT) * 5:
        job.process.send_signal(number)
    done = job.wait(30)
    assert done.exit_code == 143
    assert len(completions(backend)) == 1

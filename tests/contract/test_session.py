"""A job as a real process: what its exit code, its folder and the backend say about each way it can end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import JobScript, RunningScript, RunScript, ScriptRun, StartScript
from tests.doubles.backend import Call, ContractBackend

RunJob = Callable[..., ScriptRun]


@pytest.fixture
def environ(backend: ContractBackend) -> dict[str, str]:
    return {
        "CALLBACK_URL": backend.url,
        "JOB_ID": "123",
        "MODEL_NAME": "rtmdet_tiny",
        "DATASET_ID": "ds_abc",
        "CONFIG": '{"epochs": 5}',
        "DELIVERY_TIMEOUT_S": "2",
    }


@pytest.fixture
def run_job(environ: dict[str, str], job_script: JobScript, run_script: RunScript) -> RunJob:
    """``run_job(work, NAME=value)``: this work as a process, from start to end."""
    return lambda work, **change: run_script({**environ, **change}, script=job_script(work))


def completions(backend: ContractBackend) -> list[Call]:
    return [call for call in backend.calls if call.what == "completion"]


def wait_for_line(running: RunningScript, line: str) -> None:
    for _ in range(500):
        if line in running.output():
            return
        time.sleep(0.02)
    raise TimeoutError(running.output())


def test_a_success(backend: ContractBackend, run_job: RunJob) -> None:
    work = """
        with session.step("train"):
            session.tell(Progress(current_epoch=1, total_epochs=5, progress_percent=20))
            session.log("one epoch")
        session.complete(DONE)
    """
    run = run_job(work)
    assert run.exit_code == 0, run.stderr
    assert [call.what for call in backend.calls] == ["progress", "progress", "logs", "completion"]
    started = backend.calls[0].body
    assert (started["status"], started["current_epoch"], started["total_epochs"]) == ("running", 0, 5)
    assert backend.status_of(123) == "completed"
    assert not backend.rejected
    assert run.outcome["status"] == "completed"
    assert run.outcome["undelivered_events"] == 0
    assert list(run.outcome["timings_s"]) == ["train"]
    assert [event["kind"] for event in run.events] == ["started", "progress", "log", "completed"]


def test_the_backend_hears_of_a_job_while_it_works(backend: ContractBackend, run_job: RunJob) -> None:
    """And not at its end."""
    work = """
        for _ in range(600):
            if session.workspace.path("outbox.json").exists():
                session.complete(DONE)
                break
            time.sleep(0.05)
    """
    run = run_job(work)
    assert run.exit_code == 0, run.stdout
    assert [call.what for call in backend.calls] == ["progress", "completion"]


ERRORS = [
    ("ConfigError", "ConfigError", 3),
    ("DatasetError", "DatasetError", 3),
    ("CheckpointError", "CheckpointError", 3),
    ("ResourceError", "ResourceError", 4),
    ("NetworkError", "NetworkError", 5),
    ("FrameworkError", "FrameworkError", 1),
    ("ExportError", "FrameworkError", 1),
    ("DivergedError", "ValidationError", 3),
]


@pytest.mark.parametrize(("error", "code", "exit_code"), ERRORS)
def test_each_error_has_its_exit_code_and_its_words(
    backend: ContractBackend, run_job: RunJob, error: str, code: str, exit_code: int
) -> None:
    run = run_job(f"raise errors.{error}('7 of 9 are gone', hint='look again')")
    assert run.exit_code == exit_code
    (completion,) = completions(backend)
    assert completion.body["error_message"] == f"[{code}] 7 of 9 are gone - look again"
    assert (completion.body["exit_code"], backend.status_of(123)) == (exit_code, "failed")
    assert (run.outcome["code"], run.outcome["status"]) == (code, "failed")
    assert "7 of 9 are gone" in run.stdout


@pytest.mark.parametrize(
    ("work", "exit_code", "said"),
    [
        ("1 / 0", 1, "[UnknownError] ZeroDivisionError: division by zero"),
        ("pass", 1, "without an outcome"),
        ("sys.exit(0)", 1, "[UnknownError] SystemExit"),
        ("raise MemoryError", 4, "[ResourceError]"),
        ("import errno; raise OSError(errno.ENOSPC, 'No space left on device')", 4, "[ResourceError] the disk is full"),
        ("raise RuntimeError('half a file name: \\udcff, a NUL: \\x00')", 1, "half a file name"),
    ],
)
def test_what_nobody_named(backend: ContractBackend, run_job: RunJob, work: str, exit_code: int, said: str) -> None:
    run = run_job(work)
    assert run.exit_code == exit_code
    assert said in run.stdout
    (completion,) = completions(backend)
    assert completion.status == 200
    assert said in completion.body["error_message"]
    assert "Traceback" in completion.body["traceback"] or work == "pass"
    assert run.outcome["exit_code"] == exit_code


def test_a_cancelled_job_is_left_as_the_backend_has_it(backend: ContractBackend, run_job: RunJob) -> None:
    run = run_job("raise errors.JobCancelled('the backend says stopped')")
    assert run.exit_code == 0
    assert not completions(backend)
    assert run.outcome["status"] == "cancelled"


SLEEP = """
    with session.step("train"):
        print("at work", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_being_told_to_stop(
    environ: dict[str, str],
    backend: ContractBackend,
    job_script: JobScript,
    start_script: StartScript,
    signals: int,
    number: signal.Signals,
) -> None:
    running = start_script(environ, script=job_script(SLEEP))
    wait_for_line(running, "at work")
    backend.delay(0.3)  # so that the second signal arrives while the first is being reported
    for _ in range(signals):
        running.process.send_signal(number)
        time.sleep(0.1)
    run = running.wait(20)
    assert run.exit_code == 143
    (completion,) = completions(backend)
    assert completion.body["error_message"].startswith(f"[Interrupted] stopped by {number.name} during train")
    assert (run.outcome["status"], run.outcome["retryable"]) == ("interrupted", True)


STOP_EARLY = """
import signal
opened = JobSession._open_folder

def stopped(session, job_id):
    os.kill(os.getpid(), signal.SIGTERM)
    opened(session, job_id)

JobSession._open_folder = stopped

"""


def test_a_stop_before_the_work_began(
    environ: dict[str, str], backend: ContractBackend, job_script: JobScript, run_script: RunScript
) -> None:
    """The signal comes while the job's folder is being opened: no outcome may be lost there."""
    script = job_script("session.complete(DONE)")
    script.write_text(script.read_text().replace("def main", STOP_EARLY + "def main", 1))
    run = run_script(environ, script=script)
    assert run.exit_code == 143
    assert completions(backend)[0].body["error_message"].startswith("[Interrupted] stopped by SIGTERM")


COUNTED = """
    with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as file:
        file.write("x")
    session.tell(Progress(current_epoch=1, total_epochs=5, progress_percent=20))
    session.complete(DONE)
"""


def times_run(folder: Path) -> int:
    return len((folder / "ran").read_text())


def test_a_success_that_nobody_heard_is_delivered_by_a_rerun_that_trains_nothing(
    backend: ContractBackend, run_job: RunJob, tmp_path: Path
) -> None:
    backend.go_down()
    unheard = run_job(COUNTED)
    assert unheard.exit_code == 2
    assert (unheard.outcome["status"], unheard.outcome["undelivered_events"]) == ("completed", 3)

    backend.come_back()
    rerun = run_job(COUNTED)
    assert rerun.exit_code == 0
    assert [call.what for call in backend.calls] == ["progress", "progress", "completion"]
    assert times_run(tmp_path) == 1

    assert run_job(COUNTED).exit_code == 0
    assert [call.what for call in backend.calls] == ["progress", "progress", "completion", "completion"]
    assert times_run(tmp_path) == 1


def test_a_refused_completion_is_an_outcome_that_nobody_heard(
    backend: ContractBackend, run_job: RunJob, tmp_path: Path
) -> None:
    job = backend.jobs.pop(123)
    refused = run_job(COUNTED)
    assert refused.exit_code == 2
    assert (refused.outcome["status"], refused.outcome["undelivered_events"]) == ("completed", 1)

    backend.jobs[123] = job
    assert run_job(COUNTED).exit_code == 0
    assert backend.status_of(123) == "completed"
    assert times_run(tmp_path) == 1


@pytest.mark.parametrize("request_now", [{"CONFIG": '{"epochs": 6}'}, {"CONFIG": "{"}, {"MODEL_NAME": ""}])
def test_another_request_under_a_completed_jobs_id_spoils_nothing(
    backend: ContractBackend, run_job: RunJob, tmp_path: Path, request_now: dict[str, str]
) -> None:
    first = run_job(COUNTED).outcome
    other = run_job(COUNTED, **request_now)
    assert other.exit_code == 3
    assert "[ConfigError]" in other.stdout
    assert other.outcome == first
    assert backend.status_of(123) == "completed"
    assert times_run(tmp_path) == 1


def test_a_failure_keeps_its_exit_code_when_nobody_hears_it(backend: ContractBackend, run_job: RunJob) -> None:
    backend.go_down()
    run = run_job("raise errors.DatasetError('empty')")
    assert run.exit_code == 3
    assert run.outcome["undelivered_events"] == 2


def test_a_failed_job_runs_again_and_tells_both_attempts_in_order(backend: ContractBackend, run_job: RunJob) -> None:
    assert run_job("raise errors.NetworkError('away')").exit_code == 5
    assert run_job("session.complete(DONE)").exit_code == 0
    assert [call.body["status"] for call in backend.calls] == ["running", "failed", "running", "completed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"JOB_ID": ""}, "JOB_ID is missing"),
        ({"JOB_ID": "trial-1"}, "JOB_ID='trial-1' must be a number"),
        ({"JOB_ID": "../123"}, "JOB_ID='../123'"),
        ({"MODEL_NAME": "m" * 101}, "MODEL_NAME"),
        ({"CONFIG": "[" * 50_000}, "CONFIG"),
        ({"CALLBACK_URL": "http://[::1"}, "CALLBACK_URL"),
        ({"CALLBACK_INTERVAL": "soon"}, "CALLBACK_INTERVAL='soon' is not a number of seconds above 0"),
        ({"CALLBACK_URL": "http://backend:99999"}, "CALLBACK_URL"),
    ],
)
def test_a_request_that_cannot_be_read(run_job: RunJob, change: dict[str, str], said: str) -> None:
    run = run_job("session.complete(DONE)", **change)
    assert run.exit_code == 3
    assert "[ConfigError]" in run.stdout
    assert said in run.stdout


def test_a_folder_that_cannot_be_used_is_told_to_the_backend(
    backend: ContractBackend, run_job: RunJob, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = run_job("session.complete(DONE)", WORKSPACE_DIR=str(tmp_path / "file"))
    assert run.exit_code == 4
    assert completions(backend)[0].body["error_message"].startswith("[ResourceError] the work folder")


@pytest.mark.parametrize("damage", ["", "{", '{"status": "completed"}'])
def test_a_damaged_outcome_counts_as_none(run_job: RunJob, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "workspace" / "123"
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text(damage)
    assert run_job("session.complete(DONE)").exit_code == 0


def test_train_reports_a_request_it_cannot_honour(
    environ: dict[str, str], backend: ContractBackend, run_script: RunScript
) -> None:
    """The real entry script."""
    run = run_script({**environ, "CONFIG": '{"epochz": 3, "batch": 0}'})
    assert run.exit_code == 3
    message = completions(backend)[0].body["error_message"]
    assert "CONFIG.epochz is unknown; did you mean 'epochs'?" in message
    assert "CONFIG.batch=0" in message


def test_a_signal_while_delivering_shortens_the_wait(
    environ: dict[str, str], backend: ContractBackend, job_script: JobScript, start_script: StartScript
) -> None:
    backend.hang()
    job = start_script(
        {**environ, "DELIVERY_TIMEOUT_S": "300", "GRACE_PERIOD_S": "5"}, script=job_script("session.complete(DONE)")
    )
    deadline = time.monotonic() + 30
    while not (job.folder / "outcome.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    job.process.terminate()
    done = job.wait(30)
    backend.answer_again()
    assert done.exit_code == 2
    assert done.outcome["undelivered_events"] > 0


def test_a_failure_carries_its_evidence(backend: ContractBackend, run_job: RunJob) -> None:
    work = """
        session.observer.witnesses.append(lambda: {"batch": 4, "worker_log": ["the last line"]})
        with session.step("train"):
            session.log("about to fail")
            error = errors.ResourceError("the worker was killed", hint="raise the memory limit")
            error.facts["exit_signal"] = "SIGKILL"
            raise error
    """
    run = run_job(work)
    said = {name: run.outcome[name] for name in ("code", "phase", "retryable", "message", "hint")}
    assert said == {
        "code": "ResourceError",
        "phase": "train",
        "retryable": True,
        "message": "the worker was killed",
        "hint": "raise the memory limit",
    }
    evidence = run.outcome["evidence"]
    assert (evidence["batch"], evidence["exit_signal"]) == (4, "SIGKILL")
    assert evidence["worker_log"] == ["the last line"]
    assert any(line.endswith("about to fail") for line in evidence["log"])
    assert all(free > 0 for free in evidence["disk_free_bytes"].values())
    completion = completions(backend)[0].body
    assert completion["error_message"] == "[ResourceError] the worker was killed - raise the memory limit"
    assert "Traceback" in completion["traceback"]


def test_a_success_has_none(run_job: RunJob) -> None:
    assert run_job("session.complete(DONE)").outcome["evidence"] is None

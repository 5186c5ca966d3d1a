"""The backend, at each kind of callback"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from tests.conftest import JobScript, RunScript
from tests.doubles import network as faults
from tests.doubles.backend import ContractBackend
from tests.doubles.network import Fault, Network, Request
from tests.faults.conftest import Seen

EPOCHS = 3
STORY = f"""
    from trainer_sdk.events import Validation
    from trainer_sdk.tasks import Task
    for epoch in range(1, {EPOCHS} + 1):
        session.tell(Progress(current_epoch=epoch, total_epochs={EPOCHS}, progress_percent=epoch * 30,
                              metrics=Metrics(loss=1 / epoch)))
        session.tell(Validation(epoch=epoch, task_type=Task.DETECTION, primary_metric_name="mAP50-95",
                                primary_metric_value=epoch / 10, metrics={{"mAP50-95": epoch / 10}}))
        time.sleep(0.3)
    session.complete(DONE)
"""
KINDS: dict[str, tuple[str, Fault, int]] = {
    "500": ("answered 500", faults.status(500), 3),
    "503": ("answered 503, Retry-After 1", faults.status(503, Retry_After="1"), 3),
    "429": ("answered 429, Retry-After 1", faults.status(429, Retry_After="1"), 2),
    "reset": ("reset before they arrive", faults.reset, 3),
    "lost": ("done, and the answers lost", faults.answer_lost, 2),
    "truncated": ("answered with half a body", faults.truncated, 2),
    "garbage": ("answered with what is not HTTP", faults.garbage, 2),
    "drip": ("answered drop by drop, over 2 s", faults.drip(2.0), 2),
    "hang": ("not answered for 4 s, then reset", faults.hang(4.0), 2),
}


def _is_progress(request: Request, started: bool) -> bool:
    if not request.path.endswith("/callback/progress"):
        return False
    return (orjson.loads(request.body)["current_epoch"] == 0) == started


PHASES: dict[str, Callable[[Request], bool]] = {
    "started": lambda request: _is_progress(request, started=True),
    "progress": lambda request: _is_progress(request, started=False),
    "validation": lambda request: request.path.endswith("/results"),
    "outcome": lambda request: request.path.endswith("/callback/completion"),
}


def rows() -> Iterator[Any]:
    for phase, when in PHASES.items():
        for kind, (words, fault, times) in KINDS.items():
            marks = [pytest.mark.fault(f"{phase}: {times} calls {words}", expected="all events arrive, in order")]
            marks += [pytest.mark.short] if kind in ("500", "lost") else []
            yield pytest.param(when, fault, times, id=f"{phase}-{kind}", marks=marks)


@pytest.fixture
def network(backend: ContractBackend) -> Iterator[Network]:
    with Network(backend.url) as network:
        yield network


def story(backend: ContractBackend) -> list[str]:
    """What the backend took, in order, each once however often it came."""
    told = []
    for call in backend.accepted:
        number = call.body.get("current_epoch", call.body.get("epoch", ""))
        if call.what != "logs":
            told.append(f"{call.what}{number}")
    return list(dict.fromkeys(told))


WHOLE = ["progress0"] + [f"{what}{epoch}" for epoch in range(1, EPOCHS + 1) for what in ("progress", "results")]
WHOLE += ["completion"]


@pytest.mark.parametrize(("when", "fault", "times"), list(rows()))
def test_spoilt_calls(
    run_script: RunScript,
    job_script: JobScript,
    backend: ContractBackend,
    network: Network,
    seen: Seen,
    when: Callable[[Request], bool],
    fault: Fault,
    times: int,
) -> None:
    network.fail(fault, when=when, times=times)
    environ = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "d", "CALLBACK_URL": network.url}
    done = run_script(environ, script=job_script(STORY))
    recovery_s = network.since_last_fault_s()
    assert done.exit_code == 0, done.stdout
    assert network.faults > 0
    assert story(backend) == WHOLE
    assert backend.status_of(123) == "completed"
    assert done.outcome["undelivered_events"] == 0
    twice = len([call for call in backend.accepted if call.what != "logs"]) - len(WHOLE)
    seen(f"{len(WHOLE)} of {len(WHOLE)} events, in order; {twice} came twice", recovery_s=recovery_s)


@pytest.mark.short
@pytest.mark.fault("no such host (DNS) for the backend", expected="the job is done; exit 2, nothing is lost on disk")
def test_no_such_host(run_script: RunScript, job_script: JobScript, seen: Seen) -> None:
    environ = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "d", "DELIVERY_TIMEOUT_S": "2"}
    done = run_script({**environ, "CALLBACK_URL": "http://backend.invalid:8000"}, script=job_script(STORY))
    assert done.exit_code == 2, done.stdout
    assert done.outcome["status"] == "completed"
    kept = [event["kind"] for event in done.events if event["kind"] != "log"]
    assert len(kept) == len(WHOLE)
    seen(f"exit 2, {len(kept)} of {len(WHOLE)} events on disk")


@pytest.mark.fault("the address of the backend is a storage's", expected="the job is done; exit 2, told in the log")
def test_another_server(run_script: RunScript, job_script: JobScript, s3: Any, seen: Seen) -> None:
    environ = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "d", "DELIVERY_TIMEOUT_S": "2"}
    done = run_script({**environ, "CALLBACK_URL": s3.endpoint}, script=job_script(STORY))
    assert done.exit_code == 2, done.stdout
    assert done.outcome["status"] == "completed"
    seen(f"exit 2, {done.outcome['undelivered_events']} events counted as undelivered")

"""Many jobs and one backend"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.conftest import JobScript, RunningScript, StartScript
from tests.doubles.backend import ContractBackend
from tests.faults.conftest import Seen

JOBS, EPOCHS = 50, 10
WORK = f"""
    for epoch in range(1, {EPOCHS} + 1):
        percent = 100 * epoch / {EPOCHS}
        session.tell(Progress(current_epoch=epoch, total_epochs={EPOCHS}, progress_percent=percent,
                              metrics=Metrics(loss=1 / epoch)))
        session.log(f"epoch {{epoch}}")
        time.sleep(0.3)
    session.complete(DONE)
"""


def replaceable(event: dict[str, Any]) -> bool:
    """A sign of life, whose place a newer one takes when 50 jobs on few cores make the backend slow."""
    return event["kind"] == "progress" and "metrics" not in event["body"]


@pytest.mark.fault(f"{JOBS} jobs of 3 s each at once, one backend", expected="nothing lost, nothing doubled")
def test_fifty_jobs_at_once(start_script: StartScript, job_script: JobScript, seen: Seen) -> None:
    script = job_script(WORK)
    begun = time.monotonic()
    with ContractBackend(range(1, JOBS + 1)) as backend:
        running: dict[int, RunningScript] = {}
        for number in backend.jobs:
            environ = {"CALLBACK_URL": backend.url, "JOB_ID": str(number), "MODEL_NAME": "rtmdet_tiny"}
            environ |= {"DATASET_ID": "ds_abc", "DELIVERY_TIMEOUT_S": "240"}  # a starved machine is not what is tested
            running[number] = start_script(environ, script=script)
        runs = {number: job.wait(300) for number, job in running.items()}
        calls = len(backend.calls)
        assert [run.exit_code for run in runs.values()] == [0] * JOBS
        assert backend.rejected == []
        keys = [call.headers["idempotency-key"] for call in backend.calls]
        assert len(set(keys)) == calls
        for number, run in runs.items():
            heard = [call for call in backend.calls if f"/jobs/{number}/" in call.path]
            told = [event for event in run.events if event["key"] in keys or not replaceable(event)]
            assert [call.headers["idempotency-key"] for call in heard] == [event["key"] for event in told]
            assert [call.body for call in heard] == [event["body"] for event in told]
            job = backend.jobs[number]
            assert (job.status, len(job.metrics)) == ("completed", EPOCHS)
            lines = [line.removeprefix("[INFO] ") for row in job.logs for line in row.split("\n")]
            assert lines == [f"epoch {epoch}" for epoch in range(1, EPOCHS + 1)]
    seen(f"{calls} calls of {JOBS} jobs, each event once and in its order, in {time.monotonic() - begun:.0f} s")

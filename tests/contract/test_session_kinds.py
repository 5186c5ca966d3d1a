"""Predict, export and evaluate jobs as processes: each speaks to its own endpoints, and to no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import JobScript, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.unit.test_request_kinds import PLATFORM
from trainer_sdk.request.kinds import Kind

RunJob = Callable[..., ScriptRun]

WORK: dict[Kind, str] = {
    "predict": """
        from trainer_sdk.model_events import InferenceCompleted, InferenceRow, rows_in_pieces
        rows = [InferenceRow(image_path="a.jpg", image_name="a.jpg", inference_time_ms=1.0)]
        done = InferenceCompleted(total_images=1, total_inference_time_ms=1.0, avg_inference_time_ms=1.0)
        session.log("a line for nobody's log page")
        for piece in rows_in_pieces(rows, done):
            session.tell(piece)
        session.complete(done)
    """,
    "export": """
        from trainer_sdk.model_events import ExportCompleted
        session.log("a line for nobody's log page")
        session.complete(ExportCompleted(output_s3_uri="s3://b/k.zip", file_size_bytes=5, metadata={"a": float("nan")}))
    """,
    "evaluate": """
        from trainer_sdk.model_events import TestRunCompleted
        session.log("a line for nobody's log page")
        session.complete(TestRunCompleted(task_type="pose_estimation", metrics={"mAP50": 0.5}, num_images=3))
    """,
}
TABLES = {"predict": "inferences", "export": "exports", "evaluate": "test_runs"}
CALLS = {
    "predict": ["started", "completion", "completion"],
    "export": ["started", "completion"],
    "evaluate": ["results"],
}


@pytest.fixture
def run_job(backend: ContractBackend, job_script: JobScript, run_script: RunScript) -> RunJob:
    """``run_job(kind, work, NAME=value)``: this work as a process of a kind, in the platform's environment."""

    def run(kind: Kind, work: str, **change: str) -> ScriptRun:
        script = job_script(work)
        text = script.read_text().replace(
            "JobSession.from_env(os.environ,", f"JobSession.from_env(os.environ, kind={kind!r},"
        )
        named = script.with_name(f"{kind}.py")
        named.write_text(text)
        environ = {**PLATFORM[kind], "CALLBACK_URL": backend.url, "DELIVERY_TIMEOUT_S": "5", **change}
        return run_script(environ, script=named)

    return run


@pytest.mark.parametrize("kind", WORK)
def test_a_success_is_told_where_it_belongs(backend: ContractBackend, run_job: RunJob, kind: Kind) -> None:
    run = run_job(kind, WORK[kind])
    assert run.exit_code == 0, run.stdout
    assert run.folder.name == f"{kind}-123"
    assert "a line for nobody's log page" in run.stdout
    assert backend.rejected == []
    assert [call.what for call in backend.calls] == CALLS[kind]
    assert getattr(backend, TABLES[kind])[123].status == "completed"
    assert backend.status_of(123) == "pending"  # the training of the same number
    again = run_job(kind, "raise AssertionError('done twice')")
    assert again.exit_code == 0, again.stdout
    if kind == "predict":
        assert len(backend.inferences[123].results) == 1


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("request_now", [{}, {"CONFIG": "{"}])
def test_a_failure_is_told_where_it_belongs(
    backend: ContractBackend, run_job: RunJob, kind: Kind, request_now: dict[str, str]
) -> None:
    run = run_job(kind, "raise errors.CheckpointError('not whole')", **request_now)
    assert run.exit_code == 3
    assert backend.rejected == []
    told = getattr(backend, TABLES[kind])[123]
    assert told.status == "failed"
    assert told.error_message is not None
    assert told.error_message.startswith("[ConfigError]" if request_now else "[CheckpointError] not whole")
    assert backend.status_of(123) == "pending"
    if kind == "evaluate":
        assert told.task_type == ("unknown" if request_now else "object_detection")

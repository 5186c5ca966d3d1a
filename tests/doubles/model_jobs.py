"""The backend's inference, export and test-run endpoints (contract 2.5-2.7), traps included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, RootModel

from tests.doubles.database import NAME_WIDTH, PATH_WIDTH, Broke, fits, storable


@dataclass
class Inference:
    """The columns of an inference job that callbacks write."""

    id: int
    status: str = "pending"
    error_message: str | None = None
    total_images: int | None = None
    results: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Export:
    """Of an export job."""

    id: int
    status: str = "pending"
    error_message: str | None = None
    output_s3_uri: str | None = None
    file_size_bytes: int | float | None = None
    export_results: dict[str, Any] | None = None


@dataclass
class TestRun:
    """Of a test run. What has no column is lost: urls, predictions, config, traceback."""

    __test__ = False
    id: int
    status: str = "pending"
    task_type: str | None = None
    error_message: str | None = None
    primary_metric_value: float | None = None
    metrics: dict[str, Any] | None = None
    per_class_metrics: dict[str, Any] | None = None
    class_names: list[str] | None = None
    num_images: int | None = None


class AnyObject(RootModel[dict[str, Any]]):
    """An untyped body."""


class ResultRow(BaseModel):
    image_path: str
    image_name: str | None = None
    predictions: list[dict[str, Any]] = []
    inference_time_ms: float | None = None


class InferenceBody(BaseModel):
    status: str
    total_images: int | None = None
    total_inference_time_ms: float | None = None
    avg_inference_time_ms: float | None = None
    results: list[ResultRow] | None = None
    error_message: str | None = None
    traceback: str | None = None


class TestRunBody(BaseModel):
    __test__ = False
    status: str
    task_type: str
    metrics: dict[str, Any] | None = None
    per_class_metrics: dict[str, Any] | None = None
    class_names: list[str] | None = None
    num_images: int | None = None
    visualization_urls: dict[str, Any] | None = None
    predictions_json_uri: str | None = None
    config: dict[str, Any] | None = None
    error_message: str | None = None
    traceback: str | None = None


def inference_started(job: Inference, body: AnyObject) -> Any:
    job.status = "running" if job.status == "pending" else job.status
    return {"status": "success", "message": "started"}


def inference_completed(job: Inference, body: InferenceBody) -> Any:
    """Rows are appended: a repeated completion has them twice."""
    fits(body.status, 20)
    rows = [row.model_dump() for row in body.results or ()]
    for row in rows:
        if row["inference_time_ms"] is None:
            raise Broke('null value in column "inference_time_ms" violates not-null constraint')
        if any(len(found["bbox"]) < 4 for found in row["predictions"] if "bbox" in found):
            raise Broke("list index out of range")
    storable([rows, body.error_message, body.total_images])
    job.status, job.error_message = body.status, body.error_message or job.error_message
    job.total_images = body.total_images
    job.results += rows
    return {"status": "success", "inference_job_id": job.id}


def export_started(job: Export, body: AnyObject) -> Any:
    job.status = "running" if job.status == "pending" else job.status
    return {"message": "started", "export_job_id": job.id, "status": job.status}


def export_completed(job: Export, body: AnyObject) -> Any:
    """Reads by its status alone; another word leaves the job as it is, with an error text."""
    said = body.root
    status = said.get("status")
    if status == "completed":
        size = said.get("file_size_bytes")
        if isinstance(size, str):
            raise Broke("unsupported operand type(s) for /: 'str' and 'int'")
        fits(said.get("output_s3_uri"), PATH_WIDTH)
        storable([said.get("output_s3_uri"), said.get("metadata")], integers=False)
        job.status, job.output_s3_uri = "completed", said.get("output_s3_uri")
        job.file_size_bytes, job.export_results = size, said.get("metadata")
    else:
        storable(said.get("error_message"))
        job.error_message = said.get("error_message") or f"unknown status {status}"
        job.status = "failed" if status == "failed" else job.status
    return {"message": "recorded", "export_job_id": job.id, "status": job.status}


def test_run_results(run: TestRun, body: TestRunBody) -> Any:
    fits(body.status, 20)
    fits(body.task_type, NAME_WIDTH)
    storable([body.metrics, body.per_class_metrics, body.class_names, body.error_message, body.num_images])
    metrics = body.metrics or {}
    run.status, run.task_type, run.error_message = body.status, body.task_type, body.error_message
    run.primary_metric_value = metrics.get("mAP50-95", metrics.get("mAP50"))
    run.metrics, run.per_class_metrics = body.metrics, body.per_class_metrics
    run.class_names, run.num_images = body.class_names, body.num_images
    return {"status": "success", "test_run_id": run.id}


test_run_results.__test__ = False  # type: ignore[attr-defined]

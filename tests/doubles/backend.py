"""The platform's backend as the contract (section 2) describes it: same answers, same traps, nothing of trainer_sdk.

    python -m tests.doubles.backend --port 0 --jobs 123 --log calls.jsonl

prints its API base first and appends one JSON line a call to the log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from tests.doubles import model_jobs
from tests.doubles.database import NAME_WIDTH, PATH_WIDTH, Broke, fits, storable
from tests.doubles.model_jobs import AnyObject, Export, Inference, InferenceBody, TestRun, TestRunBody

API = "/api/v1"


class MetricBody(BaseModel):
    loss: float | None = None
    accuracy: float | None = None
    learning_rate: float | None = None
    extra_metrics: dict[str, Any] | None = Field(default_factory=dict)


class ProgressBody(BaseModel):
    job_id: int
    status: str
    current_epoch: Annotated[int, Field(ge=0)]
    total_epochs: Annotated[int, Field(gt=0)]
    progress_percent: Annotated[float | None, Field(ge=0, le=100)] = None
    metrics: MetricBody | None = None
    checkpoint_path: str | None = None
    best_checkpoint_path: str | None = None
    epoch_duration_seconds: float | None = None
    estimated_time_remaining: float | None = None
    error_message: str | None = None


class CompletionBody(BaseModel):
    job_id: int
    status: str
    total_epochs_completed: Annotated[int, Field(ge=0)]
    final_metrics: MetricBody | None = None
    best_metrics: MetricBody | None = None
    best_epoch: int | None = None
    best_checkpoint_path: str | None = None
    last_checkpoint_path: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    exit_code: int | None = None


class LogBody(BaseModel):
    job_id: int
    event_type: str
    message: str
    level: str = "INFO"
    data: dict[str, Any] | None = None
    timestamp: str | None = None


class ImageRow(BaseModel):
    image_name: str
    is_correct: bool


class ValidationBody(BaseModel):
    job_id: int
    epoch: int
    task_type: str
    primary_metric_name: str | None = None
    primary_metric_value: float | None = None
    overall_loss: float | None = None
    metrics: dict[str, Any] | None = None
    per_class_metrics: dict[str, Any] | None = None
    confusion_matrix: list[list[int]] | None = None
    pr_curves: dict[str, Any] | None = None
    class_names: list[str] | None = None
    visualization_urls: dict[str, str] | None = None
    image_results: list[ImageRow] | None = None


@dataclass
class Job:
    """The columns of a training job that callbacks write."""

    id: int
    status: str = "pending"
    current_epoch: int = 0
    total_epochs: int = 0
    error_message: str | None = None
    best_checkpoint_path: str | None = None
    last_checkpoint_path: str | None = None
    final_accuracy: float | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    validations: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request and what was answered; `time` is the wall clock at its receipt."""

    time: float
    method: str
    path: str
    body: Any
    status: int
    answer: Any
    headers: dict[str, str] = field(default_factory=dict)
    """With names in small letters."""

    @property
    def what(self) -> str:
        """progress, completion, logs, results, started: the path's last word."""
        return self.path.rstrip("/").rpartition("/")[2]


def _progress(job: Job, body: ProgressBody) -> Any:
    fits(body.status, 20)
    fits(body.checkpoint_path, PATH_WIDTH)
    fits(body.best_checkpoint_path, PATH_WIDTH)
    storable(body.model_dump(exclude={"epoch_duration_seconds", "estimated_time_remaining"}))
    if body.metrics is not None:
        job.metrics.append(_metric_row(body.metrics, needs=("accuracy", "learning_rate")))
    job.status, job.current_epoch, job.total_epochs = body.status, body.current_epoch, body.total_epochs
    job.best_checkpoint_path = body.best_checkpoint_path or job.best_checkpoint_path
    if body.status in ("completed", "failed"):
        job.error_message = body.error_message or job.error_message
    return {"success": True, "message": "progress recorded", "job_status": job.status}


def _completion(job: Job, body: CompletionBody) -> Any:
    status = body.status if body.exit_code is None else "completed" if body.exit_code == 0 else "failed"
    fits(status, 20)
    fits(body.best_checkpoint_path, PATH_WIDTH)
    fits(body.last_checkpoint_path, PATH_WIDTH)
    storable(body.model_dump())
    rows = [_metric_row(found, needs=("accuracy",)) for found in (body.final_metrics, body.best_metrics) if found]
    job.status = status
    job.error_message = body.error_message or job.error_message
    job.best_checkpoint_path = body.best_checkpoint_path or job.best_checkpoint_path
    job.last_checkpoint_path = body.last_checkpoint_path or job.last_checkpoint_path
    if body.final_metrics is not None:
        job.final_accuracy = rows[0]["accuracy"] or (body.final_metrics.extra_metrics or {}).get("accuracy")
    if body.traceback:
        job.logs.append(body.traceback)
    return {"success": True, "message": "completion recorded", "job_status": job.status}


def _logs(job: Job, body: LogBody) -> Any:
    fits(body.event_type, 10)
    storable([body.event_type, body.level, body.message])  # data and timestamp are dropped unread
    job.logs.append(f"[{body.level}] {body.message}")
    return {"success": True}


def _results(job: Job, body: ValidationBody) -> Any:
    fits(body.task_type, NAME_WIDTH)
    fits(body.primary_metric_name, NAME_WIDTH)  # the contract names no width; the narrowest of its neighbours
    for row in body.image_results or ():
        fits(row.image_name, 200)
    stored = body.model_dump()
    storable({name: value for name, value in stored.items() if name != "confusion_matrix"})
    storable(stored["confusion_matrix"], integers=False)
    job.validations[body.epoch] = stored
    return {"status": "success", "validation_result_id": len(job.validations), "job_id": job.id, "epoch": body.epoch}


def _metric_row(metrics: MetricBody, *, needs: tuple[str, ...]) -> dict[str, Any]:
    if metrics.extra_metrics is None and not all(getattr(metrics, name) for name in needs):
        raise Broke("'NoneType' object has no attribute 'get'")
    columns = {name: getattr(metrics, name) or None for name in ("loss", "accuracy", "learning_rate")}  # zero is null
    return {**columns, "extra_metrics": metrics.extra_metrics or {}}


class Route(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    body: type[BaseModel] | None
    act: Callable[[Any, Any], Any]
    table: str
    """Attribute of the backend with the rows by id."""


def _route(
    method: str, path: str, body: type[BaseModel] | None, act: Callable[[Any, Any], Any], table: str = "jobs"
) -> Route:
    return Route(method, re.compile(API + path.replace("{id}", "(?P<id>[^/]+)")), body, act, table)


INFERENCE = "/test_inference/inference"
ROUTES = (
    _route("POST", "/training/jobs/{id}/callback/progress", ProgressBody, _progress),
    _route("POST", "/training/jobs/{id}/callback/completion", CompletionBody, _completion),
    _route("POST", "/training/jobs/{id}/callback/logs", LogBody, _logs),
    _route("POST", "/validation/jobs/{id}/results", ValidationBody, _results),
    _route("GET", "/training/jobs/{id}", None, lambda job, _: asdict(job)),
    _route("POST", f"{INFERENCE}/jobs/{{id}}/callback/started", AnyObject, model_jobs.inference_started, "inferences"),
    *(
        _route("POST", f"{INFERENCE}/{path}", InferenceBody, model_jobs.inference_completed, "inferences")
        for path in ("jobs/{id}/callback/completion", "{id}/results")
    ),
    _route("POST", "/export/jobs/{id}/callback/started", AnyObject, model_jobs.export_started, "exports"),
    _route("POST", "/export/jobs/{id}/callback/completion", AnyObject, model_jobs.export_completed, "exports"),
    _route("POST", "/test_inference/test/{id}/results", TestRunBody, model_jobs.test_run_results, "test_runs"),
    _route("GET", f"{INFERENCE}/jobs/detail/{{id}}", None, lambda job, _: asdict(job), "inferences"),
    _route("GET", "/export/jobs/{id}", None, lambda job, _: asdict(job), "exports"),
    _route("GET", "/test_inference/test/runs/{id}", None, lambda run, _: asdict(run), "test_runs"),
)


class ContractBackend:
    """A server on the loopback. Use as a context manager.

    Args:
        jobs: ids of training jobs; an inference, an export and a test run of the same number exist too, unless
            `others` says which.
    """

    def __init__(
        self,
        jobs: Iterable[int] = (123,),
        *,
        others: Iterable[int] | None = None,
        port: int = 0,
        log: Path | None = None,
    ) -> None:
        self.jobs = {number: Job(number) for number in jobs}
        ids = list(self.jobs if others is None else others)
        self.inferences = {number: Inference(number) for number in ids}
        self.exports = {number: Export(number) for number in ids}
        self.test_runs = {number: TestRun(number) for number in ids}
        self.calls: list[Call] = []
        self.reads: list[Call] = []
        """What only asks (GET) is kept apart: it tells nothing."""
        self._log = log
        self._lock = threading.Lock()
        self._failures: list[tuple[int, dict[str, str]]] = []
        self._delay_s = 0.0
        self._answering = threading.Event()
        self._answering.set()
        self._port = port
        self._server: _Server | None = None
        self.come_back()

    def __enter__(self) -> ContractBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_down()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """What CALLBACK_URL would be."""
        return f"http://127.0.0.1:{self._port}{API}"

    @property
    def rejected(self) -> list[Call]:
        return [call for call in self.calls if call.status >= 400]

    @property
    def accepted(self) -> list[Call]:
        return [call for call in self.calls if call.status < 300]

    def status_of(self, job_id: int) -> str:
        return self.jobs[job_id].status

    def fail_next(self, count: int, status: int = 500, headers: dict[str, str] | None = None) -> None:
        """The next `count` calls have no effect and get this answer; who only asks (GET) is answered."""
        self._failures += [(status, headers or {})] * count

    def delay(self, seconds: float) -> None:
        """Every answer from now on comes this much later."""
        self._delay_s = seconds

    def hang(self) -> None:
        """Takes requests and answers none, until `answer_again` or `go_down`."""
        self._answering.clear()

    def answer_again(self) -> None:
        self._answering.set()

    def go_down(self) -> None:
        """Nobody listens and every open connection is cut; a hanging request has no effect."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()
        self._answering.set()

    def come_back(self) -> None:
        """Listens again, on the same port."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="contract-backend", daemon=True).start()

    def take(
        self, server: _Server, method: str, path: str, raw: bytes, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        """One request: the status, the answer and more headers; all but those recorded."""
        received = time.time()
        self._answering.wait()
        time.sleep(self._delay_s)
        with self._lock:
            if server is not self._server:
                raise ConnectionAbortedError("went down meanwhile")
            body = _json_or_none(raw)
            more: dict[str, str] = {}
            if self._failures and method != "GET":
                status, more = self._failures.pop(0)
                answer: Any = "told to fail"
            else:
                status, answer = self._answer(method, path, body)
            self._record(Call(received, method, path, body, status, answer, headers))
        return status, answer, more

    def _record(self, call: Call) -> None:
        if call.method == "GET":
            self.reads.append(call)
            return
        self.calls.append(call)
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(asdict(call)) + "\n")

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        matches = [(route, found) for route in ROUTES if (found := route.pattern.fullmatch(path.rstrip("/")))]
        if not matches:
            return 404, {"detail": "Not Found"}
        if path.endswith("/"):
            return 307, path.rstrip("/")
        route, found = matches[0]
        if method != route.method:
            return 405, {"detail": "Method Not Allowed"}
        if not found["id"].isdecimal():
            return 422, {"detail": "job_id: Input should be a valid integer"}
        try:
            request = route.body.model_validate(body) if route.body else None
        except ValidationError as error:
            return 422, {"detail": str(error)}
        rows = getattr(self, route.table)
        if int(found["id"]) not in rows:
            return 404, {"detail": f"{route.table}: not found"}
        try:
            return 200, route.act(rows[int(found["id"])], request)
        except Broke as error:
            return 500, str(error)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # fifty jobs may knock at once

    def __init__(self, backend: ContractBackend, port: int) -> None:
        self.backend = backend
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # a client that went away is no error of ours

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two would wait 40 ms for each other
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer, more = self.server.backend.take(self.server, self.command, self.path, raw, headers)
        data = json.dumps(answer).encode()
        self.send_response(status)
        if status == 307:
            more = {"Location": answer, **more}
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        return


def _json_or_none(raw: bytes) -> Any:
    """As Starlette reads it: NaN and Infinity pass here and break the database later."""
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description="The contract's backend, on the loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--jobs", default="123", help="ids that exist, separated by commas")
    parser.add_argument("--log", type=Path, help="file that gets one JSON line a call")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ContractBackend(map(int, chosen.jobs.split(",")), port=chosen.port, log=chosen.log) as backend:
        print(backend.url, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()

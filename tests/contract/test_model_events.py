"""No event of a predict, export or evaluate job is refused by the backend; and the backend's stand-in has its traps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.test_backend_double import send
from tests.contract.test_events import counts, mappings, numbers, paths, texts
from tests.doubles.backend import ContractBackend
from trainer_sdk import model_events
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.events import Event
from trainer_sdk.model_events import InferenceCompleted, InferenceRow, Prediction, rows_in_pieces

times = st.floats(0) | st.none() | st.just(float("nan"))
boxes = st.tuples(numbers, numbers, numbers, numbers)
predictions = st.builds(Prediction, class_id=counts, class_name=texts, confidence=numbers, bbox=boxes)
images = st.text(st.characters(exclude_categories=()), max_size=300)
rows = st.builds(
    InferenceRow,
    image_path=images,
    image_name=images,
    predictions=st.lists(predictions, max_size=3),
    inference_time_ms=times,
)
totals = {"total_images": counts, "total_inference_time_ms": times, "avg_inference_time_ms": times}
free = st.dictionaries(
    texts,
    st.recursive(
        numbers | texts | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=4,
    ),
    max_size=2,
)

EVENTS: dict[type[Event], st.SearchStrategy[Event]] = {
    model_events.InferenceStarted: st.builds(model_events.InferenceStarted),
    model_events.InferenceRows: st.builds(model_events.InferenceRows, results=st.lists(rows, max_size=3), **totals),
    model_events.InferenceCompleted: st.builds(model_events.InferenceCompleted, **totals),
    model_events.InferenceFailed: st.builds(model_events.InferenceFailed, error_message=texts, traceback=paths),
    model_events.ExportStarted: st.builds(model_events.ExportStarted),
    model_events.ExportCompleted: st.builds(
        model_events.ExportCompleted, output_s3_uri=texts, file_size_bytes=st.integers(0, 2**40), metadata=free
    ),
    model_events.ExportFailed: st.builds(model_events.ExportFailed, error_message=texts, traceback=paths),
    model_events.TestRunCompleted: st.builds(
        model_events.TestRunCompleted,
        task_type=texts,
        metrics=mappings,
        per_class_metrics=st.dictionaries(texts, mappings, max_size=2),
        class_names=st.lists(texts, max_size=3),
        num_images=counts,
        visualization_urls=st.dictionaries(texts, texts, max_size=2),
        predictions_json_uri=paths,
    ),
    model_events.TestRunFailed: st.builds(
        model_events.TestRunFailed, task_type=texts, error_message=texts, traceback=paths
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ContractBackend]:
    with ContractBackend() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ContractBackend) -> Iterator[HttpBackend]:
    http = HttpBackend(server.url)
    yield http
    http.close()


def test_every_kind_of_event_is_tried() -> None:
    assert set(EVENTS) == {
        kind for kind in vars(model_events).values() if isinstance(kind, type) and issubclass(kind, Event)
    } - {Event}


@pytest.mark.parametrize("kind", EVENTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_event_is_refused(
    server: ContractBackend, client: HttpBackend, kind: type[Event], data: st.DataObject
) -> None:
    event = data.draw(EVENTS[kind])
    client.deliver(event.route.replace("{id}", "123"), event.body(123), {})  # raises for every answer from 400 up
    assert server.calls[-1].status == 200
    server.calls.clear()


def test_results_go_in_pieces_and_a_repeated_end_adds_none(server: ContractBackend, client: HttpBackend) -> None:
    found = [InferenceRow(image_path=f"{n}.jpg", image_name=f"{n}.jpg", inference_time_ms=1.0) for n in range(1203)]
    done = InferenceCompleted(total_images=1203, total_inference_time_ms=1203.0, avg_inference_time_ms=1.0)
    server.inferences[123].results.clear()
    pieces = list(rows_in_pieces(found, done))
    assert [len(piece.results) for piece in pieces] == [500, 500, 203]
    for event in (*pieces, done, done):
        client.deliver(event.route.replace("{id}", "123"), event.body(123), {})
    stored = server.inferences[123]
    assert [row["image_path"] for row in stored.results] == [row.image_path for row in found]
    assert (stored.status, stored.total_images) == ("completed", 1203)


INFERENCE = "/test_inference/inference/jobs/123/callback/completion"
ROW: dict[str, Any] = {"image_path": "a.jpg", "inference_time_ms": 1.0}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (INFERENCE, {"status": "completed", "results": [ROW]}, 200),
        (INFERENCE, {"results": [ROW]}, 422),
        (INFERENCE, {"status": "completed", "results": [{"inference_time_ms": 1.0}]}, 422),
        (INFERENCE, {"status": "completed", "results": [{"image_path": "a.jpg"}]}, 500),
        (INFERENCE, {"status": "completed", "results": [{**ROW, "predictions": [{"bbox": [1, 2, 3]}]}]}, 500),
        ("/test_inference/inference/123/results", {"status": "completed", "results": [ROW]}, 200),
        ("/test_inference/inference/jobs/123/callback/started", {}, 200),
        ("/test_inference/inference/jobs/123/callback/started", [], 422),
        ("/export/jobs/123/callback/started", {}, 200),
        ("/export/jobs/123/callback/completion", {"status": "completed", "file_size_bytes": 5}, 200),
        ("/export/jobs/123/callback/completion", {"status": "completed", "file_size_bytes": "5"}, 500),
        ("/export/jobs/123/callback/completion", ["completed"], 422),
        ("/export/jobs/7/callback/completion", {"status": "completed"}, 404),
        ("/test_inference/test/123/results", {"status": "completed", "task_type": "pose_estimation"}, 200),
        ("/test_inference/test/123/results", {"status": "completed"}, 422),
        ("/test_inference/test/123/results", {"status": "c", "task_type": "t", "per_class_metrics": [1]}, 422),
    ],
)
def test_traps(backend: ContractBackend, path: str, body: Any, status: int) -> None:
    assert send(backend, path, body).status_code == status


def test_an_export_ends_by_the_word_completed_alone(backend: ContractBackend) -> None:
    send(backend, "/export/jobs/123/callback/started", {})
    send(backend, "/export/jobs/123/callback/completion", {"status": "succeeded"})
    assert (backend.exports[123].status, backend.exports[123].error_message) == ("running", "unknown status succeeded")


def test_a_test_runs_primary_metric(backend: ContractBackend) -> None:
    body = {"status": "completed", "task_type": "object_detection", "metrics": {"mAP50": 0.5, "mAP50-95": 0.25}}
    send(backend, "/test_inference/test/123/results", body)
    assert backend.test_runs[123].primary_metric_value == 0.25

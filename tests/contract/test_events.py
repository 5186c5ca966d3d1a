"""Whatever values a training comes to, no event that can be made is refused by the backend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.doubles.backend import ContractBackend
from trainer_sdk import events
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.tasks import Task

numbers = st.one_of(st.none(), st.floats(), st.integers(), st.just(10**400), st.just(float("1e400")))
texts = st.one_of(
    st.text(st.characters(exclude_categories=())),  # NUL bytes and half surrogates too
    st.sampled_from(["", "\x00", "x" * 10_000, "ä猫🐈" * 300, "\udcff/image.jpg", "NaN"]),
)
short_texts = st.text(st.characters(exclude_categories=()), max_size=10)
counts = st.integers(0, 2**31 - 1)
mappings = st.dictionaries(texts, numbers, max_size=3)
metrics = st.builds(events.Metrics, loss=numbers, accuracy=numbers, learning_rate=numbers, extra_metrics=mappings)
paths = st.none() | texts

EVENTS: dict[str, st.SearchStrategy[events.Event]] = {
    "started": st.builds(events.Started, total_epochs=st.integers(1, 2**31 - 1)),
    "progress": st.builds(
        events.Progress,
        current_epoch=counts,
        total_epochs=st.integers(1, 2**31 - 1),
        progress_percent=numbers,
        metrics=st.none() | metrics,
        checkpoint_path=paths,
        best_checkpoint_path=paths,
        estimated_time_remaining=numbers,
    ),
    "validation": st.builds(
        events.Validation,
        epoch=counts,
        task_type=st.sampled_from(Task),
        primary_metric_name=texts,
        primary_metric_value=numbers,
        overall_loss=numbers,
        metrics=mappings,
        per_class_metrics=st.dictionaries(texts, mappings, max_size=2),
        confusion_matrix=st.none() | st.lists(st.lists(st.integers(0, 2**53 - 1), max_size=3), max_size=3),
        class_names=st.lists(texts, max_size=3),
        visualization_urls=st.dictionaries(texts, texts, max_size=2),
    ),
    "log": st.builds(
        events.LogLine, event_type=short_texts, message=texts, data=st.dictionaries(texts, texts | numbers, max_size=3)
    ),
    "completed": st.builds(
        events.Completed,
        total_epochs_completed=counts,
        final_metrics=metrics,
        best_metrics=st.none() | metrics,
        best_epoch=st.none() | counts,
        best_checkpoint_path=paths,
        last_checkpoint_path=paths,
        model_artifacts_path=paths,
        total_duration_seconds=numbers,
    ),
    "failed": st.builds(
        events.Failed,
        exit_code=st.integers(1, 255),
        total_epochs_completed=counts,
        error_message=texts,
        traceback=paths,
        last_checkpoint_path=paths,
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
    assert set(EVENTS) == {kind.kind for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}


@pytest.mark.parametrize("kind", EVENTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_event_is_refused(server: ContractBackend, client: HttpBackend, kind: str, data: st.DataObject) -> None:
    event = data.draw(EVENTS[kind])
    client.deliver(event.route.replace("{id}", "123"), event.body(123), {})  # raises for every answer from 400 up
    assert server.calls[-1].status == 200
    server.calls.clear()


@pytest.mark.parametrize(
    ("percent", "sent"), [(250, 100.0), (-3, 0.0), (math.nan, 0.0), (math.inf, 0.0), (None, 0.0), (41.5, 41.5)]
)
def test_percentages_are_brought_into_range(percent: Any, sent: float) -> None:
    assert events.Progress(current_epoch=1, total_epochs=2, progress_percent=percent).progress_percent == sent


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, float("1e400"), 10**400])
def test_a_diverged_loss_is_null(value: Any) -> None:
    metrics = events.Metrics(loss=value, extra_metrics={"loss_cls": value})
    assert (metrics.loss, metrics.extra_metrics) == (None, {"loss_cls": None})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: events.Started(total_epochs=0),
        lambda: events.Progress(current_epoch=-1, total_epochs=1, progress_percent=0),
        lambda: events.LogLine(message="x", event_type="elevenchars"),
        lambda: events.Failed(exit_code=0, error_message="x"),
        lambda: events.Metrics(extra_metrics=None),
    ],
)
def test_what_can_only_be_a_mistake_of_ours_cannot_be_made(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        wrong()


def test_empty_mappings_are_sent_and_absent_values_are_not() -> None:
    body = events.Completed(total_epochs_completed=1, final_metrics=events.Metrics()).body(123)
    assert body == {
        "job_id": 123,
        "status": "completed",
        "exit_code": 0,
        "total_epochs_completed": 1,
        "final_metrics": {"extra_metrics": {}},
    }

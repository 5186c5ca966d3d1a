"""The backend's traps (docs/platform.md 8.1), one by one: what an outbox says, and what it keeps to itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.doubles.backend import ContractBackend
from trainer_sdk.callback import CallbackSettings
from trainer_sdk.delivery import log_rows, patience
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.delivery.journal import read_events
from trainer_sdk.delivery.outbox import Outbox
from trainer_sdk.events import Completed, Event, Failed, LogLine, Metrics, Progress, Started, Validation
from trainer_sdk.tasks import Task

COMPLETED = Completed(total_epochs_completed=1, final_metrics=Metrics(accuracy=0.5))
FAILED = Failed(exit_code=1, error_message="[UnknownError] no")
STARTED = Started(total_epochs=3)

OpenOutbox = Callable[..., Outbox]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(log_rows, "FIRST_WINDOW_S", 0.1)


@pytest.fixture
def open_outbox(tmp_path: Path, backend: ContractBackend) -> OpenOutbox:
    def opened(access: CallbackSettings | None = None, **how: Any) -> Outbox:
        return Outbox(tmp_path, "123", HttpBackend(backend.url), access or CallbackSettings(retry_delay_s=0.02), **how)

    return opened


def progress(epoch: int, percent: float = 0.0, **more: Any) -> Progress:
    return Progress(current_epoch=epoch, total_epochs=9, progress_percent=percent, **more)


def row(epoch: int, loss: float = 0.5) -> Progress:
    return progress(epoch, metrics=Metrics(loss=loss))


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


def sequences(backend: ContractBackend) -> list[int]:
    return [int(call.headers["x-event-sequence"]) for call in backend.accepted]


def tell(outbox: Outbox, *events: Event) -> None:
    for event in events:
        outbox.tell(event)


# A late callback overwrites the status.


def test_after_an_outcome_nothing_is_sent(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    outbox = open_outbox()
    tell(outbox, STARTED, COMPLETED, progress(3), FAILED, LogLine(message="late"), row(3))
    assert outbox.close(10)
    assert [call.what for call in backend.calls] == ["progress", "completion"]
    assert backend.status_of(123) == "completed"


@pytest.mark.parametrize("state", ["cancelled", "stopped"])
def test_a_cancelled_job_is_not_revived_by_anything(
    open_outbox: OpenOutbox, backend: ContractBackend, state: str
) -> None:
    outbox = open_outbox()
    tell(outbox, STARTED, row(1))
    until(lambda: not outbox.undelivered)
    backend.jobs[123].status = state
    tell(outbox, progress(2), row(2))
    until(lambda: not outbox.undelivered)
    assert outbox.over == state
    tell(outbox, LogLine(message="cancelled after epoch 2"), FAILED)
    assert outbox.close(10)
    assert backend.status_of(123) == state
    assert [call.what for call in backend.calls] == ["progress", "progress", "logs"]


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_progress_does_not_revive_a_job_that_somebody_else_ended(
    open_outbox: OpenOutbox, backend: ContractBackend, state: str
) -> None:
    outbox = open_outbox()
    tell(outbox, STARTED)
    until(lambda: not outbox.undelivered)
    backend.jobs[123].status = state
    tell(outbox, progress(1), row(1))
    until(lambda: not outbox.undelivered)
    assert backend.status_of(123) == state
    assert outbox.over is None
    tell(outbox, COMPLETED)
    assert outbox.close(10)
    assert backend.status_of(123) == "completed"


def test_a_pod_that_is_started_again_goes_on_with_a_failed_job(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    backend.jobs[123].status = "failed"
    outbox = open_outbox()
    tell(outbox, STARTED, row(1))
    assert outbox.close(10)
    assert backend.status_of(123) == "running"
    assert len(backend.jobs[123].metrics) == 1


@pytest.mark.parametrize("state", ["completed", "cancelled", "stopped"])
def test_old_events_do_not_touch_a_job_that_is_over(
    open_outbox: OpenOutbox, backend: ContractBackend, state: str
) -> None:
    backend.go_down()
    unheard = open_outbox()
    tell(unheard, STARTED, row(1), FAILED)
    assert not unheard.close(0.1)
    backend.come_back()
    backend.jobs[123].status = state
    assert open_outbox(late=True).close(10)
    assert backend.calls == []
    assert backend.status_of(123) == state


# Status lengths, NUL bytes, NaN, zeros, confusion matrices.


def test_values_that_break_the_backend_arrive_as_values_that_do_not(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    outbox = open_outbox()
    nan = float("nan")
    validation = Validation(
        epoch=1,
        task_type=Task.DETECTION,
        primary_metric_name="m" * 80,
        primary_metric_value=nan,
        metrics={"mAP@0.5": nan, "precision": 0.0},
        confusion_matrix=[[3_000_000_000, 0], [1, 2]],  # pixels
        class_names=["a\x00b"],
    )
    worst = Metrics(loss=nan, accuracy=0.0, learning_rate=0.0, extra_metrics={"loss_cls": float("inf"), "zero": 0.0})
    failed = Failed(exit_code=1, error_message="half \udcff, NUL \x00" * 999, last_checkpoint_path="p" * 999)
    tell(outbox, STARTED, progress(1, nan, metrics=worst, checkpoint_path="p" * 999), validation, failed)
    assert outbox.close(10)
    assert backend.rejected == []
    assert backend.jobs[123].metrics == [
        {"loss": None, "accuracy": None, "learning_rate": None, "extra_metrics": {"loss_cls": None, "zero": 0.0}}
    ]
    stored = backend.jobs[123].validations[1]
    assert (stored["confusion_matrix"], stored["metrics"]["precision"]) == ([[3_000_000_000, 0], [1, 2]], 0.0)
    assert {call.body["status"] for call in backend.calls if "status" in call.body} == {"running", "failed"}


def test_empty_extra_metrics_are_an_object(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    """``extra_metrics: null`` is 500 where the accuracy is missing or 0."""
    outbox = open_outbox()
    tell(outbox, progress(1, metrics=Metrics()))
    assert outbox.close(10)
    assert backend.calls[0].body["metrics"] == {"extra_metrics": {}}


# Log rows: few, and the newest survive.


def test_lines_within_a_moment_are_one_row_for_each_level_and_type(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    outbox = open_outbox()
    lines = [LogLine(message=f"line {number}") for number in range(20)]
    tell(outbox, *lines, LogLine(message="careful", level="WARNING"), LogLine(message="last"))
    until(lambda: not outbox.undelivered)
    info, warning = (call.body for call in backend.calls)
    assert info["message"].split("\n") == [*(f"line {number}" for number in range(20)), "last"]
    assert (warning["message"], warning["level"]) == ("careful", "WARNING")
    assert outbox.close(10)
    assert len(backend.calls) == 2


def test_the_page_never_overflows_however_long_a_job_talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week, with a line of each of three kinds every second: fewer rows than the page keeps, and no line is lost."""
    now = [0.0]
    monkeypatch.setattr(log_rows, "FIRST_WINDOW_S", 1.0)
    monkeypatch.setattr(log_rows.time, "monotonic", lambda: now[0])
    rows = log_rows.LogRows(tmp_path / "lines", [])
    count, lines = 0, 0
    for second in range(0, 7 * 86400, 60):  # the row is what matters: not every line has to be made
        now[0] = float(second)
        if rows.due_in_s == 0.0:
            taken = rows.take()
            count += len(taken)
            lines += sum(len(numbers) for _, numbers in taken)
            rows.forget()
        for kind in ("training", "validation", "checkpoint"):
            rows.add(LogLine(message="x", event_type=kind))
    lines += sum(len(numbers) for _, numbers in rows.take())
    assert count < 1500
    assert lines == 3 * 7 * 86400 // 60


def test_lines_that_waited_when_the_process_was_killed_come_with_the_next_run(
    open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rows, "FIRST_WINDOW_S", 1000.0)
    killed = open_outbox()
    tell(killed, STARTED, LogLine(message="one"), LogLine(message="two"))
    until((tmp_path / "outbox.json").exists)
    assert open_outbox().close(10)
    assert open_outbox().close(10)
    assert [call.body.get("message") for call in backend.calls] == [None, "one\ntwo"]


def test_a_line_is_not_told_twice_when_only_its_row_was_written(
    open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path
) -> None:
    """Killed between the row in the event log and the end of waiting."""
    first = open_outbox()
    tell(first, LogLine(message="once"))
    waiting = (tmp_path / "log_lines.jsonl").read_bytes()
    assert first.close(10)
    (tmp_path / "log_lines.jsonl").write_bytes(waiting)
    assert open_outbox().close(10)
    assert [call.body["message"] for call in backend.calls] == ["once"]


def test_a_long_silence_becomes_one_row_of_bounded_size(tmp_path: Path) -> None:
    rows = log_rows.LogRows(tmp_path / "lines", [])
    for number in range(300):
        rows.add(LogLine(message=f"{number} " + "x" * 1000))
    ((event, numbers),) = rows.take()
    assert len(numbers) == 300
    assert len(event.message) < log_rows.MOST_LETTERS + 100
    assert event.message.endswith("299 " + "x" * 1000)


def test_lines_and_progress_of_other_jobs_do_not_land_on_the_training_of_that_number(
    open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path
) -> None:
    outbox = open_outbox(trains=False)
    tell(outbox, STARTED, LogLine(message="an inference's"), progress(1))
    assert outbox.close(10)
    assert backend.calls == []
    assert [record["kind"] for record in read_events(tmp_path / "events.jsonl")] == ["started", "progress", "log"]


# A slow backend.


def test_of_the_progress_the_newest_of_each_epoch_wins(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.go_down()
    outbox = open_outbox(CallbackSettings(retry_delay_s=0.5))
    tell(outbox, STARTED)
    until(lambda: outbox._failures == 1)  # what is on its way stays as it is
    for epoch in (1, 2):
        tell(outbox, *(progress(epoch - 1, 10 * epoch + part) for part in range(9)), row(epoch, 0.9), row(epoch, 0.1))
        tell(outbox, Validation(epoch=epoch, task_type=Task.DETECTION, primary_metric_name="m",
                                primary_metric_value=epoch, metrics={}))  # fmt: skip
    tell(outbox, progress(2, 30), progress(2, 31))
    backend.come_back()
    assert outbox.close(20)
    progresses = [call.body for call in backend.accepted if call.what == "progress"]
    assert [(body["current_epoch"], body["progress_percent"]) for body in progresses] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (2, 31),
    ]
    assert [body["metrics"]["loss"] for body in progresses[1:3]] == [0.1, 0.1]
    assert sorted(backend.jobs[123].validations) == [1, 2]
    assert sequences(backend) == sorted(sequences(backend))


def test_a_row_that_says_less_does_not_replace_one_that_says_more(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    backend.go_down()
    outbox = open_outbox()
    tell(outbox, progress(1, best_checkpoint_path="s3://b/best.pt"), row(1))
    backend.come_back()
    assert outbox.close(20)
    assert backend.jobs[123].best_checkpoint_path == "s3://b/best.pt"
    assert len(backend.jobs[123].metrics) == 1


def test_at_the_end_a_slow_backend_hears_what_matters(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.delay(0.25)
    outbox = open_outbox()
    for epoch in range(1, 9):
        tell(outbox, row(epoch))
    tell(outbox, COMPLETED)
    assert outbox.close(3.0)
    assert backend.status_of(123) == "completed"
    assert 1 < len(backend.calls) < 9


# Asking again.


def test_retry_after_is_honoured(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.fail_next(1, status=503, headers={"Retry-After": "1"})
    outbox = open_outbox()
    tell(outbox, COMPLETED)
    assert outbox.close(20)
    first, second = backend.calls
    assert second.time - first.time >= 1.0


def test_a_retry_after_beyond_the_end_leaves_a_last_try(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.fail_next(1, status=503, headers={"Retry-After": "500"})
    outbox = open_outbox()
    tell(outbox, COMPLETED)
    assert outbox.close(1.5)
    assert [call.status for call in backend.calls] == [503, 200]


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422])
def test_a_refusal_is_counted_and_never_repeated(
    open_outbox: OpenOutbox, backend: ContractBackend, status: int
) -> None:
    backend.fail_next(1, status=status)
    outbox = open_outbox()
    tell(outbox, row(1), row(2))
    assert outbox.close(10)
    assert [call.status for call in backend.calls] == [status, 200]
    assert outbox.refused == 1


def test_the_number_of_repetitions_can_be_limited_but_not_for_what_matters(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    backend.fail_next(3 + 5)
    outbox = open_outbox(CallbackSettings(max_retries=2, retry_delay_s=0.01))
    tell(outbox, row(1), COMPLETED)
    assert outbox.close(20)
    assert [call.what for call in backend.calls] == ["progress"] * 3 + ["completion"] * 6
    assert backend.status_of(123) == "completed"


def test_every_event_has_a_number_and_a_key_which_a_repetition_keeps(
    open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path
) -> None:
    backend.fail_next(2)
    first = open_outbox()
    tell(first, row(1), row(2))
    assert first.close(10)
    second = open_outbox()
    tell(second, row(3))
    assert second.close(10)
    keys = [call.headers["idempotency-key"] for call in backend.calls]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert sequences(backend) == [1, 2, 3]
    assert [record["key"] for record in read_events(tmp_path / "events.jsonl")] == keys[2:]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    other = Outbox(elsewhere, "123", HttpBackend(backend.url))
    tell(other, row(1))
    assert other.close(10)
    assert backend.calls[-1].headers["idempotency-key"] not in keys


def test_what_is_sent_is_on_the_disk_before(
    open_outbox: OpenOutbox, backend: ContractBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is asked in order and before the backend; many events may share one wait."""
    order: list[str] = []
    disk = SimpleNamespace(fsync=lambda number: (time.sleep(0.05), order.append("disk")))
    monkeypatch.setattr("trainer_sdk.delivery.journal.os", disk)
    delivered = HttpBackend.deliver

    def deliver(self: HttpBackend, route: str, *rest: Any) -> None:
        order.append("backend")
        delivered(self, route, *rest)

    monkeypatch.setattr(HttpBackend, "deliver", deliver)
    outbox = open_outbox()
    started = time.monotonic()
    tell(outbox, *(row(epoch) for epoch in range(1, 30)))
    assert time.monotonic() - started < 1.0
    assert outbox.close(20)
    assert order[0] == "disk"
    assert order.count("backend") == 29
    assert order.count("disk") < 29


def test_records_are_json_that_a_person_can_read(open_outbox: OpenOutbox, tmp_path: Path) -> None:
    outbox = open_outbox()
    tell(outbox, STARTED)
    outbox.close(10)
    (record,) = map(orjson.loads, (tmp_path / "events.jsonl").read_bytes().splitlines())
    assert set(record) == {"kind", "route", "body", "sequence", "key", "time"}

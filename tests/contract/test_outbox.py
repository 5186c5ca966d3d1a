"""Events go to disk first, arrive once and in order, and nobody who tells one waits."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.doubles.backend import ContractBackend
from trainer_sdk.callback import CallbackSettings
from trainer_sdk.delivery import log_rows, patience
from trainer_sdk.delivery import outbox as outbox_module
from trainer_sdk.delivery.backends import FileBackend, Unavailable
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.delivery.journal import read_events
from trainer_sdk.delivery.outbox import Outbox
from trainer_sdk.events import Completed, Failed, LogLine, Metrics, Started, Validation
from trainer_sdk.tasks import Task

COMPLETED = Completed(total_epochs_completed=1, final_metrics=Metrics())
QUICK = CallbackSettings(retry_delay_s=0.02)
FAILED = Failed(exit_code=1, error_message="[UnknownError] no")

OpenOutbox = Callable[[], Outbox]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(log_rows, "FIRST_WINDOW_S", 0.02)


@pytest.fixture
def open_outbox(tmp_path: Path, backend: ContractBackend) -> OpenOutbox:
    """As a process that opens the job's folder would."""
    return lambda: Outbox(tmp_path, "123", HttpBackend(backend.url), QUICK)


def tell(outbox: Outbox, *messages: str) -> None:
    """As events that are never dropped and never joined."""
    for message in messages:
        outbox.tell(
            Validation(
                epoch=1,
                task_type=Task.DETECTION,
                primary_metric_name=message,
                primary_metric_value=None,
                metrics={},
            )
        )


def arrived(backend: ContractBackend) -> list[str]:
    """The messages and outcomes that the backend took, in order."""
    return [call.body.get("primary_metric_name") or call.body["status"] for call in backend.accepted]


def test_everything_arrives_once_and_in_order(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    messages = [f"line {number}" for number in range(50)]
    outbox = open_outbox()
    tell(outbox, *messages)
    assert outbox.close(10)
    assert arrived(backend) == messages
    assert outbox.undelivered == 0


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_backend_that_stumbles_is_asked_again(open_outbox: OpenOutbox, backend: ContractBackend, status: int) -> None:
    backend.fail_next(3, status=status)
    outbox = open_outbox()
    tell(outbox, "one", "two")
    assert outbox.close(10)
    assert arrived(backend) == ["one", "two"]
    assert len(backend.rejected) == 3


def test_a_refused_event_is_not_repeated_and_blocks_nothing(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.fail_next(1, status=422)
    outbox = open_outbox()
    tell(outbox, "refused", "taken")
    assert outbox.close(10)
    assert arrived(backend) == ["taken"]
    assert len(backend.rejected) == 1


def test_a_backend_that_comes_late_hears_everything(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.go_down()
    outbox = open_outbox()
    tell(outbox, "one", "two", "three")
    time.sleep(0.2)
    assert outbox.undelivered == 3
    backend.come_back()
    assert outbox.close(20)
    assert arrived(backend) == ["one", "two", "three"]


def test_a_connection_cut_in_between_loses_nothing(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    outbox = open_outbox()
    for message in ("before", "after"):
        tell(outbox, message)
        while outbox.undelivered:
            time.sleep(0.01)
        backend.go_down()
        backend.come_back()
    assert outbox.close(10)
    assert arrived(backend) == ["before", "after"]


def test_what_a_dead_backend_missed_comes_once_and_later(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.go_down()
    first = open_outbox()
    tell(first, "one", "two")
    started = time.monotonic()
    assert not first.close(1.0)
    assert 0.8 < time.monotonic() - started < 5
    assert first.undelivered == 2

    backend.come_back()
    second = open_outbox()
    tell(second, "three")
    assert second.close(10)
    assert open_outbox().close(10)
    assert arrived(backend) == ["one", "two", "three"]


def test_a_hanging_backend_stops_nobody(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.hang()
    outbox = open_outbox()
    started = time.monotonic()
    tell(outbox, *map(str, range(100)))
    assert time.monotonic() - started < 1
    assert not outbox.close(0.5)
    assert time.monotonic() - started < 10
    assert outbox.undelivered == 100


def test_after_closing_nothing_more_is_sent(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    backend.delay(0.3)
    outbox = open_outbox()
    tell(outbox, *map(str, range(20)))
    assert not outbox.close(0.5)
    heard = len(backend.calls)
    time.sleep(0.8)
    assert len(backend.calls) <= heard + 1


def test_a_torn_last_line_is_skipped_and_later_events_survive_it(
    open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path
) -> None:
    first = open_outbox()
    tell(first, "whole")
    assert first.close(10)
    log = tmp_path / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"sequence":2,"time":"2026-')

    second = open_outbox()
    tell(second, "after the tear")
    assert second.close(10)
    assert arrived(backend) == ["whole", "after the tear"]
    assert [record["body"]["primary_metric_name"] for record in read_events(log)] == ["whole", "after the tear"]


class FullDisk:
    """A file on a disk without space."""

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    close = flush


def test_a_full_disk_costs_the_record_but_not_the_event(
    open_outbox: OpenOutbox, backend: ContractBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, value: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    outbox = open_outbox()
    with monkeypatch.context() as disk:
        disk.setattr(outbox._journal, "_file", FullDisk())
        disk.setattr(outbox_module, "write_json", fail)
        tell(outbox, "one", "two")
        outbox.tell(COMPLETED)
        assert outbox.close(10)
    assert arrived(backend) == ["one", "two", "completed"]


def test_events_of_a_run_after_a_full_disk_keep_their_place(open_outbox: OpenOutbox, backend: ContractBackend) -> None:
    """Their numbers must go on from what was delivered, not from what was recorded."""
    full = open_outbox()
    full._journal._file = FullDisk()  # type: ignore[assignment]
    tell(full, "unrecorded")
    assert full.close(10)
    backend.go_down()
    later = open_outbox()
    tell(later, "recorded")
    assert not later.close(0.1)
    backend.come_back()
    assert open_outbox().close(10)
    assert arrived(backend) == ["unrecorded", "recorded"]


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED])
def test_a_refused_outcome_counts_as_undelivered_and_is_tried_again(
    open_outbox: OpenOutbox, backend: ContractBackend, outcome: Completed | Failed
) -> None:
    job = backend.jobs.pop(123)
    first = open_outbox()
    first.tell(Started(total_epochs=1))
    first.tell(outcome)
    assert not first.close(10)
    assert first.undelivered == 1
    assert len(backend.rejected) == 2

    backend.jobs[123] = job
    assert open_outbox().close(10)
    assert arrived(backend) == [outcome.status]
    assert open_outbox().close(10)
    assert len(backend.accepted) == 1


def test_a_refused_failure_of_an_earlier_attempt_blocks_nothing(
    open_outbox: OpenOutbox, backend: ContractBackend
) -> None:
    backend.fail_next(2, status=422)
    first = open_outbox()
    first.tell(FAILED)
    assert not first.close(10)
    second = open_outbox()
    second.tell(Started(total_epochs=1))
    second.tell(COMPLETED)
    assert second.close(10)
    assert arrived(backend) == ["running", "completed"]
    assert open_outbox().close(10)
    assert len(backend.rejected) == 2


def test_the_log_on_disk_is_what_was_sent(open_outbox: OpenOutbox, backend: ContractBackend, tmp_path: Path) -> None:
    outbox = open_outbox()
    tell(outbox, "grüße")
    outbox.tell(COMPLETED)
    assert outbox.close(10)
    lines = [orjson.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [line["body"] for line in lines] == [call.body for call in backend.calls]
    assert [line["sequence"] for line in lines] == [1, 2]


@pytest.mark.parametrize("job_id", ["trial", "9" * 30])
def test_without_a_backend_the_log_is_all_there_is(tmp_path: Path, job_id: str) -> None:
    outbox = Outbox(tmp_path, job_id, FileBackend())
    tell(outbox, "one")
    assert outbox.close(5)
    assert read_events(tmp_path / "events.jsonl")[0]["body"]["job_id"] == job_id


def test_at_the_end_an_event_that_is_always_answered_500_does_not_hold_up_the_outcome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only events that can be spared are left out, and only then."""
    delivered: list[str] = []

    class Picky:
        def deliver(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
            if body.get("message") == "poison":
                raise Unavailable("HTTP 500", broke=True)
            delivered.append(route)

        def state(self, route: str) -> None: ...

        def close(self) -> None: ...

    caplog.set_level("INFO")
    outbox = Outbox(tmp_path, "123", Picky())
    for event in (LogLine(message="poison"), Failed(exit_code=1, error_message="[X] y")):
        outbox.tell(event)
    assert outbox.close(timeout_s=20)
    assert delivered == ["/training/jobs/123/callback/completion"]
    assert outbox.refused == 1  # what was left out did not arrive
    assert "answers again" not in caplog.text.partition("is left out")[0]

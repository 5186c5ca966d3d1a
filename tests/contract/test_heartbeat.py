"""Signs of life in a silence."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer_sdk.events import Event, Metrics, Progress, Started
from trainer_sdk.lifecycle import heartbeat
from trainer_sdk.lifecycle.heartbeat import Heartbeat


def until(true: Callable[[], object]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_silence_is_filled_with_the_last_progress_without_its_numbers(tmp_path: Path) -> None:
    told: list[Event] = []

    def tell(event: Event) -> None:
        told.append(event)
        beats.hear(event)

    row = Progress(current_epoch=3, total_epochs=9, progress_percent=33.0, metrics=Metrics(loss=0.5))
    with Heartbeat(tmp_path / "HEARTBEAT", 0.1, tell) as beats:
        beats.hear(Started(total_epochs=9))
        until(lambda: told)
        beats.hear(row)
        until(lambda: told[-1].model_dump()["current_epoch"] == 3)
    assert told[0] == Progress(current_epoch=0, total_epochs=9, progress_percent=0.0)
    assert told[-1] == Progress(current_epoch=3, total_epochs=9, progress_percent=33.0)
    heard = len(told)
    time.sleep(0.3)
    assert len(told) <= heard + 1


def test_who_talks_enough_is_not_repeated(tmp_path: Path) -> None:
    told: list[Event] = []
    with Heartbeat(tmp_path / "HEARTBEAT", 30.0, told.append) as beats:
        for _ in range(5):
            beats.hear(Progress(current_epoch=1, total_epochs=2, progress_percent=1))
            time.sleep(0.02)
    assert told == []


def test_before_anything_was_told_there_is_nothing_to_repeat(tmp_path: Path) -> None:
    told: list[Event] = []
    with Heartbeat(tmp_path / "HEARTBEAT", 0.05, told.append):
        time.sleep(0.3)
    assert told == []


def test_the_file_is_touched_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TOUCH_EVERY_S", 0.02)
    file = tmp_path / "HEARTBEAT"
    with Heartbeat(file, 30.0, lambda event: None):
        until(file.exists)
        first = file.stat().st_mtime_ns
        until(lambda: file.stat().st_mtime_ns > first)


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TOUCH_EVERY_S", 0.02)
    told: list[Event] = []
    with Heartbeat(tmp_path / "gone" / "HEARTBEAT", 0.1, told.append) as beats:
        beats.hear(Started(total_epochs=1))
        until(lambda: told)

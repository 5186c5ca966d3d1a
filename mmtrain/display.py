"""How far it is: a live bar at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from trainer_sdk.texts.console import terminal

log = logging.getLogger("trainer")

LINE_EVERY_S = 60.0


class Display:
    """One bar. Usable where `report(done, total)` is wanted."""

    def __init__(self, title: str, *, unit: str) -> None:
        self._title = title
        self._unit = unit
        self._next_line = time.monotonic() + LINE_EVERY_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                console=terminal(),
                transient=True,  # a finished bar has nothing more to say; the log lines around it stay
            )

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, facts="", unit=self._unit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, facts: str = "", title: str = "", unit: str = "") -> None:
        title, unit = title or self._title, unit or self._unit
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, facts=facts, description=title, unit=unit)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            log.info("%s: %d of %d %s%s", title, done, total, unit, f", {facts}" if facts else "")

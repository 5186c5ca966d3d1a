"""How far a job has come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from trainer_sdk.events import Event
from trainer_sdk.request.kinds import Kind
from trainer_sdk.tasks import Task


@dataclass
class Course:
    """Changes while the job goes on; whatever ends it finds here what to say of it."""

    kind: Kind
    job_id: str
    """"" where nobody can say it."""
    task: Task | None
    """As far as it is known; a failed evaluation is told with it."""
    phase: str = "request"
    timings_s: dict[str, float] = field(default_factory=dict)
    """Of every phase that is over."""
    result: Event | None = None
    """Of work that is done and published."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names the phase for failures and measures it."""
        self.phase = name
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings_s[name] = round(time.monotonic() - started, 3)

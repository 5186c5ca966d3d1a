"""One job from its first sign of life to exactly one outcome, whatever happens in between.

Its parts are in `trainer_sdk/lifecycle`: how far the job has come, its folder, its line to the backend, the guard that
answers signals, and the last word.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from trainer_sdk.errors import JobCancelled, JobError
from trainer_sdk.events import Event, LogLine
from trainer_sdk.failures.evidence import Observer
from trainer_sdk.lifecycle.course import Course
from trainer_sdk.lifecycle.ending import Ending
from trainer_sdk.lifecycle.folder import JobFolder
from trainer_sdk.lifecycle.guard import Guard
from trainer_sdk.lifecycle.line import Line
from trainer_sdk.lifecycle.outcome import unusable_folder
from trainer_sdk.lifecycle.voices import HAS_LOG_PAGE, started
from trainer_sdk.request.kinds import Kind, folder_of, job_id_of
from trainer_sdk.request.reading import read_request
from trainer_sdk.settings import Settings
from trainer_sdk.stopping import Part, Stop
from trainer_sdk.texts.console import set_up_logging
from trainer_sdk.texts.printable import printable
from trainer_sdk.texts.redaction import Redaction
from trainer_sdk.workspace import Workspace

log = logging.getLogger("trainer")

LAST_LOOK_S = 3.0
"""At the backend's state, before a failure is told."""


class JobSession:
    """The job's voice and its last word. Use as a context manager; never let an exception of a job pass it."""

    def __init__(self, environ: Mapping[str, str], *, kind: Kind = "train", log_level: str = "INFO") -> None:
        self.kind: Kind = kind
        self.environ = dict(environ)
        without_secrets = Redaction(environ)
        set_up_logging(log_level, without_secrets)
        self.settings = Settings.from_env(environ)
        self.at_end = contextlib.ExitStack()
        """What has to be undone however the job ends; must not raise."""
        self.observer = Observer()
        """Knows what a failure is judged by; a step may add a witness."""
        self.observer.start()
        self._asked, self.nodes = read_request(kind, environ)
        task = None if isinstance(self._asked, JobError) else self._asked.task
        self.course = Course(kind, job_id_of(environ, kind) or "", task)
        self.stop = Stop(self.settings.grace_period_s)
        self._guard = Guard(self.stop, self.course, leaves=JobSession.__exit__.__code__)
        self._folder = JobFolder(without_secrets)
        self._line = Line(
            self.course,
            self.settings,
            self.stop,
            heard=self.nodes.first,
            without_secrets=without_secrets,
            undisturbed=self._guard.undisturbed,
        )
        self._ending = Ending(self.course, self._folder, self._line, self.observer, self.settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, kind: Kind = "train", log_level: str = "INFO") -> JobSession:
        """A session never fails to be made: a request that cannot be read is this session's outcome."""
        return cls(environ, kind=kind, log_level=log_level)

    @property
    def spec(self) -> Any:
        """The kind's own, such as `TrainSpec`.

        Raises:
            ConfigError: it cannot be honoured.
            JobError: the reason to stop, if it came before the work began.
        """
        self.stop.check()
        if isinstance(self._asked, JobError):
            raise self._asked
        return self._asked

    @property
    def workspace(self) -> Workspace:
        if self._folder.workspace is None:
            assert isinstance(self._asked, JobError)
            raise self._asked
        return self._folder.workspace

    @property
    def already_completed(self) -> bool:
        """By an earlier run: nothing is to be done but to tell it again."""
        return self._folder.completed

    @property
    def exit_code(self) -> int:
        """Of the process, once the session has ended."""
        return self._ending.exit_code

    def __enter__(self) -> JobSession:
        self._guard.begin(self._ending, self.settings.max_duration_s)
        if not self.nodes.first:
            log.info("node %d of %d: the first one alone reports and publishes", self.nodes.rank, self.nodes.count)
        if self.course.job_id:
            self._open_folder(self.course.job_id)
        if not self.already_completed:
            self._line.watch(lambda state: self.end_early(_cancelled(state)))
        self._guard.inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._guard.leaving = True  # in this very method: the guard knows its code
        with contextlib.closing(self._line):
            left = self._leave(error)
        self._guard.end()
        return left

    def tell(self, event: Event) -> None:
        """Tells the backend; returns at once."""
        self._line.tell(event)

    def log(
        self, message: str, *, event_type: str = "training", level: Literal["INFO", "WARNING", "ERROR"] = "INFO"
    ) -> None:
        """A milestone, in one line whatever it quotes: printed here, and kept on the platform's log page, which
        trainings alone have."""
        message = printable(message)
        log.log(getattr(logging, level), message)
        if self.kind in HAS_LOG_PAGE:
            self.tell(LogLine(event_type=event_type, level=level, message=message))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names the phase for failures and measures it."""
        self.stop.check()
        with self.course.step(name):
            yield

    def complete(self, outcome: Event) -> None:
        """The work is done and published; leaving the session says so by this event of kind ``completed``.

        Raises:
            JobCancelled: the backend wants it no more, and would take it all the same.
        """
        if isinstance(self.stop.reason, JobCancelled):
            raise self.stop.reason
        self.course.result = outcome

    def end_early(self, reason: JobError) -> None:
        """Ends the work wherever it is, from any thread. The first reason counts."""
        self._guard.end_early(reason)

    def patience_s(self, part: Part) -> float:
        """How long the job may wait for its last upload or delivery."""
        usual = self.settings.delivery_timeout_s
        return usual if self.stop.reason is None else max(0.0, min(usual, self.stop.left_to_call_s(part)))

    @property
    def over(self) -> str | None:
        """``cancelled`` or ``stopped``, once the backend has said so when it was told of progress."""
        return self._line.over

    def _open_folder(self, job_id: str) -> None:
        try:
            folder = folder_of(self.kind, job_id)
            self._asked = self._folder.open(self.settings.workspace_dir, self.nodes.folder(folder), self._asked)
            if self._folder.taken:
                return
            self._line.open(self.workspace.folder)
            self._line.beat(self.workspace.folder)
            beginning = None if self.already_completed or isinstance(self._asked, JobError) else started(self._asked)
            if beginning is not None:
                self.tell(beginning)
        except OSError as error:
            # Kept for the body of the `with`: leaving __enter__ by an exception would skip __exit__.
            self._asked = unusable_folder(error, self.settings.workspace_dir)
            if not self._line.opened:  # the backend must hear of it all the same
                self._line.open(Path(tempfile.mkdtemp(prefix=f"job-{job_id}-")))
        if self.already_completed:
            again = "trained" if self.kind == "train" else "done"
            log.info("job %s was completed by an earlier run; nothing is %s again", job_id, again)

    def _leave(self, error: BaseException | None) -> bool:
        self.at_end.close()
        self._guard.take_last_word()
        if self.already_completed:  # whatever happened just now, that outcome stands
            self._ending.repeat_that_of_an_earlier_run()
            return True
        self._folder.use_reserve()
        if error is None and self.course.result is None:
            error = RuntimeError("the job ended without an outcome")
        outcome = self._ending.say(self._what_counts(error))
        self._ending.deliver(outcome, self.patience_s("delivery"))
        return True

    def _what_counts(self, error: BaseException | None) -> BaseException | None:
        """The reason to stop, whatever became of it on its way through libraries; a backend's cancellation first.

        Nothing is left to stop when the work is done and published.
        """
        unwanted = self._line.last_look(LAST_LOOK_S if error else 0.0)
        if error is not None and unwanted is not None:
            return _cancelled(unwanted)
        if self.course.result is not None and self.stop.reason is not None:
            return None
        return error and (self.stop.reason or error)


def _cancelled(state: str) -> JobCancelled:
    return JobCancelled(f"the backend says {state}", hint="what was trained is kept: a job that runs again goes on")

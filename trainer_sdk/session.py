"""One job from its first sign of life to exactly one outcome, whatever happens in between."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
import traceback as tracebacks
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

from trainer_sdk.delivery.backends import Backend, FileBackend, Unavailable
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.delivery.outbox import Outbox
from trainer_sdk.delivery.undelivered import forget_undelivered, keep_undelivered
from trainer_sdk.errors import (
    EXIT_UNDELIVERED,
    ConfigError,
    Interrupted,
    JobCancelled,
    JobError,
    ResourceError,
    TimeLimitReached,
)
from trainer_sdk.events import Event, LogLine, Progress
from trainer_sdk.failures.evidence import Evidence, Observer
from trainer_sdk.jobspec import JobSpec
from trainer_sdk.lifecycle.heartbeat import FILE, Heartbeat
from trainer_sdk.lifecycle.outcome import (
    Outcome,
    Status,
    as_job_error,
    completed_before,
    same_request,
    unusable_folder,
    worker_traceback_of,
)
from trainer_sdk.lifecycle.voices import HAS_LOG_PAGE, Failure, failed, started
from trainer_sdk.lifecycle.watching import Watch
from trainer_sdk.request.kinds import Kind, folder_of, job_id_of
from trainer_sdk.request.nodes import ALONE, Nodes, read_nodes, unclear_nodes
from trainer_sdk.request.reading import read_spec
from trainer_sdk.settings import Settings
from trainer_sdk.stopping import OURS, SIGNALS, Part, Stop, Wakeups, let_signals_through
from trainer_sdk.tasks import Task
from trainer_sdk.texts.console import set_up_logging
from trainer_sdk.texts.printable import printable
from trainer_sdk.texts.redaction import Redaction
from trainer_sdk.workspace import Workspace, write_json

log = logging.getLogger("trainer")

RERUN = "run the same JOB_ID again"
KNOCK_EVERY_S = 0.5
LAST_LOOK_S = 3.0
"""At the backend's state, before a failure is told."""
CALL_S = 1.0
"""That the outbox leaves a call which is on its way when the time is over."""
LAST_TRY_S = 1.0
"""For the outcome of a job whose work hangs."""


class JobSession:
    """The job's voice and its last word. Use as a context manager; never let an exception of a job pass it."""

    def __init__(self, environ: Mapping[str, str], *, kind: Kind = "train", log_level: str = "INFO") -> None:
        self.kind: Kind = kind
        self.environ = dict(environ)
        self._without_secrets = Redaction(environ)
        set_up_logging(log_level, self._without_secrets)
        self.settings = Settings.from_env(environ)
        self.exit_code = 1
        self.timings_s: dict[str, float] = {}
        self.already_completed = False
        self.at_end = contextlib.ExitStack()
        """What has to be undone however the job ends; must not raise."""
        self._to_the_end = contextlib.ExitStack()
        self.observer = Observer()
        """Knows what a failure is judged by; a step may add a witness."""
        self.observer.start()
        self._spec, self._request_error = _read_or_error(kind, environ)
        self.nodes, nodes_error = _nodes_or_error(environ) if kind == "train" else (ALONE, None)
        """The machines of the job; only the first one's session is heard."""
        if nodes_error is not None:
            self._spec, self._request_error = None, self._request_error or nodes_error
        self._job_id = job_id_of(environ, kind)
        self.task: Task | None = self._spec.task if self._spec else None
        """As far as it is known; a failed evaluation is told with it."""
        self._phase = "request"
        self._outcome: Event | None = None
        self._epochs_completed = 0
        self._inside = False
        self._taken = False
        """Somebody else works, or another request completed, under this JOB_ID: we say nothing in its name."""
        self.stop = Stop(self.settings.grace_period_s)
        self._leaving = False
        self._shielded = False
        self._last_word = threading.Lock()
        """Whoever has it says how the job ended."""
        self._watch: Watch | None = None
        self._outbox: Outbox | None = None
        self._workspace: Workspace | None = None
        self._heartbeat: Heartbeat | None = None

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
        if self._spec is None:
            assert self._request_error is not None
            raise self._request_error
        return self._spec

    @property
    def workspace(self) -> Workspace:
        if self._workspace is None:
            assert self._request_error is not None
            raise self._request_error
        return self._workspace

    def __enter__(self) -> JobSession:
        for number in (*SIGNALS, OURS):
            signal.signal(number, self._on_signal)
        self._wakeups = Wakeups()
        threading.Thread(target=self._see_that_it_ends, args=(self._wakeups,), name="stop", daemon=True).start()
        let_signals_through()
        if not self.nodes.first:
            log.info("node %d of %d: the first one alone reports and publishes", self.nodes.rank, self.nodes.count)
        if self._job_id is not None:
            self._open_folder(self._job_id)
        self._watch_state()
        self._inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leaving = True
        with self._to_the_end:
            left = self._leave(error)
        self._wakeups.close()  # before the process ends by itself, nobody ends it
        return left

    def _leave(self, error: BaseException | None) -> bool:
        self.at_end.close()
        if not self._last_word.acquire(blocking=False):
            threading.Event().wait()  # the time is over: `_see_that_it_ends` ends the process
        if self.already_completed:  # whatever happened just now, that outcome stands
            self._deliver_what_an_earlier_run_could_not()
            return True
        if self._workspace is not None and not self._taken:
            self._workspace.use_reserve()
        if error is None and self._outcome is None:
            error = RuntimeError("the job ended without an outcome")
        error = self._what_counts(error)
        outcome = self._succeeded() if error is None else self._failed(error)
        self.exit_code = outcome.exit_code
        undelivered = self._deliver_the_rest(self.patience_s("delivery"))
        if undelivered and outcome.status == "completed":
            self.exit_code = EXIT_UNDELIVERED
        self._record(outcome.model_copy(update={"exit_code": self.exit_code, **self._counts()}))
        return True

    def _what_counts(self, error: BaseException | None) -> BaseException | None:
        """The reason to stop, whatever became of it on its way through libraries; a backend's cancellation first.

        Nothing is left to stop when the work is done and published.
        """
        unwanted = self._watch.end(LAST_LOOK_S if error else 0.0) if self._watch is not None else None
        if error is not None and unwanted is not None:
            return _cancelled(unwanted)
        if self._outcome is not None and self.stop.reason is not None:
            return None
        return error and (self.stop.reason or error)

    def tell(self, event: Event) -> None:
        """Tells the backend; returns at once."""
        if isinstance(event, Progress):
            self._epochs_completed = max(self._epochs_completed, event.current_epoch)
            if event.metrics is not None and self._watch is not None:
                self._watch.soon()
        if self._heartbeat is not None:
            self._heartbeat.hear(event)
        if self._outbox is not None:
            with self._undisturbed():
                self._outbox.tell(self._without_secrets.of_event(event))

    def patience_s(self, part: Part) -> float:
        """How long the job may wait for its last upload or delivery."""
        usual = self.settings.delivery_timeout_s
        return usual if self.stop.reason is None else max(0.0, min(usual, self.stop.left_s(part) - CALL_S))

    def end_early(self, reason: JobError) -> None:
        """Ends the work wherever it is, from any thread. The first reason counts."""
        if self.stop.tell(reason):
            signal.pthread_kill(_main_thread(), OURS)

    @property
    def over(self) -> str | None:
        """``cancelled`` or ``stopped``, once the backend has said so when it was told of progress."""
        return self._outbox.over if self._outbox else None

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
        self._phase = name
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings_s[name] = round(time.monotonic() - started, 3)

    def complete(self, outcome: Event) -> None:
        """The work is done and published; leaving the session says so by this event of kind ``completed``.

        Raises:
            JobCancelled: the backend wants it no more, and would take it all the same.
        """
        if isinstance(self.stop.reason, JobCancelled):
            raise self.stop.reason
        self._outcome = outcome

    def _open_folder(self, job_id: str) -> None:
        try:
            self._workspace = Workspace(self.settings.workspace_dir, self.nodes.folder(folder_of(self.kind, job_id)))
            self._claim(self._workspace)
            self._look_for_an_earlier_run(self._workspace)
            if self._taken:
                return
            if self._spec is not None and not self.already_completed:
                resumes = same_request(self._workspace.path("job.json"), self._spec)
                self._workspace.clear(resumes=resumes)  # before the outbox begins to keep its state in there
            self._outbox = self._outbox_in(self._workspace.folder, job_id)
            heartbeat = Heartbeat(self._workspace.path(FILE), self.settings.callback.interval_s, self.tell)
            self._heartbeat = self._to_the_end.enter_context(heartbeat)
            if self._spec is not None and not self.already_completed:
                beginning = started(self._spec)
                if beginning is not None:
                    self.tell(beginning)
        except OSError as error:
            # Kept for the body of the `with`: leaving __enter__ by an exception would skip __exit__.
            self._spec, self._request_error = None, unusable_folder(error, self.settings.workspace_dir)
            if self._outbox is None:  # the backend must hear of it all the same
                self._outbox = self._outbox_in(Path(tempfile.mkdtemp(prefix=f"job-{job_id}-")), job_id)
        if self.already_completed:
            again = "trained" if self.kind == "train" else "done"
            log.info("job %s was completed by an earlier run; nothing is %s again", job_id, again)

    def _claim(self, space: Workspace) -> None:
        try:
            space.claim()
        except ResourceError as error:
            self._taken = True
            self._spec, self._request_error = None, error

    def _look_for_an_earlier_run(self, space: Workspace) -> None:
        """A completed job is neither trained again nor spoilt by another request under its name."""
        if self._taken or not completed_before(space.path("outcome.json")):
            return
        if self._spec is not None and same_request(space.path("job.json"), self._spec):
            self.already_completed = True
            return
        self._taken = True
        hint = f"use another JOB_ID, or remove {space.folder}"
        other = ConfigError(f"job {self._job_id} was completed with another request", hint=hint)
        self._spec, self._request_error = None, self._request_error or other

    def _outbox_in(self, folder: Path, job_id: str) -> Outbox:
        return Outbox(folder, job_id, self._backend(), self.settings.callback, trains=self.kind == "train")

    def _backend(self) -> Backend:
        """No backend can take an id that is not a number: then only the file hears of the job, as of other nodes."""
        numbered = self._job_id is not None and self._job_id.isdecimal()
        can_call = self.settings.callback_url is not None and numbered and self.nodes.first
        return HttpBackend(str(self.settings.callback_url), self.settings.callback) if can_call else FileBackend()

    def _watch_state(self) -> None:
        """From now on; a backend that cannot be called never says anything."""
        every_s, route = self.settings.state_poll_s, f"/training/jobs/{self._job_id}"
        works = self._outbox is not None and not (self._taken or self.already_completed)
        if works and every_s > 0 and self.kind == "train":
            backend = self._backend()  # a connection of its own

            def ask() -> str | None:
                with contextlib.suppress(Unavailable):
                    return self.over or backend.state(route)
                return None

            self._watch = Watch(ask, lambda state: self.end_early(_cancelled(state)), every_s)
            self._watch.start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal stops the work where it is; later ones only hurry the last deliveries."""
        self._take(number)
        leaving = self._leaving or (frame is not None and frame.f_code is JobSession.__exit__.__code__)
        if leaving and self._outbox is not None:
            self._outbox.hurry(max(0.0, self.stop.left_s("delivery") - CALL_S))
        elif not (leaving or self._shielded):
            self._raise_once()

    def _take(self, number: int) -> None:
        if number != OURS:
            where = f"during {self._phase}" if self._inside else "before the work began"
            self.stop.tell(Interrupted(f"stopped by {signal.Signals(number).name} {where}", hint=RERUN))

    def _raise_once(self) -> None:
        if self._inside and not self.stop.raised:  # an exception out of __enter__ would skip __exit__
            self.stop.check()

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """An exception in the middle of it would leave an event half told."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if not self._leaving:
            self._raise_once()

    def _see_that_it_ends(self, wakeups: Wakeups) -> None:
        """Ends the work when its time is over, and the process when that takes longer than the grace period."""
        number = wakeups.wait(self.settings.max_duration_s)
        if wakeups.closed:
            return
        if number is None:
            limit = f"{self.settings.max_duration_s:g} s (MAX_DURATION_S)"
            hint = "raise it and run the same JOB_ID again: it goes on from its last checkpoint"
            self.end_early(
                TimeLimitReached(f"the job took longer than {limit} and stopped during {self._phase}", hint=hint)
            )
        else:
            self._take(number)
        while not (self.stop.raised or self._leaving) and self.stop.left_s("everything"):
            time.sleep(KNOCK_EVERY_S)  # the main thread may have begun to wait just before it could see the signal
            signal.pthread_kill(_main_thread(), OURS)
        time.sleep(self.stop.left_s("everything"))
        if wakeups.closed:
            return
        if self._last_word.acquire(blocking=False):  # the work hangs where no exception reaches it
            assert self.stop.reason is not None
            self.exit_code = self._failed(self.stop.reason).exit_code
            self._deliver_the_rest(LAST_TRY_S)
        os._exit(EXIT_UNDELIVERED if self._outcome is not None and self._undelivered else self.exit_code)

    def _succeeded(self) -> Outcome:
        assert self._outcome is not None
        self.tell(self._outcome)
        return self._outcome_record("completed", exit_code=0)

    def _failed(self, error: BaseException) -> Outcome:
        failure = as_job_error(error, self.settings.workspace_dir)
        trace = "".join(tracebacks.format_exception(error))
        if isinstance(failure, JobCancelled):
            log.info("cancelled: %s", failure.message)
            return self._outcome_record("cancelled", failure)
        log.error("%s", failure.wire_text)
        if failure.exit_code == 1:
            log.error("%s", trace)
        told = worker_traceback_of(error) or trace
        if not self._taken:
            self.tell(
                failed(
                    self.kind,
                    Failure(
                        exit_code=failure.exit_code,
                        message=failure.wire_text,
                        traceback=told,
                        epochs_completed=self._epochs_completed,
                        task=self.task,
                    ),
                )
            )
        status: Status = "interrupted" if isinstance(failure, Interrupted) else "failed"
        return self._outcome_record(status, failure, told, evidence=self._evidence(error))

    def _evidence(self, error: BaseException) -> Evidence:
        places = self.settings
        folders = (places.workspace_dir, places.dataset_cache_dir, places.weights_cache_dir)
        return self.observer.evidence(error, folders)

    def _outcome_record(
        self,
        status: Status,
        failure: JobError | None = None,
        trace: str | None = None,
        *,
        exit_code: int | None = None,
        evidence: Evidence | None = None,
    ) -> Outcome:
        outcome = Outcome(
            job_id=self._job_id or "",
            status=status,
            exit_code=failure.exit_code if failure is not None else exit_code or 0,
            phase=self._phase,
            code=failure.code if failure else None,
            message=failure.message if failure else None,
            hint=failure.hint if failure else None,
            retryable=failure.retryable if failure else False,
            traceback=trace,
            evidence=evidence,
            timings_s=self.timings_s,
            undelivered_events=self._undelivered,
        )
        self._record(outcome)
        return outcome

    def _record(self, outcome: Outcome) -> None:
        if self._workspace is None or self._taken:
            return
        try:
            record = self._without_secrets.of_record(outcome)
            write_json(self._workspace.path("outcome.json"), record)
        except OSError as error:
            log.error("outcome.json cannot be written: %s", error)

    @property
    def _undelivered(self) -> int:
        return self._outbox.undelivered if self._outbox else 0

    def _counts(self) -> dict[str, int]:
        refused = self._outbox.refused if self._outbox else 0
        return {"undelivered_events": self._undelivered, "refused_events": refused}

    def _deliver_what_an_earlier_run_could_not(self) -> None:
        if self._outbox is not None:
            self._outbox.repeat_outcome()  # whoever asks again wants to hear it, or has forgotten it
        self.exit_code = self._deliver_the_rest(self.settings.delivery_timeout_s)
        earlier = Outcome.model_validate_json(self.workspace.path("outcome.json").read_bytes())
        self._record(earlier.model_copy(update={"exit_code": self.exit_code, **self._counts()}))

    def _deliver_the_rest(self, timeout_s: float) -> int:
        """Returns 0, or EXIT_UNDELIVERED when events stay in the folder for a later run."""
        if self._outbox is None:
            return 0
        inherited, delivered = self._outbox.inherited, self._outbox.close(timeout_s)
        if delivered and not inherited:
            return 0
        if self._workspace is not None and self.nodes.first:
            keep_or_forget = forget_undelivered if delivered else keep_undelivered
            left_s = timeout_s if self.stop.reason is None else max(0.0, self.stop.left_s("everything") - CALL_S)
            keep_or_forget(self._workspace.folder, self.settings, left_s)
        if delivered:
            return 0
        log.error(
            "%d events could not be delivered to %s; running the same JOB_ID again delivers them, and so does "
            "python -m trainer_sdk.replay",
            self._undelivered,
            self.settings.callback_url,
        )
        return EXIT_UNDELIVERED


def _cancelled(state: str) -> JobCancelled:
    return JobCancelled(f"the backend says {state}", hint="what was trained is kept: a job that runs again goes on")


def _main_thread() -> int:
    number = threading.main_thread().ident
    assert number is not None
    return number


def _read_or_error(kind: Kind, environ: Mapping[str, str]) -> tuple[JobSpec | None, JobError | None]:
    try:
        return read_spec(kind, environ), None
    except JobError as error:
        return None, error


def _nodes_or_error(environ: Mapping[str, str]) -> tuple[Nodes, JobError | None]:
    try:
        return read_nodes(environ), None
    except JobError as error:
        return unclear_nodes(environ), error

"""The job's last word: told, written and delivered, in this order."""

from __future__ import annotations

from trainer_sdk.errors import EXIT_UNDELIVERED, JobError
from trainer_sdk.failures.evidence import Evidence, Observer
from trainer_sdk.lifecycle.course import Course
from trainer_sdk.lifecycle.folder import JobFolder
from trainer_sdk.lifecycle.line import Line
from trainer_sdk.lifecycle.outcome import Outcome, Status, end_by
from trainer_sdk.lifecycle.voices import Failure, failed
from trainer_sdk.settings import Settings

LAST_TRY_S = 1.0
"""For the outcome of a job whose work hangs."""


class Ending:
    """Of one job, for whoever has the last word: the session, or its guard."""

    def __init__(self, course: Course, folder: JobFolder, line: Line, observer: Observer, settings: Settings) -> None:
        self._course = course
        self._folder = folder
        self._line = line
        self._observer = observer
        self._settings = settings
        self.exit_code = 1

    def say(self, error: BaseException | None) -> Outcome:
        """Tells the backend and writes ``outcome.json``. None: the work is done."""
        outcome = self._well() if error is None else self._badly(error)
        self.exit_code = outcome.exit_code
        self._folder.record(outcome)
        return outcome

    def deliver(self, outcome: Outcome, patience_s: float) -> None:
        """What has been said; and writes down how much of it arrived."""
        if not self._deliver_the_rest(patience_s) and outcome.status == "completed":
            self.exit_code = EXIT_UNDELIVERED
        self._record_delivery(outcome)

    def repeat_that_of_an_earlier_run(self) -> None:
        """Nothing was done now, so that outcome stands."""
        self._line.repeat_outcome()
        self.exit_code = 0 if self._deliver_the_rest(self._settings.delivery_timeout_s) else EXIT_UNDELIVERED
        self._record_delivery(self._folder.earlier_outcome())

    def hurry(self, left_s: float) -> None:
        """Shortens the last deliveries. Safe in a signal handler."""
        self._line.hurry(left_s)

    def say_for_work_that_hangs(self, reason: JobError) -> None:
        """On another thread than the work's: no exception reached it, and the process is about to end."""
        self.say(reason)
        self._deliver_the_rest(LAST_TRY_S)

    def exit_code_now(self) -> int:
        """Of a process that cannot wait for deliveries any more."""
        return EXIT_UNDELIVERED if self._course.result is not None and self._line.undelivered else self.exit_code

    def _well(self) -> Outcome:
        assert self._course.result is not None
        self._line.tell(self._course.result)
        return self._outcome("completed")

    def _badly(self, error: BaseException) -> Outcome:
        course, end = self._course, end_by(error, self._settings.workspace_dir)
        if end.status == "cancelled":
            return self._outcome("cancelled", end.failure)
        if not self._folder.taken:
            failure = Failure(
                exit_code=end.failure.exit_code,
                message=end.failure.wire_text,
                traceback=end.traceback,
                epochs_completed=self._line.epochs_completed,
                task=course.task,
            )
            self._line.tell(failed(course.kind, failure))
        return self._outcome(end.status, end.failure, end.traceback, self._evidence(error))

    def _outcome(
        self,
        status: Status,
        failure: JobError | None = None,
        traceback: str | None = None,
        evidence: Evidence | None = None,
    ) -> Outcome:
        return Outcome(
            job_id=self._course.job_id,
            status=status,
            exit_code=failure.exit_code if failure else 0,
            phase=self._course.phase,
            code=failure.code if failure else None,
            message=failure.message if failure else None,
            hint=failure.hint if failure else None,
            retryable=failure.retryable if failure else False,
            traceback=traceback,
            evidence=evidence,
            timings_s=self._course.timings_s,
            undelivered_events=self._line.undelivered,
        )

    def _evidence(self, error: BaseException) -> Evidence:
        places = self._settings
        return self._observer.evidence(
            error, (places.workspace_dir, places.dataset_cache_dir, places.weights_cache_dir)
        )

    def _deliver_the_rest(self, timeout_s: float) -> bool:
        space = self._folder.workspace
        return self._line.deliver_the_rest(timeout_s, space.folder if space is not None else None)

    def _record_delivery(self, outcome: Outcome) -> None:
        self._folder.record(outcome.model_copy(update={"exit_code": self.exit_code, **self._line.counts()}))

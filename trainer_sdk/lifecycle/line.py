"""The job's line to its backend: what is told, whether the job is still wanted, and the last deliveries."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from trainer_sdk.delivery.backends import Backend, FileBackend, Unavailable
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.delivery.outbox import Outbox
from trainer_sdk.delivery.undelivered import forget_undelivered, keep_undelivered
from trainer_sdk.events import Event, Progress
from trainer_sdk.lifecycle.course import Course
from trainer_sdk.lifecycle.heartbeat import FILE, Heartbeat
from trainer_sdk.lifecycle.watching import Watch
from trainer_sdk.settings import Settings
from trainer_sdk.stopping import Stop
from trainer_sdk.texts.redaction import Redaction

log = logging.getLogger("trainer")


class Line:
    """Silent until it is opened.

    Args:
        heard: this machine speaks for the job.
        undisturbed: keeps signals from breaking off what is being told.
    """

    def __init__(
        self,
        course: Course,
        settings: Settings,
        stop: Stop,
        *,
        heard: bool,
        without_secrets: Redaction,
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._job_id, self._trains = course.job_id, course.kind == "train"
        self._settings = settings
        self._stop = stop
        self._heard = heard
        self._without_secrets = without_secrets
        self._undisturbed = undisturbed
        self._outbox: Outbox | None = None
        self._heartbeat: Heartbeat | None = None
        self._watch: Watch | None = None
        self._to_the_end = contextlib.ExitStack()
        self.epochs_completed = 0
        """As they were told."""

    @property
    def opened(self) -> bool:
        return self._outbox is not None

    def open(self, folder: Path) -> None:
        """Keeps there what is told, from now on. Raises: OSError."""
        access = self._settings.callback
        self._outbox = Outbox(folder, self._job_id, self._backend(), access, trains=self._trains)

    def beat(self, folder: Path) -> None:
        """Gives signs of life until `close`."""
        heartbeat = Heartbeat(folder / FILE, self._settings.callback.interval_s, self.tell)
        self._heartbeat = self._to_the_end.enter_context(heartbeat)

    def close(self) -> None:
        """No more signs of life."""
        self._to_the_end.close()

    def tell(self, event: Event) -> None:
        """Returns at once."""
        if isinstance(event, Progress):
            self.epochs_completed = max(self.epochs_completed, event.current_epoch)
            if event.metrics is not None and self._watch is not None:
                self._watch.soon()
        if self._heartbeat is not None:
            self._heartbeat.hear(event)
        if self._outbox is not None:
            with self._undisturbed():
                self._outbox.tell(self._without_secrets.of_event(event))

    @property
    def over(self) -> str | None:
        """``cancelled`` or ``stopped``, once the backend has said so when it was told of progress."""
        return self._outbox.over if self._outbox else None

    def watch(self, unwanted: Callable[[str], None]) -> None:
        """Asks for the job's state from now on; a backend that cannot be called never says anything.

        Args:
            unwanted: told once, on another thread, with the state that says so.
        """
        every_s, route = self._settings.state_poll_s, f"/training/jobs/{self._job_id}"
        if not (self.opened and self._trains and every_s > 0):
            return
        backend = self._backend()  # a connection of its own

        def ask() -> str | None:
            with contextlib.suppress(Unavailable):
                return self.over or backend.state(route)
            return None

        self._watch = Watch(ask, unwanted, every_s)
        self._watch.start()

    def last_look(self, patience_s: float) -> str | None:
        """Ends the watch. Returns the state that says that the job is not wanted."""
        return self._watch.end(patience_s) if self._watch is not None else None

    def hurry(self, left_s: float) -> None:
        """Shortens the last deliveries. Safe in a signal handler."""
        if self._outbox is not None:
            self._outbox.hurry(left_s)

    def repeat_outcome(self) -> None:
        """Whoever asks again wants to hear it, or has forgotten it."""
        if self._outbox is not None:
            self._outbox.repeat_outcome()

    def deliver_the_rest(self, timeout_s: float, folder: Path | None) -> bool:
        """Returns whether everything arrived. What did not stays in the folder, and is uploaded if there is time."""
        if self._outbox is None:
            return True
        inherited, delivered = self._outbox.inherited, self._outbox.close(timeout_s)
        if delivered and not inherited:
            return True
        if folder is not None and self._heard:
            keep_or_forget = forget_undelivered if delivered else keep_undelivered
            left_s = timeout_s if self._stop.reason is None else self._stop.left_to_call_s("everything")
            keep_or_forget(folder, self._settings, left_s)
        if not delivered:
            log.error(
                "%d events could not be delivered to %s; running the same JOB_ID again delivers them, and so does "
                "python -m trainer_sdk.replay",
                self.undelivered,
                self._settings.callback_url,
            )
        return delivered

    @property
    def undelivered(self) -> int:
        return self._outbox.undelivered if self._outbox else 0

    def counts(self) -> dict[str, int]:
        """As ``outcome.json`` has them."""
        refused = self._outbox.refused if self._outbox else 0
        return {"undelivered_events": self.undelivered, "refused_events": refused}

    def _backend(self) -> Backend:
        """No backend can take an id that is not a number: then only the file hears of the job, as of other nodes."""
        can_call = self._settings.callback_url is not None and self._job_id.isdecimal() and self._heard
        url, access = str(self._settings.callback_url), self._settings.callback
        return HttpBackend(url, access) if can_call else FileBackend()

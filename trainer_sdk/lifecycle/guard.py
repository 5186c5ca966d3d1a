"""The reason to stop reaches the work wherever it is, and a job that is told to stop ends in time (decision 0015)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Protocol

from trainer_sdk.errors import Interrupted, JobError, TimeLimitReached
from trainer_sdk.lifecycle.course import Course
from trainer_sdk.stopping import OURS, SIGNALS, Stop, Wakeups, let_signals_through

RERUN = "run the same JOB_ID again"
KNOCK_EVERY_S = 0.5


class LastWord(Protocol):
    """What a guard does with a job that is ending, and at last in its place."""

    def hurry(self, left_s: float) -> None:
        """Deliver within that time. Called in a signal handler."""
        ...

    def say_for_work_that_hangs(self, reason: JobError) -> None:
        """Tell and write the outcome. Called on the guard's thread, when no exception got through to the main one."""
        ...

    def exit_code_now(self) -> int:
        """Of a process that ends here and now."""
        ...


class Guard:
    """Answers signals and the clock, from the session's first act to its last.

    Args:
        stop: where the reason is kept.
        course: what the job does just now, for messages.
        leaves: code of the method by which the session ends: a signal may come when it has begun but not yet said so.
    """

    def __init__(self, stop: Stop, course: Course, *, leaves: CodeType) -> None:
        self._stop = stop
        self._course = course
        self._leaves = leaves
        self.inside = False
        """The work has begun: an exception now comes to the session's end."""
        self.leaving = False
        self._shielded = False
        self._last_word = threading.Lock()
        """Whoever has it says how the job ended."""

    def begin(self, ending: LastWord, max_duration_s: float | None) -> None:
        """To be called in the main thread. Signals that waited come now."""
        self._ending = ending
        for number in (*SIGNALS, OURS):
            signal.signal(number, self._on_signal)
        self._wakeups = Wakeups()
        threading.Thread(target=self._see_that_it_ends, args=(max_duration_s,), name="stop", daemon=True).start()
        let_signals_through()

    def take_last_word(self) -> None:
        """Returns when it is the caller's; never, when the time is over and the process about to end."""
        if not self._last_word.acquire(blocking=False):
            threading.Event().wait()

    def end(self) -> None:
        """Before the process ends by itself, nobody ends it."""
        self._wakeups.close()

    def end_early(self, reason: JobError) -> None:
        """Ends the work wherever it is, from any thread. The first reason counts."""
        if self._stop.tell(reason):
            _knock()

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """For what an exception in the middle of it would leave half done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if not self.leaving:
            self._raise_once()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal stops the work where it is; later ones only hurry the last deliveries."""
        self._take(number)
        if self.leaving or (frame is not None and frame.f_code is self._leaves):
            self._ending.hurry(self._stop.left_to_call_s("delivery"))
        elif not self._shielded and not _importing(frame):  # then the guard knocks again
            self._raise_once()

    def _take(self, number: int) -> None:
        if number != OURS:
            where = f"during {self._course.phase}" if self.inside else "before the work began"
            self._stop.tell(Interrupted(f"stopped by {signal.Signals(number).name} {where}", hint=RERUN))

    def _raise_once(self) -> None:
        if self.inside and not self._stop.raised:  # an exception out of __enter__ would skip __exit__
            self._stop.check()

    def _see_that_it_ends(self, max_duration_s: float | None) -> None:
        """Ends the work when its time is over, and the process when that takes longer than the grace period."""
        number = self._wakeups.wait(max_duration_s)
        if self._wakeups.closed:
            return
        if number is None:
            self.end_early(self._too_long(max_duration_s))
        else:
            self._take(number)
        self._knock_until_heard()
        time.sleep(self._stop.left_s("everything"))
        if not self._wakeups.closed:
            self._end_the_process()

    def _too_long(self, max_duration_s: float | None) -> TimeLimitReached:
        return TimeLimitReached(
            f"the job took longer than {max_duration_s:g} s (MAX_DURATION_S) and stopped during {self._course.phase}",
            hint="raise it and run the same JOB_ID again: it goes on from its last checkpoint, if it has one",
        )

    def _knock_until_heard(self) -> None:
        """The main thread may have begun to wait just before it could see the signal."""
        while not (self._stop.raised or self.leaving) and self._stop.left_s("everything"):
            time.sleep(KNOCK_EVERY_S)
            _knock()

    def _end_the_process(self) -> None:
        if self._last_word.acquire(blocking=False):  # the work hangs where no exception reaches it
            assert self._stop.reason is not None
            self._ending.say_for_work_that_hangs(self._stop.reason)
        os._exit(self._ending.exit_code_now())


def _importing(frame: FrameType | None) -> bool:
    """Whether Python imports something: an exception there can leave the lock of a module taken for ever."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _knock() -> None:
    """A signal that the main thread answers wherever it is."""
    number = threading.main_thread().ident
    assert number is not None
    signal.pthread_kill(number, OURS)

"""Being told to stop: the session's half, without a training."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from queue import SimpleQueue

import pytest

from trainer_sdk.errors import Interrupted, JobCancelled
from trainer_sdk.lifecycle.watching import Watch
from trainer_sdk.stopping import ENDS, Stop


def test_the_first_reason_counts() -> None:
    stop = Stop(30)
    stop.check()
    first = Interrupted("stopped by SIGTERM")
    assert stop.tell(first)
    assert not stop.tell(JobCancelled("the backend says cancelled"))
    with pytest.raises(Interrupted) as caught:
        stop.check()
    assert caught.value is first


def test_the_parts_follow_each_other_inside_the_period() -> None:
    assert list(ENDS.values()) == sorted(ENDS.values())
    assert ENDS["everything"] < 1
    stop = Stop(100)
    assert stop.left_s("checkpoint") == 60
    stop.tell(Interrupted("now"))
    assert 59 < stop.left_s("checkpoint") <= 60
    assert Stop(0).left_s("everything") == 0


@pytest.mark.parametrize("state", ["cancelled", "stopped"])
def test_a_job_that_is_no_longer_wanted_is_told_once(state: str) -> None:
    states = iter(["pending", "running", None, state])
    told: SimpleQueue[str] = SimpleQueue()
    watch = Watch(lambda: next(states), told.put, every_s=0.01)
    watch.start()
    assert told.get(timeout=10) == state
    assert told.empty()
    assert watch.end(1.0) == state


def test_the_end_of_an_epoch_is_a_moment_to_ask() -> None:
    asked = threading.Semaphore(0)
    watch = Watch(asked.release, lambda state: None, every_s=3600)
    watch.start()
    assert asked.acquire(timeout=10)
    watch.soon()
    assert asked.acquire(timeout=10)
    assert watch.end(10) is None


def test_the_last_look_does_not_wait_for_a_backend_that_hangs() -> None:
    hang = threading.Event()
    watch = Watch(lambda: hang.wait(60) and None, lambda state: None, every_s=0.01)
    watch.start()
    began = time.monotonic()
    assert watch.end(0.1) is None
    assert time.monotonic() - began < 30
    hang.set()


def test_held_signals_come_when_they_are_let_through() -> None:
    script = """
import os, signal
from trainer_sdk.stopping import hold_signals, let_signals_through
hold_signals()
os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
print("later", flush=True)
let_signals_through()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["later", "heard"]

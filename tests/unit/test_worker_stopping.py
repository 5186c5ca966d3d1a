"""A worker that is told to stop, that loses its parent, or that hangs: with small processes in a worker's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mmtrain.engine import supervise
from mmtrain.engine.death import death
from mmtrain.engine.order import LOG, MESSAGES, STOP
from mmtrain.engine.stopping import is_alive
from mmtrain.engine.watchdog import Watchdog, stacks_of
from tests.conftest import ROOT
from trainer_sdk.errors import Interrupted, JobCancelled, ResourceError
from trainer_sdk.stopping import Stop

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A process that runs this code, with its output in the worker's log."""

    def run(code: str) -> subprocess.Popen[bytes]:
        with (tmp_path / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
            )  # fmt: skip

    return run


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


WORKER = """
import pathlib, time
from mmtrain.engine.messages import FitStarted, MessageWriter, Predicting
writer = MessageWriter(pathlib.Path("{messages}"))
for message in [FitStarted(epochs=1, iters=9, parameters=1), Predicting(split="val", done=1, total=9)][:{says}]:
    writer.say(message)
while not pathlib.Path("{stop}").exists():
    time.sleep(0.05)
time.sleep(0.5)
pathlib.Path("saved").touch()
"""


@pytest.mark.parametrize(
    ("says", "saves"), [(0, False), (1, True), (2, False)], ids=["starting", "training", "trained"]
)
def test_only_a_worker_with_something_to_save_is_waited_for(
    start: Start, tmp_path: Path, says: int, saves: bool
) -> None:
    stop, heard = Stop(1000), 0

    def listen(_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == says:
            stop.tell(JobCancelled("the backend says cancelled"))

    if not says:
        stop.tell(JobCancelled("the backend says cancelled"))
    process = start(WORKER.format(messages=MESSAGES, stop=STOP, says=says))
    with pytest.raises(JobCancelled):
        supervise.supervise(process, tmp_path, listen, stop=stop)
    assert (tmp_path / "saved").exists() == saves
    assert process.poll() is not None


def test_a_worker_that_does_not_leave_in_its_share_of_the_time_is_ended(start: Start, tmp_path: Path) -> None:
    process = start("import time; time.sleep(600)")
    began = time.monotonic()
    supervise.let_leave(process, tmp_path, 0.5)
    assert time.monotonic() - began < 60
    assert process.poll() is not None


def test_a_worker_that_was_told_to_stop_by_somebody_else_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(f"exitcode  : -{int(signal.SIGTERM)} (pid: 4711)")
    assert isinstance(death(1, tmp_path, oom_killed=False), Interrupted)


STARTER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {code!r}])
time.sleep(600)
"""
HANGS = """
import os, time
from mmtrain.engine.stopping import is_alive
from mmtrain.engine.watchdog import show_stacks_on_request
show_stacks_on_request()
def deadlocked_loader():
    time.sleep(600)
def deadlocked_worker():
    time.sleep(600)
loads = os.fork() == 0
print("hangs", flush=True)
deadlocked_loader() if loads else deadlocked_worker()
"""


def test_a_worker_that_says_nothing_shows_its_stacks_and_fails(start: Start, tmp_path: Path) -> None:
    process = start(STARTER.format(code=HANGS))
    wait_for(lambda: (tmp_path / LOG).read_text().count("hangs") == 2)
    family = psutil.Process(process.pid).children(recursive=True)
    with pytest.raises(ResourceError, match=r"made no progress for .* \(WATCHDOG_S\)") as caught:
        supervise.supervise(process, tmp_path, lambda news: None, watchdog_s=0.5)
    for text in (caught.value.worker_traceback, (tmp_path / LOG).read_text()):  # type: ignore[attr-defined]
        assert "in deadlocked_worker" in text
        assert "in deadlocked_loader" in text
    assert process.poll() is not None
    wait_for(lambda: not any(is_alive(member.pid) for member in family))


def test_a_process_that_cannot_show_its_stacks_is_not_killed_by_the_question(start: Start, tmp_path: Path) -> None:
    process = start(STARTER.format(code="import time; print('hangs', flush=True); time.sleep(600)"))
    wait_for(lambda: "hangs" in (tmp_path / LOG).read_text())
    assert stacks_of(process.pid, tmp_path / LOG) == ""
    assert all(is_alive(child.pid) for child in psutil.Process(process.pid).children())
    supervise.end_tree(process)


def test_news_keep_the_watchdog_quiet(tmp_path: Path) -> None:
    watchdog = Watchdog(30)
    watchdog._heard -= 60
    watchdog.hear()
    watchdog.check(os.getpid(), tmp_path)
    never = Watchdog(0)
    never._heard -= 10**9
    never.check(os.getpid(), tmp_path)


ORPHAN = """
import pathlib, time
from mmtrain.engine import stopping
stopping.ORPHAN_S = 1.0
stop = stopping.StopRequest(pathlib.Path("stop"), parent={parent})
stop.listen()
pathlib.Path("ready").touch()
while {loops} and not stop.asked():
    time.sleep(0.05)
if {loops}:
    pathlib.Path("saved").touch()
else:
    time.sleep(600)
"""


@pytest.mark.parametrize("loops", [True, False], ids=["at work", "deadlocked"])
@pytest.mark.parametrize("dies", ["parent", "starter"])
def test_a_worker_does_not_outlive_whoever_started_it(start: Start, tmp_path: Path, dies: str, loops: bool) -> None:
    parent = start("import time; time.sleep(600)")
    starter = start(STARTER.format(code=ORPHAN.format(parent=parent.pid, loops=loops)))
    wait_for((tmp_path / "ready").exists)
    (worker,) = psutil.Process(starter.pid).children()
    ended, other = (parent, starter) if dies == "parent" else (starter, parent)
    ended.kill()
    ended.wait()
    wait_for(lambda: not is_alive(worker.pid))
    assert (tmp_path / "saved").exists() == loops
    other.kill()
    other.wait()


LOADER = """
import os, pathlib, time
from mmtrain.engine.stopping import heed_only_the_parent
child = os.fork()
if child == 0:
    heed_only_the_parent()
    pathlib.Path("ready").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
        pathlib.Path("alive").touch()
while not pathlib.Path("end").exists():
    time.sleep(0.05)
os.kill(child, 15)
_, status = os.waitpid(child, 0)
pathlib.Path("code").write_text(str(os.waitstatus_to_exitcode(status)))
"""


def test_a_loading_process_heeds_its_parent_alone(start: Start, tmp_path: Path) -> None:
    parent = start(LOADER)
    wait_for(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())
    loader = int((tmp_path / "ready").read_text())
    for _ in range(3):
        os.kill(loader, signal.SIGTERM)
    for _ in range(2):  # it goes on working
        (tmp_path / "alive").unlink(missing_ok=True)
        wait_for((tmp_path / "alive").exists)
    (tmp_path / "end").touch()
    parent.wait(60)
    assert (tmp_path / "code").read_text() == "0"

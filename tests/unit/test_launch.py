"""What the remains of a dead worker mean, and what a worker may know."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from mmtrain.engine import supervise
from mmtrain.engine.death import death, killing_signal
from mmtrain.engine.launch import worker_environment
from mmtrain.engine.messages import EpochEnd, Iteration, MessageReader, MessageWriter
from trainer_sdk.errors import FrameworkError, JobError, OutOfMemory, ResourceError
from trainer_sdk.failures.cgroup import memory_events

TORCHRUN_SAYS = """
Root Cause (first observed failure):
  rank      : 0 (local_rank: 0)
  exitcode  : -{number} (pid: 4711)
"""


def remains(folder: Path, log: str = "", report: dict[str, str] | None = None) -> Path:
    (folder / "worker.log").write_text(log)
    if report is not None:
        (folder / "worker_error.json").write_text(json.dumps(report))
    return folder


def test_the_workers_own_report_comes_first(tmp_path: Path) -> None:
    report = {
        "type": "ResourceError",
        "message": "out of GPU memory",
        "hint": "halve batch",
        "traceback": "Traceback ...",
    }
    error = death(1, remains(tmp_path, TORCHRUN_SAYS.format(number=9), report), oom_killed=False)
    assert isinstance(error, ResourceError)
    assert (error.message, error.hint) == ("out of GPU memory", "halve batch")


@pytest.mark.parametrize(
    ("number", "oom_killed", "kind", "said"),
    [
        (signal.SIGKILL, True, OutOfMemory, "OOM killer"),
        (signal.SIGKILL, False, ResourceError, "SIGKILL"),
        (signal.SIGBUS, False, ResourceError, "shared memory"),
        (signal.SIGSEGV, False, FrameworkError, "SIGSEGV"),
        (signal.SIGABRT, False, FrameworkError, "SIGABRT"),
    ],
)
def test_signals_have_meanings(tmp_path: Path, number: int, oom_killed: bool, kind: type[JobError], said: str) -> None:
    error = death(1, remains(tmp_path, TORCHRUN_SAYS.format(number=int(number))), oom_killed=oom_killed)
    assert type(error) is kind
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(("counted", "kind"), [("oom_kill 3", OutOfMemory), ("oom_kill 2", ResourceError)])
def test_a_killed_process_ran_out_of_memory_if_the_kernel_counted_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: str, kind: type[JobError]
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 2\noom_kill 2\n")
    monkeypatch.setattr(supervise, "oom_kill_count", lambda: memory_events(tmp_path, tmp_path / "none")["oom_kill"])
    remains(tmp_path)
    script = "sleep 0.3; echo low 0 > memory.events; echo $0 >> memory.events; kill -9 $$"
    process = subprocess.Popen(["bash", "-c", script, counted], cwd=tmp_path)
    with pytest.raises(ResourceError) as caught:
        supervise.supervise(process, tmp_path, lambda news: None)
    assert type(caught.value) is kind
    assert caught.value.facts == {"exit_signal": "SIGKILL"}


def test_a_death_without_any_sign_shows_the_end_of_the_log(tmp_path: Path) -> None:
    error = death(1, remains(tmp_path, "first\nsecond\nthird\nfourth"), oom_killed=False)
    assert type(error) is FrameworkError
    assert "second | third | fourth" in error.hint


def test_torchrun_itself_may_be_the_one_that_was_killed() -> None:
    assert killing_signal(-9, "") == signal.SIGKILL
    assert killing_signal(1, "") is None


def test_a_worker_learns_no_secrets_and_sees_its_gpus_only() -> None:
    secrets = {"INTERNAL_STORAGE_SECRET_KEY": "a", "EXTERNAL_STORAGE_ACCESS_KEY": "b", "DATABASE_URL": "c",
               "INTERNAL_AUTH_TOKEN": "d", "POSTGRES_PASSWORD": "e"}  # fmt: skip
    found = worker_environment({"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "4,5,6", **secrets}, threads=3, gpus=(0, 2))
    assert not secrets.keys() & found.keys()
    assert (found["PATH"], found["CUDA_VISIBLE_DEVICES"], found["OMP_NUM_THREADS"]) == ("/bin", "4,6", "3")
    assert worker_environment({}, threads=1, gpus=())["CUDA_VISIBLE_DEVICES"] == ""


def test_a_streaming_worker_learns_the_key_to_the_data_sets_and_no_other() -> None:
    parts = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
    environ = {f"{role}_STORAGE_{part}": "x" for role in ("EXTERNAL", "INTERNAL") for part in parts}
    found = worker_environment(environ | {"DATABASE_URL": "c"}, threads=1, gpus=(), streaming=True)
    assert {f"EXTERNAL_STORAGE_{part}" for part in parts} <= found.keys()
    assert not {"INTERNAL_STORAGE_ACCESS_KEY", "INTERNAL_STORAGE_SECRET_KEY", "DATABASE_URL"} & found.keys()


def test_messages_arrive_in_order_and_a_half_written_one_waits(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    reader = MessageReader(path)
    assert reader.news() == []
    writer = MessageWriter(path)
    first = Iteration(epoch=1, iteration=3, loss=float("nan"), lr=0.1)
    writer.say(first)
    second = EpochEnd(epoch=1, iteration=4, losses={"loss": 0.5}, lr=0.1)
    line = second.model_dump_json().encode() + b"\n"
    with path.open("ab") as file:
        file.write(line[:10])
    assert [message.model_dump() for message in reader.news()] == [first.model_dump()]
    with path.open("ab") as file:
        file.write(line[10:])
    assert reader.news() == [second]
    reader.close()


def test_a_loss_that_is_not_finite_travels_as_null(tmp_path: Path) -> None:
    reader = MessageReader(tmp_path / "messages.jsonl")
    MessageWriter(tmp_path / "messages.jsonl").say(Iteration(epoch=1, iteration=1, loss=float("inf"), lr=0.1))
    (message,) = reader.news()
    assert isinstance(message, Iteration)
    assert message.loss is None
    reader.close()

"""What outcome.json says of a failure beyond its message."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mmtrain.engine.messages import EpochEnd, Iteration, MessageWriter
from mmtrain.jobs.evidence import LAST_ITERATIONS, seen_in
from trainer_sdk.errors import JobError, OutOfMemory, ResourceError
from trainer_sdk.failures.cgroup import memory_events, memory_limit_bytes, memory_peak_bytes
from trainer_sdk.failures.evidence import LAST_LINES, LONGEST_LINE, Observer, last_lines
from trainer_sdk.lifecycle.outcome import worker_traceback_of
from trainer_sdk.workspace import Workspace, write_json


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path, "1")
    found.clear()
    return found


def cgroup(folder: Path, own: str, **files: str) -> tuple[Path, Path]:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "cgroup", folder / "own"


def test_a_container_sees_its_counters_at_the_root(tmp_path: Path) -> None:
    files = {"memory_DOT_events": "low 0\nmax 7\noom_kill 2\n", "memory_DOT_peak": "4096\n"}
    places = cgroup(tmp_path, "0::/\n", **files)
    assert memory_events(*places) == {"low": 0, "max": 7, "oom_kill": 2}
    assert memory_peak_bytes(*places) == 4096


def test_a_process_outside_a_container_sees_those_of_its_own_group(tmp_path: Path) -> None:
    places = cgroup(tmp_path, "0::/user/job\n", user__job__memory_DOT_events="oom_kill 1\n", user__memory="")
    assert memory_events(*places) == {"oom_kill": 1}
    assert memory_peak_bytes(*places) is None


def test_the_first_version_counts_in_other_files(tmp_path: Path) -> None:
    text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    files = {"memory__memory_DOT_oom_control": text, "memory__memory_DOT_max_usage_in_bytes": "123"}
    places = cgroup(tmp_path, "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n", **files)
    assert memory_events(*places) == {"oom_kill": 3}
    assert memory_peak_bytes(*places) == 123


def test_the_least_limit_of_the_groups_that_we_are_in_counts(tmp_path: Path) -> None:
    files = {"memory_DOT_max": "max\n", "pod__memory_DOT_max": "3000\n", "pod__job__memory_DOT_max": "5000\n"}
    assert memory_limit_bytes(*cgroup(tmp_path, "0::/pod/job\n", **files)) == 3000
    assert memory_limit_bytes(*cgroup(tmp_path, "0::/\n")) is None
    first = {"memory__memory_DOT_limit_in_bytes": "9223372036854771712", "memory__a__memory_DOT_limit_in_bytes": "7000"}
    assert memory_limit_bytes(*cgroup(tmp_path, "4:memory:/a/b\n", **first)) == 7000


def test_where_the_kernel_counts_nothing_nothing_is_known(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "none", tmp_path / "none") is None
    assert memory_events(tmp_path / "none", tmp_path / "none") == {}


def test_the_end_of_a_log_is_what_a_person_would_read(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"x" * 200_000 + b"\n" + b"".join(b"line %d\n" % number for number in range(100)))
    assert last_lines(log)[-1] == "line 99"
    assert len(last_lines(log)) == LAST_LINES
    log.write_bytes(b"1%\r50%\r100%\n\n\xff" + b"y" * 5000)
    progress, long = last_lines(log)
    assert progress == "100%"
    assert len(long) < LONGEST_LINE + 40
    assert last_lines(tmp_path / "none") == ()


def test_what_a_training_was_at(space: Workspace) -> None:
    writer = MessageWriter(space.work / "worker_messages.jsonl")
    writer.say(EpochEnd(epoch=1, iteration=9, losses={"loss": 1.0}, lr=0.1, peak_rss_bytes=5000, peak_gpu_bytes=None))
    for number in range(10, 40):
        losses = {"loss_cls": 0.25, "loss_bbox": float("nan")}
        writer.say(Iteration(epoch=2, iteration=number, loss=float("inf"), losses=losses, lr=0.1))
    with (space.work / "worker_messages.jsonl").open("ab") as file:
        file.write(b'{"kind": "itera')
    plan = {"batch": {"value": 4}, "accumulate": {"value": 2}, "imgsz": {"value": [640, 480]}, "workers": {"value": 0}}
    write_json(space.path("plan.json"), plan)
    (space.work / "worker.log").write_text("starting\nTraceback\n")
    observer = Observer()
    observer.witnesses.append(lambda: seen_in(space))
    found = observer.evidence(OutOfMemory("no"), [space.folder / "made" / "later"])
    assert [one.iteration for one in found.last_iterations] == list(range(40 - LAST_ITERATIONS, 40))
    assert found.last_iterations[-1].losses == {"loss_cls": 0.25, "loss_bbox": None}
    assert found.last_iterations[-1].loss is None
    assert (found.batch, found.accumulate, found.imgsz, found.workers) == (4, 2, (640, 480), 0)
    assert found.worker_log == ("starting", "Traceback")
    assert found.peak_worker_bytes is not None and found.peak_worker_bytes >= 5000
    assert list(found.disk_free_bytes) == [str(space.folder / "made" / "later")]
    assert found.disk_free_bytes[str(space.folder / "made" / "later")] > 0


def test_facts_of_the_error_and_of_its_causes_are_part_of_it() -> None:
    cause = ResourceError("killed")
    cause.facts = {"exit_signal": "SIGKILL", "peak_gpu_bytes": 9}
    cause.worker_traceback = "in the worker"
    error = JobError("it failed")
    error.__cause__ = cause
    error.facts = {"peak_gpu_bytes": 5}
    found = Observer().evidence(error, [])
    assert (found.exit_signal, found.peak_gpu_bytes) == ("SIGKILL", 9)
    assert worker_traceback_of(error) == "in the worker"


def test_a_witness_that_fails_is_only_missing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise ValueError("plan.json is damaged")

    observer = Observer()
    observer.witnesses.append(broken)
    assert observer.evidence(JobError("no"), []).batch is None
    assert "plan.json is damaged" in caplog.text


def test_the_last_lines_of_this_process_are_kept() -> None:
    observer = Observer()
    observer.start()
    for number in range(60):
        logging.getLogger("trainer").warning("line %d", number)
    found = observer.evidence(JobError("no"), []).log
    assert len(found) == LAST_LINES
    assert found[-1].endswith("WARNING trainer: line 59")

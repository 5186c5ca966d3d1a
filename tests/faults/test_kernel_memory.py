"""A memory limit that the kernel enforces

Real jobs in a control group of their own, as a container has one: the kernel's OOM killer is what ends a process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import TRAIN_S, request
from tests.faults.conftest import Seen

MB = 10**6
GROUPS = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
"""Where groups are made, and the file that limits one: of the first version and of the second."""
JOIN = """\
import os, runpy, sys
open({procs!r}, "w").write(str(os.getpid()))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})  # every thread would take some memory for itself
sys.path.insert(0, {root!r})
runpy.run_path({root!r} + "/train.py", run_name="__main__")
"""


@dataclass(frozen=True)
class Group:
    """Of processes, which have a limit together."""

    folder: Path
    limit_file: str

    def script(self, where: Path, limit_bytes: int) -> Path:
        """train.py, which first joins the group."""
        (self.folder / self.limit_file).write_text(str(limit_bytes))
        script = where / "in_a_group.py"
        script.write_text(JOIN.format(procs=str(self.folder / "cgroup.procs"), root=str(ROOT)))
        return script


@pytest.fixture
def group() -> Iterator[Group]:
    for top, limit_file in GROUPS.items():
        folder = top / f"trainer-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / limit_file).exists():
                break
            folder.rmdir()
    else:
        pytest.skip("no control group with a memory limit can be made here")
    yield Group(folder, limit_file)
    deadline = time.monotonic() + 30
    while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    folder.rmdir()


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 1})


@pytest.mark.fault(
    "four images do not fit into the container's memory: the kernel kills the worker",
    expected="two at a time and two times a step; completed",
)
def test_a_batch_the_kernel_killed_for_is_halved(
    group: Group, run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path, seen: Seen
) -> None:
    """At 640 pixels rtmdet-tiny takes 1.1 GB and 0.5 GB an image; the processes around it have 0.7 GB."""
    environment = {**request("rtmdet-tiny", {"imgsz": 640}), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    done = run_script(environment, timeout_s=TRAIN_S, script=group.script(tmp_path, 2600 * MB))
    assert done.exit_code == 0, done.stdout
    plan = orjson.loads((done.folder / "plan.json").read_bytes())
    assert (plan["batch"]["value"], plan["accumulate"]["value"]) == (2, 2)
    assert "going on with 2 images at a time, 2 times a step (1 of 3 restarts)" in done.stdout
    assert backend.status_of(123) == "completed"
    seen(f"batch {plan['batch']['value']}: {plan['batch']['reason']}")


@pytest.mark.fault(
    "not even one image fits into the container's memory: the kernel kills the worker",
    expected="ResourceError, exit 4, not retryable; the kernel's counters are its evidence",
)
def test_what_the_kernel_kills_for_one_image_is_told(
    group: Group, run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path, seen: Seen
) -> None:
    small = {"imgsz": 1280, "batch": 1}
    environment = {**request("rtmdet-tiny", small), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    done = run_script(environment, timeout_s=TRAIN_S, script=group.script(tmp_path, 1600 * MB))
    assert (done.exit_code, done.outcome["code"]) == (4, "ResourceError"), done.stdout
    assert not done.outcome["retryable"]
    assert "it happened with 1 image of 1280 x 1280 at a time" in done.outcome["message"]
    evidence = done.outcome["evidence"]
    assert evidence["memory_events"]["oom_kill"] >= 1
    assert evidence["peak_container_bytes"] == pytest.approx(1600 * MB, rel=0.05)
    assert backend.status_of(123) == "failed"
    seen(f"{done.outcome['message']}; peak {evidence['peak_container_bytes'] / MB:.0f} MB of 1600 MB")

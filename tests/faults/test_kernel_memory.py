"""A memory limit that the kernel enforces

Real jobs in a control group of their own, as a container has one: the kernel's OOM killer is what ends a process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import TRAIN_S, request
from tests.faults.conftest import Seen

TrainWithin = Callable[[int, dict[str, int]], ScriptRun]

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
def train_within(group: Group, run_script: RunScript, backend: ContractBackend, tmp_path: Path) -> TrainWithin:
    """``train_within(limit_bytes, {"imgsz": 640})``: a job on eight images, its processes in the group."""
    shapes = write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 1})
    surroundings = {"DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}

    def train(limit_bytes: int, config: dict[str, int]) -> ScriptRun:
        environment = request("rtmdet-tiny", config) | surroundings
        return run_script(environment, timeout_s=TRAIN_S, script=group.script(tmp_path, limit_bytes))

    return train


@pytest.mark.fault(
    "eight images do not fit into the container's memory: the kernel kills the worker",
    expected="fewer at a time, as many in a step; completed",
)
def test_a_batch_the_kernel_killed_for_is_halved(
    train_within: TrainWithin, backend: ContractBackend, seen: Seen
) -> None:
    """Measured: at 640 pixels four images sometimes just fit into 2.6 GB together with all processes."""
    done = train_within(2600 * MB, {"imgsz": 640, "batch": 8})
    assert done.exit_code == 0, done.stdout
    plan = orjson.loads((done.folder / "plan.json").read_bytes())
    batch, accumulate = plan["batch"]["value"], plan["accumulate"]["value"]
    assert batch in (2, 4) and batch * accumulate == 8
    assert "going on with 4 images at a time, 2 times a step (1 of 3 restarts)" in done.stdout
    assert backend.status_of(123) == "completed"
    seen(f"batch {batch}, {accumulate} times a step: {plan['batch']['reason']}")


@pytest.mark.fault(
    "not even one image fits into the container's memory: the kernel kills the worker",
    expected="ResourceError, exit 4, not retryable; the kernel's counters are its evidence",
)
def test_what_the_kernel_kills_for_one_image_is_told(
    train_within: TrainWithin, backend: ContractBackend, seen: Seen
) -> None:
    done = train_within(1600 * MB, {"imgsz": 1280, "batch": 1})
    assert (done.exit_code, done.outcome["code"]) == (4, "ResourceError"), done.stdout
    assert not done.outcome["retryable"]
    assert "it happened with 1 image of 1280 x 1280 at a time" in done.outcome["message"]
    evidence = done.outcome["evidence"]
    assert evidence["memory_events"]["oom_kill"] >= 1
    assert evidence["peak_container_bytes"] == pytest.approx(1600 * MB, rel=0.05)
    assert backend.status_of(123) == "failed"
    seen(f"{done.outcome['message']}; peak {evidence['peak_container_bytes'] / MB:.0f} MB of 1600 MB")

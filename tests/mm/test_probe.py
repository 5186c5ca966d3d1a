"""The probe trains the real model on the fullest pictures, and says what that took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from mmtrain.engine.classify import classify
from mmtrain.engine.measuring import HeaviestSampler, heaviest, probe_config
from mmtrain.engine.order import ProbeOrder, Tried, WorkerOrder
from mmtrain.machine import memory_limit
from tests.conftest import ROOT
from tests.mm.test_pretrained import prepare
from trainer_sdk.errors import FrameworkError, JobError, OutOfMemory
from trainer_sdk.workspace import Workspace

MB = 10**6


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return prepare(tmp_path, None)


def order_of(space: Workspace, batches: tuple[int, ...], enough: int | None = None) -> ProbeOrder:
    worker = WorkerOrder.model_validate_json((space.work / "worker.json").read_bytes())
    one_thread = worker.plan.threads.model_copy(update={"value": 1})
    plan = worker.plan.model_copy(update={"threads": one_thread})
    return ProbeOrder(plan=plan, files=worker.files, batches=batches, most_share=0.8, devices=1, enough=enough)


def probed(space: Workspace, order: ProbeOrder, limit: str = "unlimited") -> list[Tried]:
    folder = space.work / "probe"
    folder.mkdir()
    space.save("work/probe/probe.json", order)
    command = f"ulimit -d {limit} && exec {sys.executable} -m mmtrain.engine.probe {folder}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [Tried.model_validate_json(line) for line in (folder / "probe.jsonl").read_bytes().splitlines()]


def test_every_batch_is_measured_until_enough_is_known(space: Workspace) -> None:
    one, two = probed(space, order_of(space, (1, 2)))
    assert (one.batch, two.batch) == (1, 2)
    assert one.peak_bytes is not None
    assert two.peak_bytes is not None
    assert 50 * MB < one.empty_bytes < one.peak_bytes <= two.peak_bytes
    assert one.limit_bytes == memory_limit().size_bytes
    assert not list(space.work.rglob("*.pth"))
    assert not list(space.work.rglob("events.out.tfevents.*"))


def test_what_is_too_much_is_an_answer(space: Workspace) -> None:
    """A picture of 8192 pixels: 200 million numbers at the first layer alone."""
    order = order_of(space, (1, 2))
    large = order.plan.imgsz.model_copy(update={"value": (8192, 8192)})
    plan = order.plan.model_copy(update={"imgsz": large})
    (tried,) = probed(space, order.model_copy(update={"plan": plan}), limit="2000000")
    assert tried.peak_bytes is None
    assert tried.share == float("inf")
    assert tried.problem.startswith("out of memory: ")
    assert tried.limit == "memory limit of the process (ulimit -d)"


def test_it_is_the_training_without_what_leaves_files(space: Workspace) -> None:
    order = order_of(space, (1,))
    config = probe_config(order, 3, space.work)
    assert config.model == probe_config(order, 1, space.work).model
    assert config.train_dataloader.batch_size == 3
    assert config.train_dataloader.sampler.iterations == 3
    assert probe_config(order, 1, space.work).train_dataloader.sampler.iterations == 8  # for a mosaic
    assert config.val_dataloader is None
    assert config.default_hooks.checkpoint is None


class Pictures(list[int]):
    """Of so many objects each."""

    def get_data_info(self, index: int) -> dict[str, list[SimpleNamespace]]:
        return {"instances": [SimpleNamespace()] * self[index]}


def test_the_fullest_pictures_are_taken_again_and_again() -> None:
    pictures = Pictures([1, 5, 0, 7, 5])
    assert heaviest(pictures, 3) == [3, 1, 4]
    assert heaviest(Pictures(range(20_000)), 1)[0] == 19_999
    sampler = HeaviestSampler(pictures, batch=2, iterations=3)
    assert list(sampler) == [3, 1, 3, 1, 3, 1]
    assert len(sampler) == 6
    assert orjson.dumps(heaviest(pictures, 9)) == b"[3,1,4,0,2]"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("could not create a primitive", OutOfMemory),
        ("could not create a memory object", OutOfMemory),
        ("could not create a primitive descriptor for a convolution", FrameworkError),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes", OutOfMemory),
    ],
)
def test_a_lack_of_memory_is_told_from_what_onednn_cannot_do(said: str, kind: type[JobError]) -> None:
    assert type(classify(RuntimeError(said))) is kind

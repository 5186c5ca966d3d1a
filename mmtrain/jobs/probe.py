"""``batch: auto``: how many images at a time fit, found out by training with a few in a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmtrain import choices
from mmtrain.choices.batches import MOST_SHARE, MOST_TIMES
from mmtrain.config.files import DatasetFiles
from mmtrain.engine.launch import worker_environment
from mmtrain.engine.order import PROBE, PROBED, ProbeOrder, Tried
from mmtrain.engine.supervise import end_tree
from mmtrain.machine import memory_limit
from mmtrain.plan import TrainPlan
from mmtrain.recipes import load_recipe
from trainer_sdk.errors import OutOfMemory
from trainer_sdk.session import JobSession

FOLDER = "probe"
LOG = "probe.log"
MOST_S = 300.0
"""For all batches. What was measured until then decides."""


class Measured(NamedTuple):
    """The answer: the total over all devices, and what it is based on."""

    batch: int
    reason: str


def measured_batch(plan: TrainPlan, files: DatasetFiles, session: JobSession, *, streaming: bool) -> Measured | None:
    """The largest batch that leaves some of the memory.

    Args:
        plan: with the recipe's batch.

    Returns:
        None when nothing could be measured; the log says why.

    Raises:
        OutOfMemory: not even the fewest images fit.
    """
    started = time.monotonic()
    devices = plan.devices
    usual, least = plan.batch.value // devices, load_recipe(plan.recipe, plan.task).least_batch
    batches = choices.batches_to_try(usual, least, plan.iters_per_epoch.value, gpu=bool(plan.gpus))
    session.log("measuring how many images at a time the memory allows")
    tried = _probe(plan, files, batches, session, streaming=streaming)
    if tried and tried[0].share > MOST_SHARE and batches[0] > least:
        smaller = choices.smaller_batches(batches[0], least)
        tried = [*_probe(plan, files, smaller, session, streaming=streaming), *tried]
    if not tried:
        session.log(
            f"memory could not be measured, see work/{FOLDER}/{LOG}: the batch is the recipe's", level="WARNING"
        )
        return None
    sure = not plan.gpus and tried[-1].suffices_for(usual, MOST_SHARE)
    each = usual if sure else most_that_fits(tried)
    if each is None:
        raise OutOfMemory(
            f"not even {tried[0].batch} image(s) at a time fit: {in_words(tried)}; {tried[0].problem}",
            hint="raise the memory limit, lower imgsz, or choose a smaller model",
        )
    times = f", times {devices} GPUs" if devices > 1 else ""
    limit = _limit_in_words(each, usual, tried[-1], on_gpu=bool(plan.gpus))
    seconds = f"{time.monotonic() - started:.0f} s"
    return Measured(each * devices, f"auto, measured in {seconds}: {in_words(tried)}; {limit}{times}")


def most_that_fits(tried: Sequence[Tried]) -> int | None:
    """The largest below the share; else the smallest that went through at all."""
    fitting = [one.batch for one in tried if one.share <= MOST_SHARE]
    passed = [one.batch for one in tried if one.peak_bytes is not None]
    return max(fitting) if fitting else min(passed, default=None)


def in_words(tried: Sequence[Tried]) -> str:
    """``4 images 3.1 GB, 8 5.2 GB, 16 too much, of 24.0 GB (NVIDIA A10)``."""
    found = [
        f"{one.batch}{' images' if number == 0 else ''} "
        + ("too much" if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.1f} GB")
        for number, one in enumerate(tried)
    ]
    return f"{', '.join(found)}, of {tried[0].limit_bytes / 1e9:.1f} GB ({tried[0].limit})"


def _limit_in_words(each: int, usual: int, last: Tried, *, on_gpu: bool) -> str:
    if not on_gpu and each == usual:
        need = f"{usual} need at most {last.at_most_bytes(usual) / 1e9:.1f} GB, " if last.batch != usual else ""
        return f"{need}more than {usual} gains nothing on a CPU"
    if each == usual * MOST_TIMES:
        return f"more than {MOST_TIMES} times the recipe's batch is not tried"
    return f"{each} is the most below {MOST_SHARE:.0%}"


def _probe(
    plan: TrainPlan, files: DatasetFiles, batches: Sequence[int], session: JobSession, *, streaming: bool
) -> list[Tried]:
    """Results in the order of the batches. One that ended the process did not fit."""
    folder = session.workspace.work / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    order = ProbeOrder(
        plan=_for_one_device(plan),
        files=files,
        batches=tuple(batches),
        most_share=MOST_SHARE,
        devices=plan.devices,
        enough=None if plan.gpus else plan.batch.value,
    )
    session.workspace.save(f"work/{FOLDER}/{PROBE}", order)
    gpus, threads = plan.gpus[:1], plan.threads.value
    environ = worker_environment(session.environ, threads=threads, gpus=gpus, streaming=streaming)
    killed = _run(folder, environ)
    tried = _read(folder / PROBED)
    if killed and len(tried) < len(batches):
        limit = memory_limit()
        problem = f"{batches[len(tried)]} images at a time had the process killed"
        tried.append(Tried(batch=batches[len(tried)], peak_bytes=None, problem=problem, seconds=0.0,
                           limit_bytes=limit.size_bytes, limit=limit.source))  # fmt: skip
    return tried


def _run(folder: Path, environ: dict[str, str]) -> bool:
    """Whether the kernel killed it, which it does for memory."""
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmtrain.engine.probe", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parents[2],
            env=environ,
            start_new_session=True,
        )
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(MOST_S)
    finally:
        end_tree(process)
    return code == -signal.SIGKILL


def _for_one_device(plan: TrainPlan) -> TrainPlan:
    """As each of several processes trains; compiling takes minutes and no more memory; weights change nothing."""
    off = {name: getattr(plan, name).model_copy(update={"value": False}) for name in ("sync_bn", "compile")}
    one = plan.processes.model_copy(update={"value": 1})
    return plan.model_copy(update={"gpus": plan.gpus[:1], "processes": one, "weights_file": None, **off})


def _read(path: Path) -> list[Tried]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [Tried.model_validate_json(line) for line in lines]

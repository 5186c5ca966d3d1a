"""Hands the training to the worker process and listens to it."""

from __future__ import annotations

import functools
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import orjson

from converters import Conversion
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.engine.launch import launch
from mmtrain.engine.messages import Finished, read_news
from mmtrain.engine.order import ERROR, MESSAGES, ORDER, STOP, WorkerOrder
from mmtrain.engine.supervise import supervise
from mmtrain.jobs.access import CACHE_FOLDER, Access
from mmtrain.jobs.identity import facts_of
from mmtrain.jobs.keeping import Keeper
from mmtrain.jobs.memory import PlanFor, keep_decision, with_fewer_at_a_time
from mmtrain.jobs.narrator import Narrator
from mmtrain.jobs.progress import ProgressStore, bring_progress, progress_store
from mmtrain.plan import TrainPlan
from mmtrain.start_checkpoint import FETCHED
from trainer_sdk.errors import OutOfMemory
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession

MOST_RESTARTS = 3


@dataclass(frozen=True)
class Work:
    """All that the worker's training is made of, but for the plan."""

    spec: TrainSpec
    plan_for: PlanFor
    access: Access
    fetched: FetchedDataset
    conversion: Conversion
    session: JobSession
    narrator: Narrator
    files: DatasetFiles
    fingerprint: str


def files_of(access: Access, conversion: Conversion, folder: Path) -> DatasetFiles:
    """The converted data in `folder`."""
    return DatasetFiles(
        images=access.images,
        train=folder / "train.json",
        val=folder / "val.json",
        test=folder / "test.json" if conversion.splits["test"].images else None,
    )


def take_up_work(spec: TrainSpec, fingerprint: str, session: JobSession) -> None:
    """Leaves in ``work/`` what this training can go on from, of an earlier run here or elsewhere, and nothing else."""
    _make_ready(session.workspace.work, fingerprint)
    store = _store(spec, session)
    if store is not None:
        bring_progress(store, fingerprint, session)


def let_worker_train(plan: TrainPlan, work: Work) -> tuple[TrainPlan, Finished]:
    """Trains, from where `take_up_work` found it; with fewer images at a time where memory runs out.

    Returns:
        The plan as it was in the end.

    Raises:
        JobError: whatever the worker ended with, as `supervise`.
    """
    space = work.session.workspace
    store, session = _store(work.spec, work.session), work.session
    work.narrator.remember(read_news(space.work / MESSAGES))
    wait_s = functools.partial(session.patience_s, "upload")
    with Keeper(store, work.fingerprint, space.work, wait_s) if store else nullcontext():
        return _with_what_memory_allows(plan, work)


def _store(spec: TrainSpec, session: JobSession) -> ProgressStore | None:
    return progress_store(session.settings, spec.job_id) if session.nodes.first else None


def _with_what_memory_allows(plan: TrainPlan, work: Work) -> tuple[TrainPlan, Finished]:
    space = work.session.workspace
    restarts = 0
    while True:
        try:
            return plan, _run(plan, work)
        except OutOfMemory as error:
            smaller = with_fewer_at_a_time(plan, work.spec, work.plan_for, error.message)
            if smaller is None or restarts == MOST_RESTARTS:
                _say_what_is_left(plan, error)
                raise
            if work.session.nodes.count > 1:  # each node hears of it at another time, or not at all
                values = f'"batch": {smaller.batch.value}, "accumulate": {smaller.accumulate.value}'
                hint = f"several nodes do not start again together: set {values}, and start the job again"
                raise OutOfMemory(error.message, hint=hint) from error
            restarts += 1
            plan = space.save("plan.json", smaller)
            keep_decision(plan, work.fingerprint, space)
            work.narrator.note(
                f"{error.message}: going on with {plan.batch.value} images at a time, "
                f"{plan.accumulate.value} times a step ({restarts} of {MOST_RESTARTS} restarts)"
            )


def _say_what_is_left(plan: TrainPlan, error: OutOfMemory) -> None:
    """To do, when there will be no fewer images at a time."""
    width, height = plan.imgsz.value
    images = f"{plan.batch.value} image{'s' if plan.batch.value > 1 else ''} of {width} x {height} at a time"
    error.message = f"{error.message}; it happened with {images}"
    error.hint = "raise the memory limit, lower imgsz or workers, or choose a smaller model"


def _run(plan: TrainPlan, work: Work) -> Finished:
    """One worker from its start to its end."""
    folder, nodes = work.session.workspace.work, work.session.nodes
    for name in (ERROR, STOP):
        (folder / name).unlink(missing_ok=True)
    class_ids = [work.conversion.id_map.classes[index].id for index in range(len(work.conversion.class_names))]
    order = WorkerOrder(
        plan=plan,
        files=work.files,
        dataset={"annotations_sha256": work.fetched.sha256, "original_class_ids": class_ids},
        fingerprint=work.fingerprint,
        parent=os.getpid(),
        facts=facts_of(plan, work.files) if nodes.count > 1 else {},
        patience_s=nodes.timeout_s,
    )
    work.session.workspace.save(f"work/{ORDER}", order)
    process = launch(
        folder,
        processes=plan.processes.value,
        threads=plan.threads.value,
        gpus=plan.gpus,
        environ=work.session.environ,
        streaming=work.access.streams,
        nodes=nodes,
    )
    return supervise(
        process,
        folder,
        work.narrator.listen,
        stop=work.session.stop,
        watchdog_s=work.session.settings.watchdog_s if nodes.first else 0.0,  # the others' workers say nothing
        alone=nodes.count == 1,
    )


def _make_ready(work: Path, fingerprint: str) -> None:
    """Keeps an earlier run's work if it was the same training."""
    if _fingerprint_before(work / ORDER) != fingerprint:
        for entry in work.iterdir():
            if entry.name in (CACHE_FOLDER, FETCHED):  # this run's own: it has fetched them already
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _fingerprint_before(order: Path) -> str | None:
    try:
        return str(orjson.loads(order.read_bytes())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

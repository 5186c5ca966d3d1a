"""Whether machine, folders and storages can serve a training, said before the expensive part, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmtrain.choices import choose_device
from mmtrain.jobs.model import fetches_weights
from mmtrain.jobs.needs import disk_needs, gpu_bytes, shm_bytes
from mmtrain.machine import Machine
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.errors import JobError, NetworkError
from trainer_sdk.failures.preconditions import (
    lack_of,
    lack_of_disk,
    raise_together,
    unreadable_storage,
    unwritable,
    unwritable_storage,
)
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession

DISK_HINT = "free space, set WORKSPACE_DIR to a larger volume, or lower checkpoint_keep_max"
SHM_HINT = "raise --shm-size (in Kubernetes: a larger memory volume at /dev/shm), or lower workers, batch or imgsz"
GPU_HINT = "see nvidia-smi for who has the rest, choose another device, or a smaller model"


def check_surroundings(
    spec: TrainSpec,
    recipe: Recipe | None,
    machine: Machine,
    session: JobSession,
    unasked: NetworkError | None = None,
) -> None:
    """Before anything is moved.

    Args:
        recipe: None while the data have to choose it.
        unasked: why the storage of checkpoints could not be asked for an earlier run.

    Raises:
        ResourceError: a folder that cannot be written, too little disk or GPU memory.
        NetworkError: a storage that cannot be reached, read or written.
    """
    problems = [*_folders(spec, recipe, session), *_storages(spec, session, unasked)]
    if recipe is not None:
        problems += _sizes(spec, recipe, machine, session)
    raise_together(problems)


def check_plan(spec: TrainSpec, plan: TrainPlan, recipe: Recipe, machine: Machine, session: JobSession) -> None:
    """Before the worker starts, with all that is decided. Raises: ResourceError."""
    hint = SHM_HINT if plan.workers.value else ""
    why = f"{plan.workers.value} workers x 2 batches of {plan.batch.value} images"
    shm = lack_of("shared memory at /dev/shm", shm_bytes(plan), machine.shm_free_bytes, why=why, hint=hint)
    raise_together([*([shm] if shm else []), *_sizes(spec, recipe, machine, session)])


def disk_to_keep(spec: TrainSpec, recipe: Recipe, work: Path) -> dict[str, int]:
    """What the training still needs below the work folder: less what an earlier run of it left there."""
    needs = disk_needs(recipe, spec.config)
    there = sum(path.stat().st_size for path in work.glob("*.pth"))
    return needs | ({"less what is there": -there} if there else {})


def _folders(spec: TrainSpec, recipe: Recipe | None, session: JobSession) -> Iterator[JobError]:
    settings = session.settings
    wanted = {settings.workspace_dir: "WORKSPACE_DIR"}
    if spec.dataset.path is None:
        wanted[settings.dataset_cache_dir] = "DATASET_CACHE_DIR"
    if recipe is not None and fetches_weights(spec, recipe, settings):
        wanted[settings.weights_cache_dir] = "XDG_CACHE_HOME"
    yield from filter(None, (unwritable(folder, variable) for folder, variable in wanted.items()))


def _storages(spec: TrainSpec, session: JobSession, unasked: NetworkError | None) -> Iterator[JobError]:
    settings = session.settings
    if unasked is not None:
        yield unasked
    elif settings.checkpoints.from_environment and session.nodes.first:
        prefix = f"checkpoints/{spec.job_id}/"
        if problem := unwritable_storage(settings.checkpoints, prefix, session.workspace.folder):
            yield problem
    if spec.dataset.path is None:
        problem = unreadable_storage(settings.datasets, spec.dataset.bucket, spec.dataset.prefix or "")
        if problem:
            yield problem


def _sizes(spec: TrainSpec, recipe: Recipe, machine: Machine, session: JobSession) -> Iterator[JobError]:
    work = session.workspace.work
    if problem := lack_of_disk(work, disk_to_keep(spec, recipe, work), hint=DISK_HINT):
        yield problem
    gpus = choose_device(spec.config, machine)[1]
    for gpu in gpus if machine.gpu_free_bytes else ():
        why = f"{recipe.name} with its optimizer, before the first image"
        free_bytes = machine.gpu_free_bytes[gpu]
        if lack := lack_of(f"memory of GPU {gpu}", gpu_bytes(recipe, spec.config), free_bytes, why=why, hint=GPU_HINT):
            yield lack

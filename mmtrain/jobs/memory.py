"""How many images at a time the memory allows: measured before a training, or learnt when it ran out.

Either is kept in ``work/memory.json``, so that a job that goes on does so with the same batches.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, ValidationError

from mmtrain.choices import Decided
from mmtrain.config.files import DatasetFiles
from mmtrain.jobs.probe import measured_batch
from mmtrain.plan import TrainPlan
from mmtrain.recipes import load_recipe
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession
from trainer_sdk.workspace import Workspace

MEMORY = "memory.json"

PlanFor = Callable[[TrainSpec], TrainPlan]
"""The same data, machine and recipe, another request."""


class MemoryDecision(BaseModel):
    """``work/memory.json``."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    """Of the training it is for."""
    batch: Decided[int]
    accumulate: Decided[int]


def as_memory_allows(
    asked: TrainPlan,
    spec: TrainSpec,
    plan_for: PlanFor,
    files: DatasetFiles,
    fingerprint: str,
    session: JobSession,
    *,
    streaming: bool,
) -> TrainPlan:
    """The plan as an earlier run of the job went on with it, or, for `batch: auto`, with what was measured.

    Args:
        asked: the plan as the request has it.

    Raises:
        OutOfMemory: not even the fewest images fit.
    """
    if asked.nodes.value > 1:  # each would measure for itself
        return asked
    earlier = _decided_before(session.workspace, fingerprint)
    if earlier is not None:
        try:
            return _replanned(spec, plan_for, earlier.batch, earlier.accumulate)
        except ConfigError as error:
            session.log(f"the batch of the earlier run is not for this machine: {error.message}", level="WARNING")
    several_on_a_cpu = asked.devices > 1 and not asked.gpus  # they share the memory that is measured
    if spec.config.batch != "auto" or several_on_a_cpu:
        return asked
    measured = measured_batch(asked, files, session, streaming=streaming)
    if measured is None:
        return asked
    batch = Decided[int](value=measured.batch, origin="machine", reason=measured.reason)
    plan = _replanned(spec, plan_for, batch, asked.accumulate)
    keep_decision(plan, fingerprint, session.workspace)
    return plan


def keep_decision(plan: TrainPlan, fingerprint: str, space: Workspace) -> None:
    """For the next run of the job."""
    decision = MemoryDecision(fingerprint=fingerprint, batch=plan.batch, accumulate=plan.accumulate)
    space.save(f"work/{MEMORY}", decision)


def with_fewer_at_a_time(plan: TrainPlan, spec: TrainSpec, plan_for: PlanFor, why: str) -> TrainPlan | None:
    """At most half the batch, and as many more batches in each step: learning rate and schedule stay.

    Args:
        why: what the machine said.

    Returns:
        None when no device can have fewer.
    """
    devices = plan.devices
    each = plan.batch.value // devices
    least = load_recipe(plan.recipe, plan.task).least_batch
    fewer = max((count for count in range(least, each // 2 + 1) if each % count == 0), default=0)
    if not fewer:
        return None
    batch, accumulate = fewer * devices, plan.accumulate.value * (each // fewer)
    return _replanned(
        spec,
        plan_for,
        Decided(value=batch, origin="machine", reason=f"{plan.batch.value} did not fit into memory: {why}"),
        Decided(value=accumulate, origin="machine", reason=f"a step still has {batch * accumulate} images"),
    )


def _decided_before(space: Workspace, fingerprint: str) -> MemoryDecision | None:
    try:
        decision = MemoryDecision.model_validate_json((space.work / MEMORY).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return decision if decision.fingerprint == fingerprint else None


def _replanned(spec: TrainSpec, plan_for: PlanFor, batch: Decided[int], accumulate: Decided[int]) -> TrainPlan:
    """Raises: ConfigError for a batch that this machine's devices cannot share."""
    numbers = {"batch": batch.value, "accumulate": accumulate.value}
    plan = plan_for(spec.model_copy(update={"config": spec.config.model_copy(update=numbers)}))
    return plan.model_copy(update={"batch": batch, "accumulate": accumulate})

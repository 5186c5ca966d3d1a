"""What a training goes on with whose memory ran out."""

from __future__ import annotations

from collections.abc import Callable

from mmtrain.choices import Decided
from mmtrain.plan import TrainPlan
from trainer_sdk.jobspec import TrainSpec

PlanFor = Callable[[TrainSpec], TrainPlan]
"""The same data, machine and recipe, another request."""


def with_fewer_at_a_time(plan: TrainPlan, spec: TrainSpec, plan_for: PlanFor, why: str) -> TrainPlan | None:
    """At most half the batch, and as many more batches in each step: learning rate and schedule stay.

    Args:
        why: what the machine said.

    Returns:
        None when every device has but one image at a time.
    """
    devices = max(1, len(plan.gpus))
    each = plan.batch.value // devices
    fewer = max((count for count in range(1, each // 2 + 1) if each % count == 0), default=0)
    if not fewer:
        return None
    batch, accumulate = fewer * devices, plan.accumulate.value * (each // fewer)
    return _with_batch(
        plan_for(_asking(spec, batch=batch, accumulate=accumulate)),
        batch=f"{plan.batch.value} did not fit into memory: {why}",
        accumulate=f"a step still has {batch * accumulate} images",
    )


def _asking(spec: TrainSpec, **values: int) -> TrainSpec:
    return spec.model_copy(update={"config": spec.config.model_copy(update=values)})


def _with_batch(plan: TrainPlan, **reasons: str) -> TrainPlan:
    decided = {
        name: Decided(value=getattr(plan, name).value, origin="machine", reason=reason)
        for name, reason in reasons.items()
    }
    return plan.model_copy(update=decided)

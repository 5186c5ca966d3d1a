"""Checkpoints that say what they are: usable years later, on another machine, without this repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmtrain.plan import TrainPlan
from mmtrain.versions import versions

FORMAT = "openmmlab-trainer/1"


def describe(plan: TrainPlan, config_text: str, dataset: dict[str, Any]) -> dict[str, Any]:
    """Plain values only: a checkpoint with them still loads with `weights_only=True`."""
    return {
        "format": FORMAT,
        "task": plan.task.value,
        "recipe": plan.recipe,
        "classes": list(plan.class_names),
        "input_size_wh": list(plan.imgsz.value),
        "primary_metric": plan.primary_metric.value,
        "dataset": dataset,
        "config": config_text,
        "versions": versions(),
    }


def publish_weights(source: Path, target: Path, description: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the weights of a training checkpoint with their description, without the optimizer's state.

    Upstream's tools read `meta.dataset_meta` and `meta.cfg`; the rest of MMEngine's meta holds objects that only
    an unpickler of arbitrary code can load, so it stays behind.
    """
    # Our own file, written a moment ago by this process: it may be unpickled.
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    meta = {
        "trainer": description | facts,
        "dataset_meta": {"classes": description["classes"]},
        "cfg": description["config"],
        "epoch": facts["epoch"],
    }
    _save({"meta": meta, "state_dict": dict(checkpoint["state_dict"])}, target)


def publish_resumable(source: Path, target: Path, facts: dict[str, Any]) -> None:
    """Writes a training checkpoint whole (optimizer, schedule, EMA), so that a training can go on from it."""
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    checkpoint["meta"]["trainer"] |= facts
    _save(checkpoint, target)


def _save(checkpoint: dict[str, Any], target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    torch.save(checkpoint, temporary)
    temporary.replace(target)

"""Checkpoints that say what they are: usable years later, on another machine, without this repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.saving import save_atomically
from mmtrain.plan import TrainPlan
from mmtrain.versions import versions

FORMAT = "openmmlab-trainer/1"


def describe(plan: TrainPlan, config_text: str, dataset: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Plain values only: a checkpoint with them still loads with `weights_only=True`.

    Args:
        fingerprint: of the training, by which it knows its own checkpoints.
    """
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "task": plan.task.value,
        "recipe": plan.recipe,
        "classes": list(plan.class_names),
        "keypoints": list(plan.keypoints.names) if plan.keypoints else None,
        "input_size_wh": list(plan.imgsz.value),
        "primary_metric": plan.primary_metric.value,
        "dataset": dataset,
        "config": config_text,
        "versions": versions(),
    }


def publish_weights(source: Path, target: Path, description: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the weights of a training checkpoint with their description, without the optimizer's state.

    Upstream's tools read `meta.dataset_meta` and `meta.cfg`; the rest of MMEngine's meta is about the training, so it
    stays behind.
    """
    checkpoint = load_checkpoint_safely(source)
    meta = {
        "trainer": description | facts,
        "dataset_meta": {"classes": description["classes"]},
        "cfg": description["config"],
        "epoch": facts["epoch"],
    }
    save_atomically({"meta": meta, "state_dict": dict(checkpoint["state_dict"])}, target)


def publish_resumable(source: Path, target: Path, facts: dict[str, Any]) -> None:
    """Writes a training checkpoint whole (optimizer, schedule, EMA), so that a training can go on from it.

    Loaded as any other job will load it: a state that could not be is noticed here.
    """
    checkpoint = load_checkpoint_safely(source)
    checkpoint["meta"]["trainer"] |= facts
    save_atomically(checkpoint, target)


def publish_curves(work_dir: Path, target: Path) -> None:
    """Copies TensorBoard's event files of all runs of a job."""
    target.mkdir(parents=True, exist_ok=True)
    for file in work_dir.glob("*/vis_data/events.out.tfevents.*"):
        shutil.copy2(file, target / file.name)

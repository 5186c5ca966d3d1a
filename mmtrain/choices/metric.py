"""The number that says which checkpoint is best."""

from __future__ import annotations

from mmtrain.choices.decided import Decided
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, JobError
from trainer_sdk.tasks import Task

_BOXES = {
    "map50": "coco/bbox_mAP_50", "map@0.5": "coco/bbox_mAP_50", "bbox_map_50": "coco/bbox_mAP_50",
    "map50-95": "coco/bbox_mAP", "map@0.5:0.95": "coco/bbox_mAP", "map": "coco/bbox_mAP", "bbox_map": "coco/bbox_mAP",
    "map75": "coco/bbox_mAP_75", "map@0.75": "coco/bbox_mAP_75", "bbox_map_75": "coco/bbox_mAP_75",
    "map50(b)": "coco/bbox_mAP_50", "map50-95(b)": "coco/bbox_mAP",
}  # fmt: skip
_MASKS = {
    **{name.replace("bbox", "segm"): metric.replace("bbox", "segm") for name, metric in _BOXES.items()},
    **{name: metric for name, metric in _BOXES.items() if name.startswith("bbox") or name.endswith("(b)")},
    "map50(m)": "coco/segm_mAP_50", "map50-95(m)": "coco/segm_mAP",
    "map@0.5(m)": "coco/segm_mAP_50", "map@0.5:0.95(m)": "coco/segm_mAP", "map@0.75(m)": "coco/segm_mAP_75",
}  # fmt: skip
PRIMARY_METRICS: dict[Task, dict[str, str]] = {
    Task.DETECTION: _BOXES,
    Task.INSTANCE: _MASKS,
    Task.SEMANTIC: {
        "miou": "mIoU", "iou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "accuracy": "aAcc",
        "mdice": "mDice", "dice": "mDice",
    },
    Task.POSE: {
        "map50": "coco/AP .5", "map@0.5": "coco/AP .5", "ap50": "coco/AP .5", "ap .5": "coco/AP .5",
        "map75": "coco/AP .75", "ap75": "coco/AP .75", "ap .75": "coco/AP .75",
        "map": "coco/AP", "map50-95": "coco/AP", "map@0.5:0.95": "coco/AP", "ap": "coco/AP", "oks": "coco/AP",
        "oks-ap": "coco/AP", "oks-ap@0.5": "coco/AP .5", "oks-ap@0.75": "coco/AP .75",
        "ar": "coco/AR", "oks-ar": "coco/AR", "recall": "coco/AR",
    },
}  # fmt: skip
"""The platform's, the report's and upstream's names for a metric, small -> upstream's."""
NOT_CHOSEN = {("loss", "min"), ("loss", None)}
"""What the platform sends where it has no default (contract 3.1): nobody chose it, and mm* has no such metric."""


def primary_metric(config: TrainConfig, recipe: Recipe) -> Decided[str]:
    """The metric that chooses the best checkpoint, under MMDetection's name (``coco/bbox_mAP``)."""
    asked = config.primary_metric
    if asked is None or (asked, config.primary_metric_mode) in NOT_CHOSEN:
        return Decided(value=recipe.primary_metric, origin="recipe", reason="the task's main metric")
    name = PRIMARY_METRICS[recipe.task].get(asked.lower().removeprefix("coco/"))
    if name is None:
        raise _unknown_metric(asked, recipe)
    if config.primary_metric_mode == "min":
        raise ConfigError(f"primary_metric_mode='min' with {asked!r}", hint="it is better when larger")
    return Decided(value=name, origin="request", reason=f"asked for as {asked!r}")


def _unknown_metric(asked: str, recipe: Recipe) -> JobError:
    known = dict.fromkeys(PRIMARY_METRICS[recipe.task].values())
    return ConfigError(
        f"primary_metric={asked!r} is not measured for {recipe.task.value}",
        hint=f"choose one of {', '.join(known)}, or leave it out for {recipe.primary_metric}",
    )

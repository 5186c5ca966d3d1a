"""One metric, three names: upstream's while training, the report's, and what the platform's UI draws."""

from __future__ import annotations

from collections.abc import Mapping

from trainer_sdk.events import Numbers
from trainer_sdk.tasks import Task

REPORT_NAMES = {
    "bbox_mAP": "mAP@0.5:0.95",
    "bbox_mAP_50": "mAP@0.5",
    "bbox_mAP_75": "mAP@0.75",
    "segm_mAP": "mAP@0.5:0.95(M)",
    "segm_mAP_50": "mAP@0.5(M)",
    "segm_mAP_75": "mAP@0.75(M)",
    "mIoU": "mIoU",
    "mAcc": "mAcc",
    "aAcc": "aAcc",
    "mDice": "mDice",
    "AP": "OKS-AP",
    "AP .5": "OKS-AP@0.5",
    "AP .75": "OKS-AP@0.75",
    "AR": "OKS-AR",
    "PCK": "PCK@0.2",
}
UI_NAMES = {
    "bbox_mAP": "mAP50-95(B)",
    "bbox_mAP_50": "mAP50(B)",
    "segm_mAP": "mAP50-95(M)",
    "segm_mAP_50": "mAP50(M)",
    "PCK": "PCK",
}


POSE_NAMES = ("AP", "AP .5", "AP .75", "AR")
IN_POINTS = frozenset({"mIoU", "mAcc", "aAcc", "mDice"})
"""MMSegmentation's go from 0 to 100; ours, like all others, to 1."""


def mm_metric_names(task: Task) -> tuple[str, ...]:
    """What upstream measures for a task, as far as we know names for it."""
    if task is Task.SEMANTIC:
        return tuple(sorted(IN_POINTS))
    if task is Task.POSE:
        return tuple(f"coco/{name}" for name in POSE_NAMES)
    kinds = ("bbox", "segm") if task is Task.INSTANCE else ("bbox",)
    return tuple(f"coco/{name}" for name in REPORT_NAMES if name.startswith(kinds))


def report_name(mm_name: str) -> str:
    """``coco/bbox_mAP`` -> ``mAP@0.5:0.95``."""
    return REPORT_NAMES[mm_name.removeprefix("coco/")]


def report_metrics(mm_metrics: Numbers) -> Numbers:
    """A validation's numbers under the report's names, as fractions."""
    return _renamed(mm_metrics, REPORT_NAMES)


def ui_metrics(mm_metrics: Numbers) -> Numbers:
    """The same, and again under the UI's names."""
    return report_metrics(mm_metrics) | _renamed(mm_metrics, UI_NAMES)


def _renamed(mm_metrics: Numbers, names: Mapping[str, str]) -> Numbers:
    """MMDetection writes -1 for "nothing to measure"."""
    numbers: Numbers = {}
    for mm_name, value in mm_metrics.items():
        short = mm_name.removeprefix("coco/")
        if short in names:
            known = None if value is None or value < 0 else value
            numbers[names[short]] = known / 100 if known is not None and short in IN_POINTS else known
    return numbers


def per_class_ap(mm_metrics: Numbers, class_names: tuple[str, ...]) -> dict[str, Numbers]:
    """AP 50:95 of each class, of the last geometry measured (masks where there are masks)."""
    found = {name: mm_metrics[key] for name in class_names if (key := f"coco/{name}_precision") in mm_metrics}
    return {name: {"ap_50_95": value if value is not None and value >= 0 else None} for name, value in found.items()}

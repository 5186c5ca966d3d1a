"""One metric, three names: MMDetection's while training, the report's, and what the platform's UI draws."""

from __future__ import annotations

from trainer_sdk.events import Numbers
from trainer_sdk.tasks import Task

REPORT_NAMES = {
    "bbox_mAP": "mAP@0.5:0.95",
    "bbox_mAP_50": "mAP@0.5",
    "bbox_mAP_75": "mAP@0.75",
    "segm_mAP": "mAP@0.5:0.95(M)",
    "segm_mAP_50": "mAP@0.5(M)",
    "segm_mAP_75": "mAP@0.75(M)",
}
UI_NAMES = {
    "bbox_mAP": "mAP50-95(B)",
    "bbox_mAP_50": "mAP50(B)",
    "segm_mAP": "mAP50-95(M)",
    "segm_mAP_50": "mAP50(M)",
}


def mm_metric_names(task: Task) -> tuple[str, ...]:
    """What MMDetection measures for a task, as far as we know names for it."""
    kinds = ("bbox", "segm") if task is Task.INSTANCE else ("bbox",)
    return tuple(f"coco/{name}" for name in REPORT_NAMES if name.startswith(kinds))


def report_name(mm_name: str) -> str:
    """``coco/bbox_mAP`` -> ``mAP@0.5:0.95``."""
    return REPORT_NAMES[mm_name.removeprefix("coco/")]


def ui_metrics(mm_metrics: Numbers) -> Numbers:
    """A validation's numbers under the report's and the UI's names; MMDetection writes -1 for "nothing to measure"."""
    numbers: Numbers = {}
    for name, value in mm_metrics.items():
        short = name.removeprefix("coco/")
        known = None if value is None or value < 0 else value
        for names in (REPORT_NAMES, UI_NAMES):
            if short in names:
                numbers[names[short]] = known
    return numbers


def per_class_ap(mm_metrics: Numbers, class_names: tuple[str, ...]) -> dict[str, Numbers]:
    """AP 50:95 of each class, of the last geometry measured (masks where there are masks)."""
    found = {name: mm_metrics.get(f"coco/{name}_precision") for name in class_names}
    return {name: {"ap_50_95": value if value is not None and value >= 0 else None} for name, value in found.items()}

"""What the platform's UI offers: models, tasks, data set formats and metrics of a framework (contract 3.6).

The platform looks for ``<trainers>/<framework>/capabilities.json`` on its disk, which is the top of this repository,
and for ``model-capabilities/<framework>.json`` in its bucket ``config-schemas``, which the folder ``schemas`` mirrors.
A recipe belongs to the OpenMMLab package its configuration comes from, and to `openmm`, which is all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmtrain.choices import PRIMARY_METRICS
from mmtrain.recipes import Recipe, all_recipes, spellings_of
from mmtrain.versions import trainer_version
from trainer_sdk.tasks import TASK_ALIASES, Task

ALL = "openmm"
FRAMEWORKS = {
    ALL: ("OpenMMLab", "Detection, instance and semantic segmentation and poses with OpenMMLab's models."),
    "mmdet": ("MMDetection", "Boxes and instance masks with OpenMMLab's MMDetection."),
    "mmseg": ("MMSegmentation", "Class maps with OpenMMLab's MMSegmentation."),
    "mmpose": ("MMPose", "Keypoints with OpenMMLab's MMPose."),
}
TASKS = {
    Task.DETECTION: ("Object detection", "a box for each object"),
    Task.INSTANCE: ("Instance segmentation", "a box and a mask for each object"),
    Task.SEMANTIC: ("Semantic segmentation", "a class for each pixel"),
    Task.POSE: ("Pose estimation", "keypoints of each object"),
}
FORMATS = (
    ("dice", "DICE", "the platform's own, nested or COCO-like, and its ancestor v0.9"),
    ("coco", "COCO", "one annotation file, or one for each split"),
)
METRICS: dict[Task, dict[str, tuple[str, str]]] = {
    Task.DETECTION: {
        "mAP50-95": ("mAP 50:95", "average precision of boxes, mean over IoU 0.5 to 0.95"),
        "mAP50": ("mAP 50", "average precision of boxes at IoU 0.5"),
        "mAP75": ("mAP 75", "average precision of boxes at IoU 0.75"),
    },
    Task.INSTANCE: {
        "mAP50-95": ("mask mAP 50:95", "average precision of masks, mean over IoU 0.5 to 0.95"),
        "mAP50": ("mask mAP 50", "average precision of masks at IoU 0.5"),
        "mAP75": ("mask mAP 75", "average precision of masks at IoU 0.75"),
        "bbox_mAP": ("box mAP 50:95", "average precision of boxes, mean over IoU 0.5 to 0.95"),
        "bbox_mAP_50": ("box mAP 50", "average precision of boxes at IoU 0.5"),
    },
    Task.SEMANTIC: {
        "mIoU": ("mIoU", "intersection over union, mean over the classes"),
        "mDice": ("mean Dice", "Dice coefficient, mean over the classes"),
        "mAcc": ("mean accuracy", "share of right pixels of a class, mean over the classes"),
        "aAcc": ("accuracy", "share of right pixels"),
    },
    Task.POSE: {
        "AP": ("OKS AP", "average precision of poses, mean over OKS 0.5 to 0.95"),
        "AP50": ("OKS AP 50", "average precision of poses at OKS 0.5"),
        "AP75": ("OKS AP 75", "average precision of poses at OKS 0.75"),
        "AR": ("OKS AR", "average recall of poses, mean over OKS 0.5 to 0.95"),
    },
}
"""The names that a request may use, the task's usual one first; all are better when larger."""


def frameworks() -> tuple[str, ...]:
    """Those that there are recipes for."""
    return tuple(name for name in FRAMEWORKS if recipes_of(name))


def recipes_of(framework: str) -> tuple[Recipe, ...]:
    """In the order of their tasks."""
    return tuple(recipe for recipe in all_recipes() if framework in (ALL, recipe.base.partition("::")[0]))


def capabilities(framework: str) -> dict[str, Any]:
    """The document."""
    title, description = FRAMEWORKS[framework]
    recipes = recipes_of(framework)
    tasks = [task for task in TASKS if any(recipe.task is task for recipe in recipes)]
    return {
        "framework": framework,
        "display_name": title,
        "description": description,
        "version": trainer_version(),
        "models": [_model(recipe, recipes) for recipe in recipes],
        "task_types": [
            {"name": _short(task), "display_name": TASKS[task][0], "description": TASKS[task][1], "supported": True}
            for task in tasks
        ],
        "dataset_formats": [
            {"name": name, "display_name": shown, "description": text, "supported": True}
            for name, shown, text in FORMATS
        ],
        "metric_candidates_by_task": {name: _metrics(task) for task in tasks for name in (_short(task), task.value)},
    }


def _short(task: Task) -> str:
    """The family of names that the UI has in its lists (contract 3.4)."""
    return next(name for name, known in TASK_ALIASES.items() if known is task)


def _model(recipe: Recipe, among: Sequence[Recipe]) -> dict[str, Any]:
    title, _, text = recipe.summary.partition(": ")
    defaults, score = recipe.defaults, recipe.published.score
    published = {f"{score[0]} ({recipe.published.dataset})": score[1]} if score else {}
    return {
        "model_name": model_name(recipe, among),
        "display_name": title,
        "task_types": [_short(recipe.task)],
        "description": text[:1].upper() + text[1:],
        "supported": True,
        "parameters": {
            "params_m": recipe.published.params_m,
            "published": published,
            "weights_license": recipe.weights.license if recipe.weights else None,
            "imgsz": list(defaults.imgsz),
            "epochs": defaults.epochs,
            "batch": defaults.batch,
            "lr0": defaults.lr0,
            "optimizer": defaults.optimizer,
            "exports": list(recipe.exports),
        },
    }


def model_name(recipe: Recipe, among: Sequence[Recipe]) -> str:
    """The recipe's name, or the first alias that stands for no other: the UI sends the name and hopes for the task.

    Raises:
        ValueError: every spelling is another one's too.
    """
    taken = {spelling for other in among if other is not recipe for spelling in spellings_of(other)}
    for name in (recipe.name, *recipe.aliases):
        if name.lower().replace("_", "-") not in taken:
            return name
    raise ValueError(f"{recipe.name} ({recipe.task.value}) has no spelling of its own")


def _metrics(task: Task) -> list[dict[str, str]]:
    assert {name.lower() for name in METRICS[task]} <= PRIMARY_METRICS[task].keys()
    return [
        {"value": name, "label": label, "mode": "max", "description": description}
        for name, (label, description) in METRICS[task].items()
    ]

"""What to train on a data set, with which model and at which input size; rules in tables, a reason for each answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mmtrain.datasets.profile import DatasetProfile
from mmtrain.recipes import Recipe, all_recipes
from trainer_sdk.tasks import Task

SEEN_FROM_PX = 8
"""One cell of the finest feature map of RTMDet and YOLO heads (stride 8): smaller objects share a cell's features."""
STRIDE = 32
SMALLEST, LARGEST = 320, 1280
"""Beyond four times the pixels of 640, and so four times the memory and time, cutting images into tiles is better."""
COCO_LONG_SIDE_PX = 640
"""Images of COCO, which the recipes' default sizes were made for, are not longer than this."""
WORTH_LESS = 0.7
"""A smaller input than the usual one is worth it from half the pixels on."""
FEW_IMAGES = 1000


class Trainable(BaseModel):
    """A task, whether the labels allow it, and the models there are for it."""

    model_config = ConfigDict(frozen=True)

    task: Task
    possible: bool
    reason: str
    models: tuple[str, ...]


class Recommendation(BaseModel):
    """Where to start; None where there is no model for the task yet."""

    model_config = ConfigDict(frozen=True)

    task: Task
    task_reason: str
    model: str | None = None
    model_reason: str = ""
    imgsz: tuple[int, int] | None = None
    imgsz_reason: str = ""


class LabelRule(NamedTuple):
    """A task and the labels it learns from."""

    task: Task
    has: Callable[[DatasetProfile], bool]
    because: str
    otherwise: str


class ModelRule(NamedTuple):
    """A model, when to take it and why."""

    task: Task
    model: str
    applies: Callable[[DatasetProfile], bool]
    because: str


LABEL_RULES = (
    LabelRule(Task.POSE, lambda p: p.has_keypoints, "there are keypoints", "no annotation has keypoints"),
    LabelRule(Task.INSTANCE, lambda p: p.has_masks, "there are masks", "no annotation has a mask"),
    LabelRule(
        Task.SEMANTIC,
        lambda p: p.has_masks or p.has_mask_files,
        "there are masks, or polygons to draw them from",
        "no annotation has a mask and no image a mask file",
    ),
    LabelRule(
        Task.DETECTION,
        lambda p: p.has_boxes or p.has_masks or p.has_keypoints,
        "there are boxes, or shapes to take them from",
        "no annotation has a box, polygon or keypoints",
    ),
)  # fmt: skip
"""Richest labels first: the first task that is possible and has a model is recommended."""

MODEL_RULES = (
    ModelRule(
        Task.POSE, "rtmpose-t", lambda p: p.images["train"] < FEW_IMAGES, "small and fast, and enough for few images"
    ),
    ModelRule(Task.POSE, "rtmpose-s", lambda p: True, "enough images for a model four points better on COCO"),
    ModelRule(
        Task.INSTANCE,
        "rtmdet-ins-tiny",
        lambda p: p.images["train"] < FEW_IMAGES,
        f"under {FEW_IMAGES} training images a small model loses little; its masks are those of Mask R-CNN, "
        "for an eighth of the weights",
    ),
    ModelRule(Task.INSTANCE, "rtmdet-ins-s", lambda p: True, "enough images for a model three points better on COCO"),
    ModelRule(
        Task.SEMANTIC,
        "deeplabv3plus-r18",
        lambda p: p.images["train"] < FEW_IMAGES,
        f"under {FEW_IMAGES} training images a small model loses little, and its weights have a free licence",
    ),
    ModelRule(Task.SEMANTIC, "deeplabv3plus-r50", lambda p: True, "enough images for the larger one of the family"),
    ModelRule(
        Task.DETECTION,
        "rtmdet-tiny",
        lambda p: p.images["train"] < FEW_IMAGES,
        f"under {FEW_IMAGES} training images a small model loses little and is trained in minutes",
    ),
    ModelRule(Task.DETECTION, "rtmdet-s", lambda p: True, "enough images for a model three points better on COCO"),
)
"""The first that applies and has a recipe; other models are for who has a reason."""


def trainable(profile: DatasetProfile) -> tuple[Trainable, ...]:
    """Every task with labels that could serve it."""
    answers = []
    for rule in LABEL_RULES:
        possible = rule.has(profile)
        models = tuple(recipe.name for recipe in all_recipes() if recipe.task is rule.task)
        reason = rule.because if possible else rule.otherwise
        answers.append(Trainable(task=rule.task, possible=possible, reason=reason, models=models))
    return tuple(answers)


def recommend(profile: DatasetProfile) -> Recommendation | None:
    """None when there is nothing to learn from."""
    possible = [answer for answer in trainable(profile) if answer.possible]
    if not possible:
        return None
    best = next((answer for answer in possible if answer.models), possible[0])
    return _for_task(best.task, _why_best(best, possible), profile)


def recommend_for(task: Task, profile: DatasetProfile) -> Recommendation:
    """Where to start with a task that somebody chose."""
    return _for_task(task, "asked for", profile)


def _why_best(best: Trainable, possible: list[Trainable]) -> str:
    alone = len(possible) == 1
    why = "the only task the labels allow" if alone else "of the possible tasks the one that uses most of them"
    return f"{best.reason}; {why}"


def _for_task(task: Task, reason: str, profile: DatasetProfile) -> Recommendation:
    recipe, model_reason = _model(task, profile)
    if recipe is None:
        return Recommendation(task=task, task_reason=reason, model_reason="there is no model for it yet")
    imgsz, imgsz_reason = recommend_imgsz(profile, recipe)
    return Recommendation(
        task=task,
        task_reason=reason,
        model=recipe.name,
        model_reason=model_reason,
        imgsz=imgsz,
        imgsz_reason=imgsz_reason,
    )


def recommend_imgsz(profile: DatasetProfile, recipe: Recipe) -> tuple[tuple[int, int], str]:
    """Input width and height: the recipe's, unless the objects or the images ask for another.

    Large enough that nine objects in ten have 8 pixels, but no more enlarged than the recipe enlarges COCO's images.

    Returns:
        the size, sides multiples of 32 where it is not the recipe's own; the reason.
    """
    usual = max(recipe.defaults.imgsz)
    if recipe.task is Task.POSE and not recipe.one_stage:
        return recipe.defaults.imgsz, "the published weights were trained at it; every crop is resized to it"
    if profile.object_to_long_side is None or profile.image_long_side_px is None:
        return recipe.defaults.imgsz, "the published weights were trained at it"
    needed = SEEN_FROM_PX / max(profile.object_to_long_side.p10, 1e-9)
    useful = profile.image_long_side_px.p50 * usual / COCO_LONG_SIDE_PX
    if needed > usual:
        wanted = min(needed, max(useful, usual), max(LARGEST, usual))
    else:
        wanted = max(useful, needed, SMALLEST) if useful < WORTH_LESS * usual else usual
    long_side = usual if wanted == usual else math.ceil(wanted / STRIDE) * STRIDE
    if long_side == usual:
        return recipe.defaults.imgsz, _kept(profile, recipe)
    return _scaled(recipe, long_side / usual), _changed(profile, usual, long_side, useful)


def _model(task: Task, profile: DatasetProfile) -> tuple[Recipe | None, str]:
    recipes = {recipe.name: recipe for recipe in all_recipes() if recipe.task is task}
    for rule in MODEL_RULES:
        if rule.task is task and rule.model in recipes and rule.applies(profile):
            return recipes[rule.model], rule.because
    first = next(iter(recipes.values()), None)
    return first, "the only model there is for it" if len(recipes) == 1 else "the first of its models"


def _scaled(recipe: Recipe, factor: float) -> tuple[int, int]:
    width, height = (max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in recipe.defaults.imgsz)
    return width, height


def _kept(profile: DatasetProfile, recipe: Recipe) -> str:
    assert profile.object_to_long_side is not None
    size, usual = "x".join(map(str, recipe.defaults.imgsz)), max(recipe.defaults.imgsz)
    tenth = profile.object_to_long_side.p10 * usual
    reason = f"the published weights were trained at {size}"
    if tenth >= SEEN_FROM_PX:
        return f"{reason}, and nine objects in ten have {tenth:.0f} px or more at it"
    return f"{reason}; one object in ten is under {tenth:.1f} px at it, but the images have no more pixels"


def _changed(profile: DatasetProfile, usual: int, long_side: int, useful: float) -> str:
    assert profile.object_to_long_side is not None and profile.image_long_side_px is not None
    if long_side < usual:
        return f"the images are {profile.image_long_side_px.p50:.0f} px long: {usual} would only enlarge them"
    tenth = profile.object_to_long_side.p10
    reason = (
        f"one object in ten is under {tenth * usual:.1f} px at the usual {usual} and {tenth * long_side:.1f} px now"
    )
    cost = f"it costs {(long_side / usual) ** 2:.1f} times the memory and time"
    if tenth * long_side >= SEEN_FROM_PX:
        return f"{reason}; {cost}"
    limit = "the images have no more pixels" if useful <= LARGEST else "cut the images into tiles to go further"
    return f"{reason}; {limit}; {cost}"

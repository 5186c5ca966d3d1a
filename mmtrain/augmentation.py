"""What cannot be asked of the augmentation of a task, said by name before a training begins."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mmtrain.choices import STRONG, augmentation
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.tasks import Task

OFF_BY_ONE = "MMPose draws a picture beyond the last one now and then, and ends"
CANNOT: dict[Task, dict[str, str]] = {
    Task.DETECTION: {"copy_paste": "boxes have no outline to cut along; it is for instance segmentation"},
    Task.SEMANTIC: {
        "mosaic": "not for class maps: MMSegmentation's needs pictures from outside its pipeline",
        "mixup": "a pixel has one class, not half of two",
        "copy_paste": "class maps have no objects; it is for instance segmentation",
    },
    Task.POSE: {
        "mosaic": OFF_BY_ONE,
        "mixup": OFF_BY_ONE,
        "copy_paste": "it is for instance segmentation",
        "random_crop": "it would cut points off; translate and scale move what is seen",
    },
}
"""Task -> augmentation that it cannot have -> why."""
MOVING = {
    Task.INSTANCE: "and not its masks",  # MMDetection's wrapper fails on pictures without any
    Task.SEMANTIC: "and call what comes in at its edges the first class",
    Task.POSE: "and not its keypoints",  # MMPose's wrapper hands over nothing but the picture
}
"""Why albumentations must not move the picture of a task."""
COVERING = ("CoarseDropout", "GridDropout", "PixelDropout", "XYMasking")
"""They count as moving in albumentations, and leave points where they are: upstream trains RTMPose with the first."""


def augmentation_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """Everything that was asked for and cannot be had with this model, in words."""
    problems = [
        f"{name}: not for {recipe.task.value}: {why}"
        for name, why in CANNOT.get(recipe.task, {}).items()
        if getattr(config, name)
    ]
    if recipe.task is Task.INSTANCE:
        problems += _copy_paste_problems(config)
    if config.weak_epochs and not any(augmentation(config, recipe, name).value for name in STRONG):
        problems.append(f"weak_epochs: {recipe.name} trains without {', '.join(STRONG)} anyway")
    if config.albumentations:
        problems += albumentations_problems(config.albumentations, recipe.task, config.imgsz or recipe.defaults.imgsz)
    return problems


def _copy_paste_problems(config: TrainConfig) -> list[str]:
    problems = []
    if config.copy_paste not in (None, 0, 1):
        problems.append(
            f"copy_paste={config.copy_paste:g}: 0 or 1, since MMDetection pastes into every picture a random number of "
            "objects, none among them"
        )
    if config.copy_paste and config.weak_epochs:
        problems.append("weak_epochs: not with copy_paste, whose data set cannot change its pipeline")
    if config.copy_paste and config.balanced_sampling:
        problems.append("balanced_sampling: not with copy_paste, whose data set does not know its classes")
    return problems


def albumentations_problems(
    transforms: Iterable[dict[str, Any]], task: Task, width_height: tuple[int, int]
) -> list[str]:
    """Each transform is built and run once on a grey picture of that size, so that no training has to find out.

    The first call takes a second or two: that long the package needs to be imported.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else an import asks PyPI whether there is a newer version
    import albumentations

    problems = []
    for position, asked in enumerate(transforms):
        try:
            transform = _built(asked)
            _try(transform, width_height)
        except Exception as error:  # noqa: BLE001 - whatever a transform has against its arguments or a picture
            problems.append(f"albumentations[{position}]: {' '.join(str(error).split())}")
            continue
        moving = [each for each in _single(transform) if not isinstance(each, albumentations.ImageOnlyTransform)]
        if task is Task.POSE:
            moving = [each for each in moving if type(each).__name__ not in COVERING]
        if moving and task in MOVING:
            names = ", ".join(type(each).__name__ for each in moving)
            problems.append(
                f"albumentations[{position}]: {names} would move the picture {MOVING[task]}; "
                "degrees, translate, scale, fliplr and flipud do it rightly"
            )
    return problems


def _built(asked: dict[str, Any]) -> Any:
    import albumentations

    arguments = {key: value for key, value in asked.items() if key != "type"}
    kinds = {
        name: kind
        for name, kind in vars(albumentations).items()
        if isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform | albumentations.BaseCompose)
    }
    name = asked.get("type")
    if name not in kinds:
        close = difflib.get_close_matches(str(name), kinds, n=1)
        raise ValueError(f"there is no transform {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    known = inspect.signature(kinds[name]).parameters
    unknown = [key for key in arguments if key not in known]
    if unknown:  # albumentations only warns
        raise ValueError(f"{name} has no {', '.join(unknown)}; it has {', '.join(known)}")
    if "transforms" in arguments:
        arguments["transforms"] = [_built(each) for each in arguments["transforms"]]
    return kinds[name](**arguments)


def _try(transform: Any, width_height: tuple[int, int]) -> None:
    picture = np.full((*width_height[::-1], 3), 128, np.uint8)
    for single in _single(transform):
        name, changed = type(single).__name__, single(force_apply=True, image=picture.copy())["image"]
        if not (isinstance(changed, np.ndarray) and changed.dtype == np.uint8 and changed.shape[2:] == (3,)):
            raise ValueError(f"{name} does not leave a picture of whole numbers in three channels")


def _single(transform: Any) -> Iterator[Any]:
    """The transforms that a OneOf, SomeOf or the like holds, or the transform itself."""
    import albumentations

    if isinstance(transform, albumentations.BaseCompose):
        for each in transform.transforms:
            yield from _single(each)
    else:
        yield transform

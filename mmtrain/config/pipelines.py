"""How a picture becomes a detector's input: the transforms of training and of evaluation, all at the plan's size."""

from __future__ import annotations

from typing import Any

from mmtrain.config.colours import GREY, recoloured
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.tasks import Task

Transform = dict[str, Any]

GREYS = (GREY, GREY, GREY)
META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
CACHED_IMAGES = {"CachedMosaic": 20, "CachedMixUp": 10}
"""Upstream RTMDet-tiny's cache sizes: small enough for every worker to hold its own."""
BOXES = {
    "type": "BboxParams", "format": "pascal_voc", "label_fields": ["gt_bboxes_labels", "gt_ignore_flags"],
    "filter_lost_elements": True, "min_width": 1, "min_height": 1, "clip": True,
}  # fmt: skip
"""What albumentations has to know of the boxes that it moves."""


def train_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """With augmentation."""
    return [
        {"type": "LoadImageFromFile"},
        _load_annotations(plan),
        *_random_crop(plan),
        *_sized(recipe, plan),
        *_rotated(plan),
        *_shifted(plan),
        *(_tidied(plan) if _moves_objects(plan) else []),
        *recoloured(plan, **_what_albumentations_moves(plan)),
        *flips(plan),
        *(_pad(plan) if recipe.letterbox or plan.mixup.value or plan.copy_paste.value else []),
        *(_mixup(plan) if plan.mixup.value else []),
        *(_copy_paste() if plan.copy_paste.value else []),
        {"type": "PackDetInputs"},
    ]


def of_two_pictures(plan: TrainPlan, dataset: Transform) -> Transform:
    """The data set whose samples `CopyPaste` finds beside another one, both changed in every other way before.

    MMDetection's `CopyPaste` draws a picture beyond the last one now and then, which for `RepeatDataset` is the first.
    """
    if not plan.copy_paste.value:
        return dataset
    steps = dataset["pipeline"]
    begin = next(number for number, step in enumerate(steps) if step["type"] == "CopyPaste")
    changed = {"type": "RepeatDataset", "times": 1, "dataset": {**dataset, "pipeline": steps[:begin]}}
    return {"type": "MultiImageMixDataset", "dataset": changed, "pipeline": steps[begin:]}


def test_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """Without; what predictions will see."""
    return [
        {"type": "LoadImageFromFile"},
        _fitted(recipe, plan.imgsz.value),
        *([_padded_to(plan.imgsz.value)] if recipe.letterbox else []),
        _load_annotations(plan),  # after Resize: truth stays in the pixels of the original picture
        {"type": "PackDetInputs", "meta_keys": META_KEYS},
    ]


def flips(plan: TrainPlan) -> list[Transform]:
    """Left-right and up-down, independent of each other."""
    return [
        {"type": "RandomFlip", "prob": plan.fliplr.value},
        *([{"type": "RandomFlip", "prob": plan.flipud.value, "direction": "vertical"}] if plan.flipud.value else []),
    ]


def _load_annotations(plan: TrainPlan) -> Transform:
    return {"type": "LoadAnnotations", "with_bbox": True, "with_mask": plan.task is Task.INSTANCE}


def _random_crop(plan: TrainPlan) -> list[Transform]:
    """Of the original picture, so that what is cut out is seen larger."""
    if not plan.random_crop.value:
        return []
    return [_sometimes(plan.random_crop.value, [_crop(plan, (0.5, 0.5), crop_type="relative_range")])]


def _sized(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """At the input size: in a mosaic, or as it is."""
    whole, mosaic = _resized(recipe, plan), _mosaic(plan)
    share = plan.mosaic.value
    if share in (0, 1):
        return mosaic if share else whole
    # A mosaic transform with a probability would leave the other pictures at twice the size, for the crop to cut.
    return [{"type": "RandomChoice", "transforms": [mosaic, whole], "prob": [share, 1 - share]}]


def _resized(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    size = plan.imgsz.value
    if not plan.scale.value:
        return [_fitted(recipe, size)]
    if _lies_or_stands(recipe, size):
        return [_rescaled_in_letterbox(recipe, plan)]
    largest = max(size)
    # Without letterbox an upright picture keeps its longer side upright.
    return [_rescaled(plan, size), _crop(plan, size if recipe.letterbox else (largest, largest))]


def _lies_or_stands(recipe: Recipe, size: tuple[int, int]) -> bool:
    """A letterbox with sides that differ: MMCV's Resize would fill its longer side with a picture's longer side.

    An upright picture would leave a letterbox that lies above and below, and the batch grow with it.
    """
    return recipe.letterbox and size[0] != size[1]


def _fitted(recipe: Recipe, size: tuple[int, int]) -> Transform:
    """The whole picture, as large as it can be."""
    if not _lies_or_stands(recipe, size):
        return {"type": "Resize", "scale": size, "keep_ratio": True}
    sides = dict(zip(("width", "height"), size, strict=True))
    return {"type": "FixShapeResize", **sides, "keep_ratio": True, "pad_val": {"img": GREYS}}


def _rescaled_in_letterbox(recipe: Recipe, plan: TrainPlan) -> Transform:
    """A part of the picture seen larger, or all of it smaller; a part cut out later might be all padding."""
    size, change, smallest = plan.imgsz.value, plan.scale.value, smallest_scale(plan)
    least = 1 / (1 + change)
    larger = [_crop(plan, (least, least), crop_type="relative_range"), _fitted(recipe, size)]
    smaller = [_fitted(recipe, size), {**_rescaled(plan, size), "ratio_range": (smallest, 1.0)}]
    share = change / (change + 1 - smallest)
    return {"type": "RandomChoice", "transforms": [larger, smaller], "prob": [share, 1 - share]}


def _mosaic(plan: TrainPlan) -> list[Transform]:
    """Four pictures in one of twice the size, then a random scale and a crop back to the input size."""
    width, height = plan.imgsz.value
    if plan.task is Task.INSTANCE:  # CachedMosaic swaps the sides of its masks, so they have to be the same
        width = height = max(width, height)
    return [
        _cached("CachedMosaic", img_scale=(width, height), pad_val=float(GREY)),
        _rescaled(plan, (2 * width, 2 * height)),
        _crop(plan, plan.imgsz.value),
    ]


def _rescaled(plan: TrainPlan, size: tuple[int, int]) -> Transform:
    ratios = (smallest_scale(plan), 1 + plan.scale.value)
    return {"type": "RandomResize", "scale": size, "ratio_range": ratios, "keep_ratio": True}


def smallest_scale(plan: TrainPlan) -> float:
    """How small a picture may become, next to the input size; a tenth is upstream RTMDet-l's limit."""
    return max(0.1, 1 - plan.scale.value)


def _rotated(plan: TrainPlan) -> list[Transform]:
    """About the centre; MMDetection's RandomAffine turns about the upper left corner and knows no masks."""
    if not plan.degrees.value:
        return []
    return [{"type": "Rotate", "max_mag": plan.degrees.value, "img_border_value": GREYS}]


def _shifted(plan: TrainPlan) -> list[Transform]:
    """Onto a larger grey canvas and back: both at random places, so that the shift is at most that share of a side.

    MMDetection's TranslateX and Y round the share to tenths.
    """
    ratio = 1 + plan.translate.value
    if ratio == 1:
        return []
    return [
        {"type": "Expand", "mean": GREYS, "ratio_range": (ratio, ratio), "prob": 1.0},
        _crop(plan, (1 / ratio, 1 / ratio), crop_type="relative"),
    ]


def _moves_objects(plan: TrainPlan) -> bool:
    moving = (plan.random_crop, plan.mosaic, plan.scale, plan.degrees, plan.translate)
    return any(moved.value for moved in moving)


def _tidied(plan: TrainPlan) -> list[Transform]:
    """Boxes that fit what is left of their masks, and nothing of which nothing is left."""
    masks = plan.task is Task.INSTANCE
    return [
        *([_crop(plan, (1.0, 1.0), crop_type="relative")] if masks and plan.degrees.value else []),
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (1, 1), "by_mask": masks, "keep_empty": False},
    ]


def _what_albumentations_moves(plan: TrainPlan) -> Transform:
    """Boxes, but no masks: it fails on pictures that have none."""
    return {"keymap": {"img": "image"}} if plan.task is Task.INSTANCE else {"bbox_params": dict(BOXES)}


def _crop(plan: TrainPlan, width_height: tuple[float, float], crop_type: str = "absolute") -> Transform:
    """Without negative crops, pictures without objects would be drawn anew."""
    return {
        "type": "RandomCrop",
        "crop_size": width_height,
        "crop_type": crop_type,
        "allow_negative_crop": True,
        "recompute_bbox": plan.task is Task.INSTANCE,
    }


def _pad(plan: TrainPlan) -> list[Transform]:
    size = plan.imgsz.value
    if plan.copy_paste.value:  # one shape for all pictures, upright ones too
        size = (max(size), max(size))
    return [_padded_to(size)]


def _padded_to(size: tuple[int, int]) -> Transform:
    return {"type": "Pad", "size": size, "pad_val": {"img": GREYS}}


def _copy_paste() -> list[Transform]:
    """Of another picture some objects, or none (Ghiasi et al. 2021, arXiv:2012.07177)."""
    return [
        {"type": "CopyPaste"},
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (1, 1), "by_mask": True, "keep_empty": False},
    ]


def _mixup(plan: TrainPlan) -> list[Transform]:
    options = {"img_scale": plan.imgsz.value, "ratio_range": (1.0, 1.0), "pad_val": GREYS}
    return [_cached("CachedMixUp", prob=plan.mixup.value, **options)]


def _cached(kind: str, **options: Any) -> Transform:
    return {"type": kind, "max_cached_images": CACHED_IMAGES[kind], "random_pop": False, **options}


def _sometimes(share: float, transforms: list[Transform]) -> Transform:
    return transforms[0] if share == 1 else {"type": "RandomApply", "transforms": transforms, "prob": share}

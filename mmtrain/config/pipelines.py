"""How a picture becomes a model's input: the transforms of training and of evaluation, all at the plan's size."""

from __future__ import annotations

from typing import Any

from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.tasks import Task

Transform = dict[str, Any]

GREY = 114
"""Upstream RTMDet's and YOLOX's padding value."""
META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
CACHED_IMAGES = {"CachedMosaic": 20, "CachedMixUp": 10}
"""Upstream RTMDet-tiny's cache sizes: small enough for every worker to hold its own."""


def train_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """With augmentation."""
    size = plan.imgsz.value
    return [
        {"type": "LoadImageFromFile"},
        _load_annotations(plan),
        *(_mosaic(plan) if plan.mosaic.value else [{"type": "Resize", "scale": size, "keep_ratio": True}]),
        {"type": "RandomFlip", "prob": plan.fliplr.value},
        *(_pad(plan) if recipe.letterbox or plan.mixup.value else []),
        *(_mixup(plan) if plan.mixup.value else []),
        {"type": "PackDetInputs"},
    ]


def test_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """Without; what predictions will see."""
    return [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": plan.imgsz.value, "keep_ratio": True},
        *(_pad(plan) if recipe.letterbox else []),
        _load_annotations(plan),  # after Resize: truth stays in the pixels of the original picture
        {"type": "PackDetInputs", "meta_keys": META_KEYS},
    ]


def _load_annotations(plan: TrainPlan) -> Transform:
    return {"type": "LoadAnnotations", "with_bbox": True, "with_mask": plan.task is Task.INSTANCE}


def _pad(plan: TrainPlan) -> list[Transform]:
    return [{"type": "Pad", "size": plan.imgsz.value, "pad_val": {"img": (GREY, GREY, GREY)}}]


def _mosaic(plan: TrainPlan) -> list[Transform]:
    """Four pictures in one of twice the size, then a random scale and a crop back to the input size."""
    size = plan.imgsz.value
    return [
        _cached("CachedMosaic", plan.mosaic.value, img_scale=size, pad_val=float(GREY)),
        {"type": "RandomResize", "scale": size, "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (size[1], size[0])},  # RandomCrop alone counts (height, width)
    ]


def _mixup(plan: TrainPlan) -> list[Transform]:
    pad = (GREY, GREY, GREY)
    return [_cached("CachedMixUp", plan.mixup.value, img_scale=plan.imgsz.value, ratio_range=(1.0, 1.0), pad_val=pad)]


def _cached(kind: str, probability: float, **options: Any) -> Transform:
    return {"type": kind, "prob": probability, "max_cached_images": CACHED_IMAGES[kind], "random_pop": False, **options}

"""How a picture and its class map become a model's input: the transforms of training and of evaluation."""

from __future__ import annotations

from typing import Any

from mmtrain.config.colours import GREY, recoloured
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe

Transform = dict[str, Any]

IGNORE = 255
"""The label of pixels without a class, ours and MMSegmentation's."""
MOST_OF_ONE_CLASS = 0.75
"""Upstream's, of every recipe: a crop with a larger share of one class is drawn again, up to ten times."""
EDGE_WIDTH = 4
"""Upstream PIDNet's, in pixels."""
META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction")


def train_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """With augmentation; crops that are smaller than the input are padded in the batch (config/semantic.py)."""
    width, height = plan.imgsz.value
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        *_random_crop(plan),
        _resize(plan),
        *_rotated(plan),
        *_shifted(plan),
        # Alone it counts (height, width).
        {"type": "RandomCrop", "crop_size": (height, width), "cat_max_ratio": MOST_OF_ONE_CLASS},
        *recoloured(plan, "mmdet.Albu", keymap={"img": "image"}),  # MMSegmentation's hands over keys that are refused
        *_flips(plan),
        *([{"type": "GenerateEdge", "edge_width": EDGE_WIDTH}] if recipe.edges else []),
        {"type": "PackSegInputs", "meta_keys": META_KEYS},
    ]


def test_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """Without; what predictions will see."""
    return [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": plan.imgsz.value, "keep_ratio": True},
        {"type": "LoadAnnotations"},  # after Resize: truth stays in the pixels of the original picture
        {"type": "PackSegInputs", "meta_keys": META_KEYS},
    ]


def _random_crop(plan: TrainPlan) -> list[Transform]:
    """Of the original picture, so that what is cut out is seen larger. MMSegmentation's own knows no shares."""
    if not plan.random_crop.value:
        return []
    crop = {"type": "mmdet.RandomCrop", "crop_size": (0.5, 0.5), "crop_type": "relative_range"}
    return [{"type": "RandomApply", "transforms": [crop], "prob": plan.random_crop.value}]


def _rotated(plan: TrainPlan) -> list[Transform]:
    """About the centre."""
    if not plan.degrees.value:
        return []
    colours = {"pad_val": (GREY, GREY, GREY), "seg_pad_val": IGNORE}
    return [{"type": "RandomRotate", "prob": 1.0, "degree": plan.degrees.value, **colours}]


def _shifted(plan: TrainPlan) -> list[Transform]:
    """Onto a larger grey canvas at a random place; the crop to the input size follows."""
    ratio = 1 + plan.translate.value
    if ratio == 1:
        return []
    colours = {"mean": (GREY, GREY, GREY), "seg_ignore_label": IGNORE}
    return [{"type": "mmdet.Expand", "ratio_range": (ratio, ratio), "prob": 1.0, **colours}]


def _resize(plan: TrainPlan) -> Transform:
    change = plan.scale.value
    if not change:
        return {"type": "Resize", "scale": plan.imgsz.value, "keep_ratio": True}
    ratios = (round(max(0.1, 1 - change), 6), round(1 + change, 6))
    return {"type": "RandomResize", "scale": plan.imgsz.value, "ratio_range": ratios, "keep_ratio": True}


def _flips(plan: TrainPlan) -> list[Transform]:
    """Each by itself, so that both may happen to one picture."""
    asked = {"horizontal": plan.fliplr.value, "vertical": plan.flipud.value}
    return [{"type": "RandomFlip", "prob": prob, "direction": way} for way, prob in asked.items() if prob]

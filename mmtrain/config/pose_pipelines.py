"""How a picture becomes a pose model's input and target: the transforms of training and of evaluation.

Top-down models see the crop around one box, one-stage models the whole picture. MMPose's flips exchange the points of
a flip pair, in both directions: any mirror image turns left into right.
"""

from __future__ import annotations

import math
from typing import Any

from mmtrain.config.colours import GREY, recoloured
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe

Transform = dict[str, Any]

ONE_STAGE_META_KEYS = (
    "id", "img_id", "img_path", "ori_shape", "img_shape", "input_size", "input_center", "input_scale",
)  # fmt: skip
"""Upstream RTMO's; without category_id, so that CocoMetric takes its default, 1."""


def codec(recipe: Recipe, plan: TrainPlan) -> Transform:
    """From points to a head's targets and back, at the plan's size; equal to upstream's at upstream's."""
    width, height = plan.imgsz.value
    if recipe.one_stage:
        return {"type": "YOLOXPoseAnnotationProcessor", "input_size": (width, height)}
    if "/rtmpose/" in recipe.base:
        # Upstream's widths of the label, 4.9 and 5.66 at 192x256, 6 and 6.93 at 288x384, are sqrt(side / 8).
        sigma = tuple(round(math.sqrt(side / 8), 2) for side in (width, height))
        return {
            "type": "SimCCLabel", "input_size": (width, height), "sigma": sigma, "simcc_split_ratio": 2.0,
            "normalize": False, "use_dark": False,
        }  # fmt: skip
    # Heatmaps have a quarter of the size; their spots are 2 cells wide at 256 px and 3 at 384 (upstream's 384x288).
    spot = max(1.0, 2 * max(width, height) / 256)
    size = (width // 4, height // 4)
    return {"type": "MSRAHeatmap", "input_size": (width, height), "heatmap_size": size, "sigma": spot}


def train_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """With augmentation."""
    target: list[Transform] = [
        {"type": "GenerateTarget", "encoder": codec(recipe, plan)},
        {"type": "PackPoseInputs", "pack_transformed": True},  # the points of the crop too, to look at
    ]
    if recipe.one_stage:
        return [
            {"type": "LoadImage"},
            _whole_picture(plan),
            *recoloured(plan, "Albumentation"),
            *_flips(plan),
            {"type": "FilterAnnotations", "by_kpt": True, "by_box": True, "keep_empty": False},
            *target,
        ]
    return [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        *_flips(plan),
        {
            "type": "RandomBBoxTransform",  # MMPose's own probabilities: 0.3 of a shift, 1 of a scale, 0.6 of a turn
            "shift_factor": plan.translate.value,
            "scale_factor": (1 - plan.scale.value, 1 + plan.scale.value),
            "rotate_factor": plan.degrees.value,
        },
        {"type": "TopdownAffine", "input_size": plan.imgsz.value},
        *recoloured(plan, "Albumentation"),
        *target,
    ]


def test_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Transform]:
    """Without; what predictions will see."""
    if recipe.one_stage:
        return [
            {"type": "LoadImage"},
            {"type": "BottomupResize", "input_size": plan.imgsz.value, "pad_val": (GREY, GREY, GREY)},
            {"type": "PackPoseInputs", "meta_keys": ONE_STAGE_META_KEYS},
        ]
    return [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        {"type": "TopdownAffine", "input_size": plan.imgsz.value},
        {"type": "PackPoseInputs", "pack_transformed": True},
    ]


def _flips(plan: TrainPlan) -> list[Transform]:
    chances = (("horizontal", plan.fliplr.value), ("vertical", plan.flipud.value))
    return [{"type": "RandomFlip", "prob": float(chance), "direction": way} for way, chance in chances if chance]


def _whole_picture(plan: TrainPlan) -> Transform:
    """Fitted into the input size, then turned, moved and scaled around its centre."""
    return {
        "type": "BottomupRandomAffine",
        "input_size": plan.imgsz.value,
        "shift_factor": plan.translate.value,
        "scale_factor": (1 - plan.scale.value, 1 + plan.scale.value),
        "scale_type": "long",
        "rotate_factor": plan.degrees.value,
        "pad_val": (GREY, GREY, GREY),
        "distribution": "uniform",
        "bbox_keep_corner": False,
        "clip_border": True,
    }

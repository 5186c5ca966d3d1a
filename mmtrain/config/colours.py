"""Changes of a picture that are the same for every task: its colours, and what was asked of albumentations."""

from __future__ import annotations

from typing import Any

from mmtrain.plan import TrainPlan

Transform = dict[str, Any]

GREY = 114
"""Upstream RTMDet's and YOLOX's padding value."""


def recoloured(plan: TrainPlan, kind: str = "Albu", **moved: Any) -> list[Transform]:
    """Hue, saturation and brightness, then the transforms asked for by name.

    Args:
        kind: the framework's transform that runs albumentations.
        moved: what the transforms asked for move besides the picture, in that transform's words.
    """
    shifts, asked = _shift(plan), [dict(transform) for transform in plan.albumentations.value]
    return [
        *([{"type": kind, "transforms": [shifts], "keymap": {"img": "image"}}] if shifts else []),
        *([{"type": kind, "transforms": asked, **moved}] if asked else []),
    ]


def _shift(plan: TrainPlan) -> Transform:
    """Hue turned by up to that share of the circle, saturation and brightness times a factor of one minus to plus.

    Ultralytics' gains of the same names (ultralytics/data/augment.py, RandomHSV), under which grey stays grey; the
    additive shifts of upstream's YOLOXHSVRandomAug colour it. Saturation is that of torchvision's ColorJitter: the
    distance of a colour from its grey. The channels stand as OpenCV reads them, which mirrors the circle of hues and
    changes nothing of a shift that goes both ways.
    """
    hue, saturation, value = plan.hsv_h.value, plan.hsv_s.value, plan.hsv_v.value
    if not (hue or saturation or value):
        return {}
    turn = min(hue, 0.5)  # half a circle both ways is all of it
    return {
        "type": "ColorJitter",
        "hue": (-turn, turn),
        "saturation": (1 - saturation, 1 + saturation),
        "brightness": (1 - value, 1 + value),
        "contrast": (1.0, 1.0),
        "p": 1.0,
    }

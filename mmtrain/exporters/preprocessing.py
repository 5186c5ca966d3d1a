"""What happens to an image before the model sees it, in the words of `metadata.json`, read from a model's own pipeline.

Means, standard deviations and padding are in pixels (0 to 255), in the order of the tensor's channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainer_sdk.errors import ExportError

Dict = dict[str, Any]
Size = tuple[int, int]

LOADERS = {"LoadImageFromFile", "LoadImage", "LoadAnnotations", "GetBBoxCenterScale"}
"""Steps that give a pipeline its image and truth, or need the truth."""


def preprocessing_of(pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any]) -> Dict:
    """From a test pipeline and the `data_preprocessor` of a configuration, as `predict_standalone.py` reads it.

    Raises:
        ExportError: a step that the exported model's runtime does not know.
    """
    mean, std = (
        list(map(float, preprocessor.get(name) or [fallback] * 3)) for name, fallback in (("mean", 0.0), ("std", 1.0))
    )
    found: Dict = {
        "mean": mean,
        "std": std,
        "color_space": "RGB" if preprocessor.get("bgr_to_rgb") else "BGR",
        "layout": "NCHW",
        "value_range": [0, 255],
        "normalize": True,
        "interpolation": "bilinear",
        "embedded": False,
        "pad_value": mean,  # what is padded after normalisation is 0
        "pad_to_size": False,
        "clip_to": "picture",
        "size_multiple": _multiple(preprocessor),
    }
    for step in pipeline:
        found |= _step(step, found["color_space"])
    if "resize_mode" not in found:
        raise ExportError("the model's test pipeline does not resize its images")
    return found


def _multiple(preprocessor: Mapping[str, Any]) -> int:
    return int(preprocessor.get("pad_size_divisor") or (preprocessor.get("test_cfg") or {}).get("size_divisor") or 1)


def _step(step: Mapping[str, Any], color_space: str) -> Dict:
    kind = str(step["type"]).rpartition(".")[2]
    if kind == "Resize" and step.get("keep_ratio"):
        return {"resize_mode": "long_short", "size_wh": list(step["scale"])}
    if kind == "FixShapeResize" and step.get("keep_ratio"):
        return {"resize_mode": "fit", "size_wh": [step["width"], step["height"]]} | _padded(step, color_space)
    if kind == "Pad":
        return _padded(step, color_space)
    if kind == "BottomupResize":
        size = {"resize_mode": "centred", "size_wh": list(step["input_size"])}
        return size | _padded({"pad_val": {"img": step["pad_val"]}}, color_space)
    if kind == "TopdownAffine":
        return {"resize_mode": "crop", "size_wh": list(step["input_size"]), "pad_value": [0.0] * 3, "pad_to_size": True}
    if kind in LOADERS or kind.startswith("Pack") or kind == "RandomCenterCropPad":  # that one only writes a border
        return {}
    raise ExportError(f"the exported model's runtime knows no {kind}, which the model's test pipeline has")


def _padded(step: Mapping[str, Any], color_space: str) -> Dict:
    """To the whole input, as a part of the picture: boxes may reach into it."""
    values = _colour(step)
    return {"pad_value": values[::-1] if color_space == "RGB" else values, "pad_to_size": True, "clip_to": "input"}


def _colour(step: Mapping[str, Any]) -> list[float]:
    """Of a step's padding, as images are loaded: blue first."""
    pad_value = (step.get("pad_val") or {"img": 0})["img"]
    return [float(pad_value)] * 3 if isinstance(pad_value, int | float) else list(map(float, pad_value))


WITHIN_PICTURE = {"queries", "semantic"}
"""Kinds of output whose padding is cut away, and is not a part of the picture that boxes may reach into."""


def at_size(pipeline: Sequence[Mapping[str, Any]], size_wh: Size) -> list[Dict]:
    """The pipeline of a model that sees pictures of one size, with another size."""
    width, height = size_wh
    sizes: dict[str, Dict] = {
        "Resize": {"scale": (width, height)},
        "FixShapeResize": {"width": width, "height": height},
        "Pad": {"size": (width, height)},
        "BottomupResize": {"input_size": (width, height)},
        "TopdownAffine": {"input_size": (width, height)},
    }
    steps = [(str(step["type"]).rpartition(".")[2], dict(step)) for step in copy.deepcopy(list(pipeline))]
    pad = next((step for kind, step in steps if kind == "Pad" and "size" in step), None)
    if pad is None or width == height:
        return [{**step, **sizes.get(kind, {})} for kind, step in steps]
    fit: Dict = {"type": "mmdet.FixShapeResize", "width": width, "height": height, "keep_ratio": True}
    fit["pad_val"] = pad["pad_val"]  # MMCV's Resize would let an upright picture stand out of a letterbox that lies
    return [fit if kind == "Resize" else {**step, **sizes.get(kind, {})} for kind, step in steps]


def fixed(pre: Dict, size_wh: Size, kind: str) -> Dict:
    """For a file whose input has one size, which every picture fills with padding.

    A model that pads to whole cells otherwise pads more here, with the mean colour in whole numbers; of what is
    padded, a file with one input cannot know.
    """
    if pre["pad_to_size"]:
        return pre
    colour = pre["mean"] if kind == "semantic" else [float(round(value)) for value in pre["mean"]]
    return pre | {
        "resize_mode": "fit",
        "size_wh": list(size_wh),
        "pad_to_size": True,
        "pad_value": colour,
        "clip_to": "picture" if kind in WITHIN_PICTURE else "input",
        "fixed": True,
    }


def whole_cells(pre: Mapping[str, Any], of_model: int = 1) -> Size:
    """Width and height of the model's own size, rounded up to what it can see.

    Args:
        of_model: of which both sides are multiples, whatever the pipeline pads to.
    """
    multiple = math.lcm(pre["size_multiple"], of_model)
    width, height = (math.ceil(side / multiple) * multiple for side in pre["size_wh"])
    return width, height

"""Says a pipeline of transforms in words, for people who want to know what happens to their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Transform = dict[str, Any]

UNSPOKEN = ("PackDetInputs", "PackPoseInputs", "PackSegInputs", "RandomCenterCropPad", "FilterAnnotations")
"""They change the container, not the content; as CenterNet needs it, one says only where the picture lies, and the last
drops what the others left nothing of."""
STEP_WORDS = {
    "Mosaic": "mosaic",
    "CachedMosaic": "mosaic",
    "MixUp": "mix-up",
    "CachedMixUp": "mix-up",
    "RandomFlip": "flipped",
    "Rotate": "turned",
    "Expand": "moved",
    "CopyPaste": "pasted into",
}
"""Transforms that happen to some pictures only, as a remark on one they happened to."""


def pipeline_in_words(pipeline: Iterable[Transform]) -> list[str]:
    """One phrase per transform that does something; one that we have no words for as it is written."""
    said = [transform_in_words(transform) for transform in pipeline if transform["type"] not in UNSPOKEN]
    return [phrase for phrase in said if phrase]


def transform_in_words(transform: Transform) -> str:
    """A phrase, or nothing for a transform that never happens."""
    if transform.get("prob") == 0:
        return ""
    speak = PHRASES.get(transform["type"])
    return speak(transform) if speak else as_written(transform)


def as_written(transform: Transform) -> str:
    """``Kind(key=value)``."""
    options = ", ".join(f"{key}={value!r}" for key, value in transform.items() if key != "type")
    return f"{transform['type']}({options})"


def steps_in_words(steps: Iterable[str]) -> list[str]:
    """Remarks on one picture from the class names of what happened to it."""
    return [STEP_WORDS[step] for step in steps if step in STEP_WORDS]


def _annotations(transform: Transform) -> str:
    kinds = {"with_bbox": "boxes", "with_mask": "masks", "with_seg": "class maps", "with_keypoints": "keypoints"}
    return "read " + (" and ".join(word for key, word in kinds.items() if transform.get(key)) or "the annotations")


def _resize(transform: Transform) -> str:
    if not transform.get("keep_ratio"):
        return f"stretch to {_size(transform['scale'])}"
    return f"resize to fit into {_size(transform['scale'])}, aspect ratio kept"


def _random_resize(transform: Transform) -> str:
    low, high = transform.get("ratio_range", (1.0, 1.0))
    return f"resize to fit into {low:g} to {high:g} times {_size(transform['scale'])}, at random"


def _crop(transform: Transform) -> str:
    size, kind = transform["crop_size"], transform.get("crop_type")
    if kind is None:  # MMSegmentation's, (height, width)
        return f"crop to {_size(size[::-1])} at a random place"
    if kind == "absolute":
        return f"crop to {_size(size)} at a random place"
    if size == (1.0, 1.0):
        return "fit boxes to their masks"
    width, height = (f"{share:.0%}" for share in size)
    least = "at least " if kind == "relative_range" else ""
    return f"crop to {least}{width} of the width and {least}{height} of the height, at a random place"


def _pad(transform: Transform) -> str:
    return f"pad to {_size(transform['size'])} with grey" if "size" in transform else "pad with grey"


def _flip(transform: Transform) -> str:
    direction = transform.get("direction", "horizontal")
    way = {"horizontal": "left-right", "vertical": "up-down"}.get(direction, f"{direction}")
    return f"flip {way}{_often(transform)}"


def _mosaic(transform: Transform) -> str:
    among = f", the other three from the last {transform['max_cached_images']}" if _cached(transform) else ""
    width, height = transform["img_scale"]
    return f"mosaic of four pictures on {_size((2 * width, 2 * height))}{_often(transform)}{among}"


def _mixup(transform: Transform) -> str:
    among = f" of the last {transform['max_cached_images']}" if _cached(transform) else ""
    return f"mix-up: lay another picture{among} over it, half transparent{_often(transform)}"


def _rotate(transform: Transform) -> str:
    most = transform.get("max_mag") or transform["degree"]
    return f"turn by up to {most:g}° about the centre"


def _affine(transform: Transform) -> str:
    """MMPose's: of a box before it is cut out, or of the whole picture."""
    low, high = transform["scale_factor"]
    turn, shift = transform["rotate_factor"], transform["shift_factor"]
    changes = (
        f"turn by up to {turn:g}°" if turn else "",
        f"move by up to {shift:.0%}" if shift else "",
        f"scale by {low:g} to {high:g}" if low != high else "",
    )
    fit = f"fit into {_size(transform['input_size'])}; " if "input_size" in transform else ""
    return fit + (", ".join(filter(None, changes)) or "change nothing of the box") + ", at random"


def _expand(transform: Transform) -> str:
    least, most = transform["ratio_range"]
    return (
        f"lay on a grey canvas of {least:g}{'' if least == most else f' to {most:g}'} times the size, at a random place"
    )


def _choice(transform: Transform) -> str:
    ways = transform["transforms"]
    shares = transform.get("prob") or [1 / len(ways)] * len(ways)
    said = (f"{share:.0%}: {'; '.join(pipeline_in_words(way))}" for share, way in zip(shares, ways, strict=True))
    return "of the pictures " + " | ".join(said)


def _sometimes(transform: Transform) -> str:
    return "; ".join(pipeline_in_words(transform["transforms"])) + _often(transform)


def _albumentations(transform: Transform) -> str:
    return "; ".join(map(_albumentation, transform["transforms"]))


def _albumentation(transform: Transform) -> str:
    if transform["type"] != "ColorJitter":
        return as_written(transform)
    said = {
        "hue": "hue by {:.1%} of the circle",
        "saturation": "saturation by {:.0%}",
        "brightness": "brightness by {:.0%}",
    }
    most = {key: transform[key][1] - (key != "hue") for key in said if key in transform}
    return "shift " + ", ".join(said[key].format(value) for key, value in most.items() if value) + " at most, at random"


def _cached(transform: Transform) -> bool:
    return "max_cached_images" in transform


def _often(transform: Transform) -> str:
    share = transform.get("prob", 1.0)
    return f" ({share:.0%} of the pictures)" if isinstance(share, float | int) and share < 1 else ""


def _size(width_height: tuple[int, int]) -> str:
    return f"{width_height[0]} × {width_height[1]}"


PHRASES: dict[str, Callable[[Transform], str]] = {
    "LoadImageFromFile": lambda transform: "read the picture",
    "LoadImage": lambda transform: "read the picture",
    "GetBBoxCenterScale": lambda transform: "take one object with a quarter of its size around it",
    "TopdownAffine": lambda transform: f"cut it out and resize it to {_size(transform['input_size'])}",
    "BottomupResize": lambda transform: f"fit into {_size(transform['input_size'])} with grey",
    "GenerateTarget": lambda transform: "",
    "LoadAnnotations": _annotations,
    "FixShapeResize": lambda transform: f"fit into {_size((transform['width'], transform['height']))} with grey",
    "Resize": _resize,
    "RandomResize": _random_resize,
    "RandomCrop": _crop,
    "Pad": _pad,
    "RandomFlip": _flip,
    "Rotate": _rotate,
    "RandomRotate": _rotate,
    "RandomBBoxTransform": _affine,
    "BottomupRandomAffine": _affine,
    "CopyPaste": lambda transform: "paste some objects of another picture into it, or none",
    "Expand": _expand,
    "mmdet.Expand": _expand,
    "mmdet.RandomCrop": _crop,
    "RandomChoice": _choice,
    "RandomApply": _sometimes,
    "Albu": _albumentations,
    "mmdet.Albu": _albumentations,
    "Albumentation": _albumentations,
    "GenerateEdge": lambda transform: "draw the outlines of the classes",
    "Mosaic": _mosaic,
    "CachedMosaic": _mosaic,
    "MixUp": _mixup,
    "CachedMixUp": _mixup,
    "YOLOXHSVRandomAug": lambda transform: "shift hue, saturation and brightness a little, at random",
}

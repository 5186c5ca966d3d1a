"""How far two models' answers to one image are apart. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mmtrain.exporters.runtime.predict_standalone import Found

Array = NDArray[Any]
SAME_BOX = 0.9
"""IoU from which two boxes of one class are one object: suppression may choose another of several like boxes."""


class Difference(BaseModel):
    """Of one image, or the largest of several. Boxes and points are measured in longer sides of the image."""

    model_config = ConfigDict(frozen=True)

    objects: int = 0
    """That the reference saw and that lie not at the very edge of what is reported."""
    pairs: int = 0
    """Of the same object by both, whose errors count; also at the edge."""
    unmatched: int = 0
    """Of the objects, and of the exported model's, without a partner."""
    box: float = 0.0
    score: float = 0.0
    mask: float = 0.0
    """1 - IoU."""
    keypoint: float = 0.0
    pixels: float = 0.0
    """Share of pixels with another class."""

    @property
    def largest(self) -> float:
        """Of all that is relative."""
        return max(self.box, self.score, self.keypoint)

    @property
    def unmatched_share(self) -> float:
        return self.unmatched / max(1, self.objects)

    def __or__(self, other: Difference) -> Difference:
        """Of both together: numbers of objects add up, of errors the largest counts."""
        return Difference(
            objects=self.objects + other.objects,
            pairs=self.pairs + other.pairs,
            unmatched=self.unmatched + other.unmatched,
            box=max(self.box, other.box),
            score=max(self.score, other.score),
            mask=max(self.mask, other.mask),
            keypoint=max(self.keypoint, other.keypoint),
            pixels=max(self.pixels, other.pixels),
        )


def difference(reference: Found, exported: Found, size_hw: tuple[int, int], *, margin: float) -> Difference:
    """Of what two models found in one image.

    Args:
        margin: of scores; objects that are not surer than the least sure one of either list by this much may be missing
            in the other, which ends elsewhere.
    """
    if "class_map" in reference:
        return Difference(pixels=float((reference["class_map"] != exported["class_map"]).mean()))
    pairs = matched(reference, exported)
    near = _edge(reference, exported, margin)
    ours, theirs = _unmatched(exported, pairs[:, 1], near), _unmatched(reference, pairs[:, 0], near)
    longer = float(max(size_hw))
    first = {name: values[pairs[:, 0]] for name, values in reference.items()}
    second = {name: values[pairs[:, 1]] for name, values in exported.items()}
    return Difference(
        objects=int((reference["scores"] > near).sum()),
        pairs=len(pairs),
        unmatched=ours + theirs,
        box=_largest(first["boxes"] - second["boxes"]) / longer,
        score=_largest(first["scores"] - second["scores"]),
        mask=_mask_error(first, second),
        keypoint=_keypoint_error(first, second, longer),
    )


def matched(reference: Found, exported: Found) -> Array:
    """Pairs (P, 2) of indices, each object in one at most; poses of given boxes are paired in order."""
    count = min(len(reference["boxes"]), len(exported["boxes"]))
    if "keypoints" in reference and np.array_equal(reference["boxes"][:count], exported["boxes"][:count]):
        return np.stack([np.arange(count)] * 2, axis=1)
    ious = overlaps(reference["boxes"], exported["boxes"])
    ious = ious * (reference["labels"][:, None] == exported["labels"][None])
    rows, columns = np.nonzero(ious >= SAME_BOX)
    alike = ious[rows, columns] - np.abs(reference["scores"][rows] - exported["scores"][columns])
    free = np.ones(len(ious), dtype=bool), np.ones(ious.shape[1], dtype=bool)
    pairs = []
    for at in np.argsort(-alike, kind="stable"):  # of like boxes those with like scores
        row, column = rows[at], columns[at]
        if free[0][row] and free[1][column]:
            pairs.append((int(row), int(column)))
            free[0][row] = free[1][column] = False
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def overlaps(first: Array, second: Array) -> Array:
    """IoU of boxes (N, 4) and (M, 4) xyxy, (N, M); boxes without area overlap with nothing but themselves."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.clip(np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    same = np.abs(first[:, None] - second[None]).max(axis=-1, initial=0.0) < 0.5
    return np.asarray(np.where(union > 0, shared / np.maximum(union, 1e-9), same))


def _edge(reference: Found, exported: Found, margin: float) -> float:
    scores = [found["scores"] for found in (reference, exported) if len(found["scores"])]
    return float(max((one.min() for one in scores), default=0.0)) + margin


def _unmatched(found: Found, paired: Array, near: float) -> int:
    alone = np.ones(len(found["scores"]), dtype=bool)
    alone[paired] = False
    return int((alone & (found["scores"] > near)).sum())


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _mask_error(first: Found, second: Found) -> float:
    if "masks" not in first:
        return 0.0
    errors = [
        1.0 - float((one & other).sum()) / max(1, int((one | other).sum())) if (one | other).any() else 0.0
        for one, other in zip(first["masks"], second["masks"], strict=True)
    ]
    return max(errors, default=0.0)


def _keypoint_error(first: Found, second: Found, longer: float) -> float:
    if "keypoints" not in first:
        return 0.0
    apart = np.abs(first["keypoints"] - second["keypoints"])
    return max(_largest(apart[..., :2]) / longer, _largest(apart[..., 2]))

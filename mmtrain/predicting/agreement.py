"""Whether a model in fewer bits still sees the same: asked on the job's own pictures before it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmtrain.predicting.found import Found, Seen

PROBES = 8
"""Pictures."""
LEAST = 0.95
"""Share of objects, or of pixels, that both have to see."""
SAME_IOU, SAME_SCORE = 0.9, 0.05
MARGIN = 0.05
"""Objects nearer to the least score may be on either side of it."""


def agreement(one: Sequence[Seen], other: Sequence[Seen], conf: float) -> float | None:
    """Share of what each sees that the other sees too, the smaller of both; None where there is nothing to compare."""
    pixels = [
        float((a.painted.indices == b.painted.indices).mean())
        for a, b in zip(one, other, strict=True)
        if a.painted is not None and b.painted is not None
    ]
    if pixels:
        return sum(pixels) / len(pixels)
    shares = [share for a, b in ((one, other), (other, one)) if (share := _share_seen(a, b, conf)) is not None]
    return min(shares, default=None)


def _share_seen(one: Sequence[Seen], other: Sequence[Seen], conf: float) -> float | None:
    sure = [
        (found, b.objects)
        for a, b in zip(one, other, strict=True)
        for found in a.objects
        if found.score >= conf + MARGIN
    ]
    return sum(_is_in(found, objects) for found, objects in sure) / len(sure) if sure else None


def _is_in(found: Found, others: Sequence[Found]) -> bool:
    alike = [one for one in others if one.label == found.label and abs(one.score - found.score) <= SAME_SCORE]
    if not alike:
        return False
    return bool(_ious(np.array(found.box_xyxy), np.array([one.box_xyxy for one in alike])).max() >= SAME_IOU)


def _ious(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a box (4,) with others (N, 4), xyxy -> (N,)."""
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), dtype=np.float64)

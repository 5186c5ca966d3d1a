"""Small pictures of what a finding is about, made in processes of their own: some of these files crash decoders."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from converters.geometry import XYWH
from converters.semantic import DAMAGE
from mmtrain.datasets.pool import each

MAX_WIDTH, MAX_HEIGHT = 190, 160
_QUALITY = 80
_MARK_BGR = (60, 60, 255)
_MARGIN = 3  # pixels around the box, so that even the smallest object is inside its mark and not under it
_LEAST_SIDE = 10


class Subject(NamedTuple):
    """A picture, and the box in question if there is one, in pixels of that picture."""

    path: Path
    bbox_xywh: XYWH | None = None


def thumbnails(subjects: Sequence[Subject], processes: int) -> list[str]:
    """Base64 JPEG of each, as far as OpenCV can show it; empty where it cannot."""
    made = dict(each(thumbnail, subjects, "", processes=processes)) if subjects else {}
    return [made[position] for position in range(len(subjects))]


def thumbnail(subject: Subject) -> str:
    """One of them; a picture that is cut off is shown as far as it goes."""
    try:
        with Image.open(subject.path):  # what Pillow holds for a decompression bomb is not unpacked
            pass
        picture = cv2.imread(str(subject.path), cv2.IMREAD_COLOR)
    except (UnidentifiedImageError, *DAMAGE):
        return ""
    if picture is None:
        return ""
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_WIDTH / width, MAX_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if subject.bbox_xywh:
        _mark(small, subject.bbox_xywh, scale)
    _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return base64.b64encode(data.tobytes()).decode("ascii")


def _mark(small: NDArray[np.uint8], bbox_xywh: XYWH, scale: float) -> None:
    x, y, width, height = (side * scale for side in bbox_xywh)
    pad_x, pad_y = (max(_MARGIN, (_LEAST_SIDE - side) / 2) for side in (width, height))
    corners = (x - pad_x, y - pad_y), (x + width + pad_x, y + height + pad_y)
    start, end = ((round(corner[0]), round(corner[1])) for corner in corners)
    cv2.rectangle(small, start, end, _MARK_BGR, thickness=2)

"""Draws annotations on pictures: boxes, masks, keypoints and names, in the colours of the classes.

Annotations are COCO's: bbox xywh in pixels of the picture, category_id an index into the names, and where there are
any: segmentation, keypoints [x, y, v, ...], iscrowd, score.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from faster_coco_eval.core import mask as rle_masks
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmtrain.reports.coco_metrics import Annotation
from mmtrain.reports.matching import as_rle
from mmtrain.reports.palette import class_color, rgb
from trainer_sdk.texts.printable import printable

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""
Point = tuple[float, float]

_MASK_OPACITY = 0.45
_PAINT_OPACITY = 0.55
_JPEG_QUALITY = 82
_LABELLED_BOXES = 30  # more labels than this hide the picture; then the largest box of each class has one
_LABEL_CHARACTERS = 20
_DARK_LUMA = 140  # of 255, by ITU-R BT.601; white text on darker tags, black on lighter
_DASH, _GAP = 6, 4  # pixels
_LEFT, _RIGHT, _MIDDLE = "#66CCEE", "#EE7733", "#FFFFFF"
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # Pillow's own has no letters beyond Latin


class Skeleton(NamedTuple):
    """How keypoints belong together."""

    names: Sequence[str] = ()
    limbs: Sequence[tuple[int, int]] = ()


def read_rgb(path: Path) -> Pixels | None:
    """As the model saw it: OpenCV, like mmcv, turns by EXIF and reduces 16 bits to 8."""
    return decode_rgb(path.read_bytes()) if path.is_file() else None


def decode_rgb(raw: bytes) -> Pixels | None:
    """The same from the bytes of a file; None if it is no picture."""
    bgr = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def drawn(
    picture: Pixels,
    annotations: Sequence[Annotation],
    names: Sequence[str],
    *,
    max_size: tuple[int, int],
    masks: bool,
    skeleton: Skeleton | None = None,
    label_size: int = 11,
    enlarge: bool = False,
) -> Image.Image:
    """A copy of the picture, made smaller to fit into `max_size` (width, height), with everything on it.

    Args:
        enlarge: make it larger too: on a small one, names would cover what they name.
        label_size: of the letters, in pixels of the result.
    """
    height, width = picture.shape[:2]
    scale = min(max_size[0] / width, max_size[1] / height, math.inf if enlarge else 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)  # linear if larger
    if masks:
        small = _with_masks(small, annotations, height, width)
    canvas = Image.fromarray(small)
    _draw_boxes(canvas, sorted(annotations, key=_area), names, scale, label_size)
    pen = ImageDraw.Draw(canvas)
    for annotation in annotations:
        if "keypoints" in annotation:
            _draw_keypoints(pen, annotation["keypoints"], skeleton or Skeleton(), scale)
    return canvas


def painted(
    picture: Pixels,
    indices: NDArray[np.uint8],
    max_size: tuple[int, int],
    clear: Sequence[int] = (),
    *,
    enlarge: bool = False,
) -> Image.Image:
    """A copy of the picture, made smaller to fit into `max_size` (width, height), its pixels tinted by their class.

    Args:
        indices: (H, W) classes; 255, no class, is darkened.
        clear: classes that stay as they are.
        enlarge: make it larger too.
    """
    height, width = picture.shape[:2]
    scale = min(max_size[0] / width, max_size[1] / height, math.inf if enlarge else 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    classes = cv2.resize(indices, size, interpolation=cv2.INTER_NEAREST)
    table = np.array([*(rgb(class_color(k)) for k in range(255)), (0, 0, 0)], dtype=np.float32)
    tinted = (1 - _PAINT_OPACITY) * small + _PAINT_OPACITY * table[classes]
    result = np.where(np.isin(classes, list(clear))[..., None], small, tinted)
    return Image.fromarray(result.astype(np.uint8))


def jpeg(picture: Image.Image, quality: int = _JPEG_QUALITY) -> str:
    """Base64, for a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The one for everything written into pictures."""
    return ImageFont.truetype(str(_FONT), size)


def _with_masks(small: Pixels, annotations: Sequence[Annotation], height: int, width: int) -> Pixels:
    """Tint the scaled picture and line the edge; masks are decoded at the full size (height, width)."""
    blended = small.astype(np.float32)
    edges: list[tuple[Sequence[NDArray[np.int32]], tuple[int, int, int]]] = []
    for annotation in annotations:
        if "segmentation" not in annotation:
            continue
        mask = rle_masks.decode(as_rle(annotation["segmentation"], height, width))
        inside = cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        color = rgb(class_color(annotation["category_id"]))
        tinted = inside.astype(bool)
        blended[tinted] = (1 - _MASK_OPACITY) * blended[tinted] + _MASK_OPACITY * np.array(color, dtype=np.float32)
        edges.append((cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0], color))
    result = blended.astype(np.uint8)
    for contours, color in edges:
        cv2.drawContours(result, contours, -1, color, thickness=1, lineType=cv2.LINE_AA)
    return result


def _draw_boxes(
    canvas: Image.Image, annotations: list[Annotation], names: Sequence[str], scale: float, label_size: int
) -> None:
    pen, font = ImageDraw.Draw(canvas), font_of(label_size)
    for annotation in reversed(annotations):  # large ones first, small ones stay visible
        x, y, w, h = (side * scale for side in annotation["bbox"])
        corners = (x, y, max(x + w, x), max(y + h, y))
        color = class_color(annotation["category_id"])
        if annotation.get("iscrowd"):
            for dash in _dashes(corners):
                pen.line(dash, fill=color, width=2)
        else:
            pen.rectangle(corners, outline=color, width=2)
    few = len(annotations) <= _LABELLED_BOXES
    largest = {annotation["category_id"]: annotation for annotation in annotations}.values()
    for annotation in reversed(annotations if few else [*largest]):
        _draw_label(pen, font, annotation, names, scale, canvas.size)


def _dashes(box_xyxy: tuple[float, float, float, float]) -> Iterator[tuple[float, float, float, float]]:
    """The edges of a box in pieces: what it holds is ignored in training and evaluation."""
    left, top, right, bottom = box_xyxy
    for x, end in _pieces(left, right):
        yield from ((x, top, end, top), (x, bottom, end, bottom))
    for y, end in _pieces(top, bottom):
        yield from ((left, y, left, end), (right, y, right, end))


def _pieces(start: float, end: float) -> Iterator[tuple[float, float]]:
    for step in range(int(end - start) // (_DASH + _GAP) + 1):
        piece = start + step * (_DASH + _GAP)
        yield piece, min(piece + _DASH, end)


def _draw_label(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    annotation: Annotation,
    names: Sequence[str],
    scale: float,
    size: tuple[int, int],
) -> None:
    """A filled tag on the upper left corner of the box, kept inside the picture."""
    text = printable(_label(annotation, names))  # Pillow measures one line only
    width, height = int(pen.textlength(text, font=font)) + 4, int(font.size) + 3
    x = min(max(annotation["bbox"][0] * scale, 0), max(size[0] - width, 0))
    y = max(annotation["bbox"][1] * scale - height, 0)
    red, green, blue = rgb(class_color(annotation["category_id"]))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK_LUMA
    pen.rectangle((x, y, x + width, y + height), fill=(red, green, blue))
    pen.text((x + 2, y), text, font=font, fill="white" if dark else "black")


def _draw_keypoints(pen: ImageDraw.ImageDraw, keypoints: Sequence[float], skeleton: Skeleton, scale: float) -> None:
    """Limbs between labelled points; visible points are filled, hidden ones hollow, unlabelled ones absent."""
    points = [(keypoints[i] * scale, keypoints[i + 1] * scale) for i in range(0, len(keypoints), 3)]
    seen = [round(v) for v in keypoints[2::3]]
    for start, end in skeleton.limbs:
        if max(start, end) < len(points) and seen[start] and seen[end]:
            sides = {_side_color(skeleton.names, start), _side_color(skeleton.names, end)} - {_MIDDLE}
            pen.line((points[start], points[end]), fill=sides.pop() if len(sides) == 1 else _MIDDLE, width=2)
    for number, (point, v) in enumerate(zip(points, seen, strict=True)):
        if v:
            _draw_point(pen, point, _side_color(skeleton.names, number), hollow=v == 1)


def _draw_point(pen: ImageDraw.ImageDraw, point: Point, color: str, *, hollow: bool) -> None:
    x, y = point
    dot = (x - 3, y - 3, x + 3, y + 3)
    if hollow:
        pen.ellipse(dot, outline=color, width=2)
    else:
        pen.ellipse(dot, fill=color, outline="black")


def _side_color(names: Sequence[str], number: int) -> str:
    """By the side that the point's name states: a left-right flip without its pairs is seen at once."""
    name = names[number].lower() if number < len(names) else ""
    if name.startswith(("left", "l_", "l-")):
        return _LEFT
    return _RIGHT if name.startswith(("right", "r_", "r-")) else _MIDDLE


def _label(annotation: Annotation, names: Sequence[str]) -> str:
    name = names[annotation["category_id"]]
    short = name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…"
    return f"{short} {annotation['score']:.2f}" if "score" in annotation else short


def _area(annotation: Annotation) -> float:
    return float(annotation["bbox"][2] * annotation["bbox"][3])

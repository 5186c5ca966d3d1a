"""A dozen images of the split, truth beside prediction, small enough to live inside the page."""

from __future__ import annotations

import base64
import io
from itertools import cycle
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import orjson
from faster_coco_eval.core import mask as rle_masks
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmtrain.reports.coco_metrics import Annotation, Geometry, Truth, read_truth
from mmtrain.reports.matching import ImageMatch, as_rle, by_image, confused_pairs, match_images
from mmtrain.reports.models import Sample
from mmtrain.reports.palette import class_color, rgb
from trainer_sdk.tasks import Task

_MAX_WIDTH, _MAX_HEIGHT = 480, 640  # pixels
_MASK_OPACITY = 0.45
_JPEG_QUALITY = 82
_LABELLED_BOXES = 30  # more labels than this hide the picture; colours still tell the class
_LABEL_CHARACTERS = 20
_DARK_LUMA = 140  # of 255, by ITU-R BT.601; white text on darker tags, black on lighter
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # Pillow's own has no letters beyond Latin

Choice = tuple[int, str]  # position in truth.images, reason


def draw_samples(
    annotations: Path, predictions: Path, images_root: Path, *, task: Task, score_threshold: float, count: int = 12
) -> list[Sample]:
    """Choose and draw the same images every time: a third with most mistakes, the rest spread over the classes.

    Args:
        images_root: what the `file_name` entries are relative to.
        score_threshold: predictions below it are not drawn; use `Evaluation.operating_point.score_threshold`.

    Returns:
        At most `count` samples; images that cannot be read are left out.
    """
    truth = read_truth(annotations)
    found = [p for p in orjson.loads(predictions.read_bytes()) if p["score"] >= score_threshold]
    geometry: Geometry = "segm" if task == "instance_segmentation" else "bbox"
    matches = match_images(truth, found, geometry)
    objects_of, found_of = by_image(truth.annotations), by_image(found)
    samples = []
    for position, reason in choose_images(truth, matches, score_threshold, count):
        image = truth.images[position]
        picture = _read_rgb(images_root / image["file_name"])
        if picture is None:
            continue
        objects, guesses = objects_of[image["id"]], found_of[image["id"]]
        sample = Sample(
            file_name=image["file_name"],
            reason=reason,
            objects=len(matches[position].truth_class),
            mistakes=mistakes(matches[position], score_threshold),
            truth_jpeg=_jpeg(_drawn(picture, objects, truth.class_names, geometry)),
            prediction_jpeg=_jpeg(_drawn(picture, guesses, truth.class_names, geometry)),
        )
        samples.append(sample)
    return samples


def choose_images(truth: Truth, matches: list[ImageMatch], score_threshold: float, count: int) -> list[Choice]:
    """The worst third first, then images that show each class in turn (rarest first), then evenly spaced ones."""
    wrong = [mistakes(match, score_threshold) for match in matches]
    worst = sorted(range(len(matches)), key=lambda i: -wrong[i])[: count // 3]
    chosen: dict[int, str] = {i: "most mistakes" for i in worst if wrong[i]}
    for class_id in _class_rounds(matches, len(truth.class_names), rounds=count):
        showing = [i for i, match in enumerate(matches) if i not in chosen and class_id in match.truth_class]
        if len(chosen) < count and showing:
            chosen[showing[len(showing) // 2]] = f"shows {truth.class_names[class_id]}"
    rest = [i for i in range(len(matches)) if i not in chosen]
    spaced = np.linspace(0, len(rest) - 1, min(count - len(chosen), len(rest))).astype(int)
    return [*chosen.items(), *((rest[i], "evenly spaced") for i in spaced)]


def mistakes(match: ImageMatch, score_threshold: float) -> int:
    """Objects missed or called by a wrong name, plus predictions on nothing."""
    finder_of, object_of = confused_pairs(match, score_threshold)
    missed_or_misnamed = np.append(match.found_class, -1)[finder_of] != match.truth_class
    on_nothing = (object_of < 0) & (match.found_score >= score_threshold)
    return int(missed_or_misnamed.sum() + on_nothing.sum())


def _class_rounds(matches: list[ImageMatch], class_count: int, rounds: int) -> list[int]:
    """Class ids that occur, rarest first, again and again; `rounds` turns in all."""
    occurring = np.concatenate([np.empty(0, np.int64), *(match.truth_class for match in matches)])
    amount = np.bincount(occurring, minlength=class_count)
    order = [int(k) for k in np.argsort(amount, kind="stable") if amount[k]]
    return [k for k, _ in zip(cycle(order), range(max(rounds, len(order))), strict=False)]


def _read_rgb(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) as the model saw it: OpenCV, like mmcv, turns by EXIF and reduces 16 bits to 8."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _drawn(
    picture: NDArray[np.uint8], annotations: list[Annotation], names: list[str], geometry: Geometry
) -> Image.Image:
    height, width = picture.shape[:2]
    scale = min(1.0, _MAX_WIDTH / width, _MAX_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if geometry == "segm":
        small = _with_masks(small, annotations, height, width)
    canvas = Image.fromarray(small)
    _draw_boxes(canvas, sorted(annotations, key=_area), names, scale)
    return canvas


def _with_masks(small: NDArray[np.uint8], annotations: list[Annotation], height: int, width: int) -> NDArray[np.uint8]:
    """Tint the scaled picture; masks are decoded at the full size (height, width)."""
    blended = small.astype(np.float32)
    for annotation in annotations:
        mask = rle_masks.decode(as_rle(annotation["segmentation"], height, width))
        inside = cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        tint = np.array(rgb(class_color(annotation["category_id"])), dtype=np.float32)
        blended[inside] = (1 - _MASK_OPACITY) * blended[inside] + _MASK_OPACITY * tint
    return blended.astype(np.uint8)


def _draw_boxes(canvas: Image.Image, annotations: list[Annotation], names: list[str], scale: float) -> None:
    pen, font = ImageDraw.Draw(canvas), ImageFont.truetype(str(_FONT), 11)
    for annotation in reversed(annotations):  # large ones first, small ones stay visible
        x, y, w, h = (side * scale for side in annotation["bbox"])
        pen.rectangle((x, y, max(x + w, x), max(y + h, y)), outline=class_color(annotation["category_id"]), width=2)
    if len(annotations) <= _LABELLED_BOXES:
        for annotation in reversed(annotations):
            _draw_label(pen, font, annotation, names, scale, canvas.size)


def _draw_label(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    annotation: Annotation,
    names: list[str],
    scale: float,
    size: tuple[int, int],
) -> None:
    """A filled tag on the upper left corner of the box, kept inside the picture."""
    text = _label(annotation, names)
    width, height = int(pen.textlength(text, font=font)) + 4, 14
    x = min(max(annotation["bbox"][0] * scale, 0), max(size[0] - width, 0))
    y = max(annotation["bbox"][1] * scale - height, 0)
    red, green, blue = rgb(class_color(annotation["category_id"]))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK_LUMA
    pen.rectangle((x, y, x + width, y + height), fill=(red, green, blue))
    pen.text((x + 2, y), text, font=font, fill="white" if dark else "black")


def _label(annotation: Annotation, names: list[str]) -> str:
    name = names[annotation["category_id"]]
    short = name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…"
    return f"{short} {annotation['score']:.2f}" if "score" in annotation else short


def _area(annotation: Annotation) -> float:
    return float(annotation["bbox"][2] * annotation["bbox"][3])


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

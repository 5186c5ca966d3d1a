"""What was found, as rows of every format that is written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmtrain.predicting.found import Box, Classes, Found, Painted, Seen
from mmtrain.predicting.shapes import encoded, extent, polygons, regions

Row = dict[str, Any]


def platform_row(seen: Seen, classes: Classes) -> Row:
    """A row of predictions.json (platform contract 7.4): boxes xyxy in pixels of the picture, turned by EXIF.

    A picture that could not be looked at has an ``error`` and no predictions.
    """
    predictions = [_prediction(found, classes) for found in seen.objects]
    if seen.painted is not None:
        predictions = list(_painted_classes(seen.painted, classes))
    return {
        "image_path": seen.item.address,
        "image_name": seen.item.name,
        "image_id": seen.item.number,
        "width": seen.width,
        "height": seen.height,
        "predictions": predictions,
        "num_detections": len(predictions),
        "inference_time_ms": round(seen.inference_ms, 3),
        **({"error": seen.error} if seen.error else {}),
    }


def slim(row: Row) -> Row:
    """What the backend stores of a row: without masks and points, which it has no field for (contract 2.5)."""
    kept = ("class_id", "class_name", "confidence", "bbox")
    predictions = [{key: one.get(key) for key in kept} for one in row["predictions"]]
    return {key: row[key] for key in ("image_path", "image_name", "inference_time_ms")} | {"predictions": predictions}


def _prediction(found: Found, classes: Classes) -> Row:
    row: Row = {
        "class_id": classes.ids[found.label],
        "class_name": classes.names[found.label],
        "confidence": round(found.score, 5),
        "bbox": _rounded(found.box_xyxy),
    }
    if found.rle is not None:
        row |= {"segmentation": polygons(found.rle), "rle": found.rle}
    if found.keypoints is not None:
        row["keypoints"] = [_rounded(point) for point in found.keypoints]
    return row


def _painted_classes(painted: Painted, classes: Classes) -> Iterator[Row]:
    """One row for each class in a class map: its extent, its region, and how sure the model is of it on average."""
    for index, region in regions(painted.indices, len(classes)).items():
        rle = encoded(region)
        yield {
            "class_id": classes.ids[index],
            "class_name": classes.names[index],
            **({"confidence": round(painted.surety[index], 5)} if index in painted.surety else {}),
            "bbox": _rounded(extent(region)),
            "pixels": int(region.sum()),
            "segmentation": polygons(rle),
            "rle": rle,
        }


def coco_rows(seen: Seen, classes: Classes) -> list[Row]:
    """COCO results: original category ids, boxes xywh, compressed RLE, keypoints [x, y, score, ...]."""
    return [
        {
            "image_id": seen.item.number,
            "category_id": classes.ids[found.label],
            "bbox": _xywh(found.box_xyxy),
            "score": round(found.score, 5),
            **({"segmentation": found.rle} if found.rle is not None else {}),
            **({"keypoints": [round(v, 3) for point in found.keypoints for v in point]} if found.keypoints else {}),
        }
        for found in seen.objects
    ]


def label_lines(seen: Seen, *, with_confidence: bool) -> list[str]:
    """YOLO's label file: class index, then shares of width and height, and the confidence last if wanted.

    A box is its centre and sides; a mask its outline instead, all parts in one; points follow their box, each with its
    score.
    """
    return [
        " ".join([str(found.label), *_shares(found, seen.width, seen.height), *_confidence(found, with_confidence)])
        for found in seen.objects
    ]


def _shares(found: Found, width: int, height: int) -> list[str]:
    if found.rle is not None:
        outline = np.array([v for part in polygons(found.rle) for v in part], dtype=np.float64).reshape(-1, 2)
        return [f"{value:.6f}" for value in (outline / (width, height)).ravel()]
    x, y, w, h = _xywh(found.box_xyxy)
    shares = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    for px, py, score in found.keypoints or ():
        shares += [px / width, py / height, score]
    return [f"{value:.6f}" for value in shares]


def _confidence(found: Found, wanted: bool) -> list[str]:
    return [f"{found.score:.5f}"] if wanted else []


def drawn_annotations(seen: Seen) -> list[Row]:
    """As `reports.drawing` takes them: category indices."""
    return [
        {
            "bbox": _xywh(found.box_xyxy),
            "category_id": found.label,
            "score": found.score,
            **({"segmentation": found.rle} if found.rle is not None else {}),
            **({"keypoints": _seen_points(found.keypoints)} if found.keypoints else {}),
        }
        for found in seen.objects
    ]


SURE_POINT = 0.3
"""Points below are not drawn, and are no labels."""


def _seen_points(points: Sequence[tuple[float, float, float]]) -> list[float]:
    """Flat [x, y, v]: 2 for a point that is sure, else 0."""
    return [value for x, y, score in points for value in (x, y, 2.0 if score >= SURE_POINT else 0.0)]


def dice_annotation(found: Found, number: int, image_id: int, classes: Classes) -> Row:
    """One pre-annotation as COCO's JSON, which the DICE writer takes; `attributes` say that a machine made it."""
    box = _xywh(found.box_xyxy)
    row: Row = {
        "id": number,
        "image_id": image_id,
        "category_id": classes.ids[found.label],
        "bbox": box,
        "area": round(box[2] * box[3], 3),
        "iscrowd": 0,
        "attributes": {"source": "prediction", "confidence": round(found.score, 5)},
    }
    if found.rle is not None:
        row |= {"segmentation": polygons(found.rle)}
    if found.keypoints is not None:
        points = _seen_points(found.keypoints)
        row |= {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])}
    return row


def _xywh(box: Box) -> list[float]:
    left, top, right, bottom = box
    return _rounded((left, top, right - left, bottom - top))


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 3) for value in values]

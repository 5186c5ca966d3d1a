#!/usr/bin/env python3
"""Predicts with an exported model: numpy, OpenCV and the model's runtime, no PyTorch, nothing of the trainer.

    python predict_standalone.py PACKAGE IMAGE [--json FILE]

PACKAGE is the folder in which `metadata.json` and the model lie. In a program:

    predictor = Predictor("package")
    found = predictor.predict(cv2.imread("image.jpg"))

`found` has, in pixels of the original image:
    boxes (N, 4) float32 xyxy, scores (N,) float32, labels (N,) int64 (positions in `predictor.class_names`),
    masks (N, H, W) bool for models with masks, keypoints (N, K, 3) float32 (x, y, score) for models of poses;
    a model of semantic segmentation gives class_map (H, W) uint8 alone.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Found = dict[str, Array]

PADDING_OF_CROPS = 1.25
"""A pose model sees this much of its box (MMPose's GetBBoxCenterScale)."""
SURE_POINT = 0.2
"""Points surer than this count in a pose's score (COCO's way with given boxes)."""


class Place(NamedTuple):
    """Where a picture lies in the model's input: original = input * scale + offset, for x and y."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    picture_hw: tuple[int, int]
    """Of the picture in the input, without padding; it begins at the upper left corner."""
    input_hw: tuple[int, int]
    original_hw: tuple[int, int]


class Prepared(NamedTuple):
    """An image as the model wants it: (3, H, W) float32."""

    tensor: Array
    place: Place


class Session(Protocol):
    """A model in its runtime."""

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs by name."""


class Predictor:
    """An exported model with its pre- and post-processing."""

    def __init__(self, package: str | Path, *, threads: int = 0, session: Session | None = None) -> None:
        """Loads it.

        Args:
            package: folder of an unpacked package.
            threads: of the CPU; 0 is the runtime's own choice.
            session: another way to run the model than the one that fits its format.
        """
        self.folder = Path(package)
        self.metadata: dict[str, Any] = json.loads((self.folder / "metadata.json").read_text())
        self.class_names: list[str] = self.metadata["class_names"]
        self.session = session or open_session(self.folder, self.metadata, threads)
        self._pre: dict[str, Any] = self.metadata["preprocessing"]
        self._post: dict[str, Any] = self.metadata["postprocessing"]

    @property
    def most_at_a_time(self) -> int:
        """Images in one call of the model; 0: any number."""
        batch = self.metadata["input_spec"]["shape"][0]
        return batch if isinstance(batch, int) and batch > 0 else 0

    def predict(
        self,
        image_bgr: Array,
        *,
        boxes: Array | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
    ) -> Found:
        """What is seen in an image (H, W, 3) uint8, as `cv2.imread` reads it.

        Args:
            boxes: (N, 4) xyxy of objects whose poses are wanted (models that see crops); by default the whole image.
            conf: least score, else the model's own.
            iou: of non-maximum suppression, else the model's own; without effect where the model does it itself.
            max_det: most objects, else the model's own.
        """
        if self._post["kind"] in ("heatmap", "simcc"):
            return self._poses_of_boxes(image_bgr, boxes, conf)
        prepared = self.prepare(image_bgr)
        outputs = self.run(prepared.tensor[None], [prepared.place])
        return self.finish(outputs, prepared.place, conf=conf, iou=iou, max_det=max_det)

    def prepare(self, image_bgr: Array, box: Array | None = None) -> Prepared:
        """The model's input; `box` is the crop's, for models that see crops."""
        if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8:
            raise ValueError(f"an image is (H, W, 3) uint8, this is {image_bgr.shape} {image_bgr.dtype}")
        picture, place = PLACEMENTS[self._pre["resize_mode"]](image_bgr, self._pre, box)
        return Prepared(self._normalised(picture), place)

    def run(self, tensors: Array, places: list[Place]) -> dict[str, Array]:
        """The model's outputs for a batch (B, 3, H, W); a file for a fixed batch is filled up with the last image."""
        count, lacking = len(tensors), max(0, self.most_at_a_time - len(tensors))
        if lacking:
            tensors = np.concatenate([tensors, np.repeat(tensors[-1:], lacking, axis=0)])
        inputs = {self.metadata["input_spec"]["name"]: np.ascontiguousarray(tensors)}
        if "picture_input" in self.metadata:
            inputs[self.metadata["picture_input"]] = np.array([place.picture_hw for place in places], dtype=np.float32)
        outputs = self.session.run(inputs)
        if not lacking:
            return outputs
        return {name: output if name in PER_OBJECT else output[:count] for name, output in outputs.items()}

    def finish(
        self,
        outputs: dict[str, Array],
        place: Place,
        *,
        number: int = 0,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
    ) -> Found:
        """What the outputs mean, of the image with this number in the batch."""
        chosen = {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det}
        options = self._post | {name: value for name, value in chosen.items() if value is not None}
        of_one = {name: output if name in PER_OBJECT else output[number] for name, output in outputs.items()}
        found = MEANINGS[self._post["kind"]](of_one, place, options)
        least = self._post.get("least_score") if conf is None else conf
        if least is None or "scores" not in found:
            return found
        sure = found["scores"] >= least  # some models weigh the scores of what they have chosen (FCOS, ATSS)
        return {name: values[sure] for name, values in found.items()}

    def _poses_of_boxes(self, image_bgr: Array, boxes: Array | None, conf: float | None) -> Found:
        height, width = image_bgr.shape[:2]
        if boxes is None:
            boxes = np.array([[0, 0, width, height]], dtype=np.float32)
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        crops = [self.prepare(image_bgr, box) for box in boxes]
        points = [self._pose(crop) for crop in crops]
        keypoints = np.stack(points) if points else np.zeros((0, len(self.metadata["keypoint_names"]), 3), np.float32)
        scores = _mean_of_sure(keypoints[..., 2])
        kept = scores >= (self._post.get("least_score", 0.0) if conf is None else conf)
        return {
            "boxes": boxes[kept],
            "scores": scores[kept],
            "labels": np.zeros(int(kept.sum()), dtype=np.int64),
            "keypoints": keypoints[kept],
        }

    def _pose(self, crop: Prepared) -> Array:
        outputs = {name: output[0] for name, output in self.run(crop.tensor[None], [crop.place]).items()}
        pose: Array = MEANINGS[self._post["kind"]](outputs, crop.place, self._post)["keypoints"][0]
        return pose

    def _normalised(self, picture_bgr: Array) -> Array:
        """(H, W, 3) uint8 or float32 BGR -> (3, H, W) float32, one colour after the other: no strided pass over all."""
        planes = cv2.split(picture_bgr)
        if self._pre["color_space"] == "RGB":
            planes = planes[::-1]
        tensor = np.empty((3, *picture_bgr.shape[:2]), dtype=np.float32)
        means, deviations = (np.asarray(self._pre[name], dtype=np.float32) for name in ("mean", "std"))
        for target, plane, mean, deviation in zip(tensor, planes, means, deviations, strict=True):
            np.subtract(plane, mean, out=target, dtype=np.float32)
            np.divide(target, deviation, out=target)
        return tensor


# How a picture becomes the input -------------------------------------------------------------------------------------


def resized(image: Array, pre: dict[str, Any], box: Array | None) -> tuple[Array, Place]:
    """The whole picture, as large as it fits, at the upper left corner; the rest is padding."""
    height, width = image.shape[:2]
    ratio = _ratio(pre, width, height)
    new_w, new_h = (max(1, int(side * ratio + 0.5)) for side in (width, height))
    picture = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    input_h, input_w = _input_size(pre, new_h, new_w)
    if (input_h, input_w) != (new_h, new_w):
        padding = _padding_bgr(pre)
        canvas = np.empty((input_h, input_w, 3), np.uint8 if all(v in range(256) for v in padding) else np.float32)
        canvas[:] = padding
        canvas[:new_h, :new_w] = picture
        picture = canvas
    scale = (1 / (new_w / width), 1 / (new_h / height))  # rounded as MMDetection rounds it: masks are cut by it
    seen = (input_h, input_w) if pre["clip_to"] == "input" else (new_h, new_w)
    return picture, Place(scale, (0.0, 0.0), seen, (input_h, input_w), (height, width))


def _padding_bgr(pre: dict[str, Any]) -> tuple[float, ...]:
    return tuple(pre["pad_value"][::-1] if pre["color_space"] == "RGB" else pre["pad_value"])


def _ratio(pre: dict[str, Any], width: int, height: int) -> float:
    size_w, size_h = pre["size_wh"]
    if pre["resize_mode"] == "fit":
        return float(min(size_w / width, size_h / height))
    longer, shorter = max(size_w, size_h), min(size_w, size_h)  # upright pictures stay upright
    return float(min(longer / max(width, height), shorter / min(width, height)))


def _input_size(pre: dict[str, Any], height: int, width: int) -> tuple[int, int]:
    if pre["pad_to_size"]:
        size_w, size_h = pre["size_wh"]
        return size_h, size_w
    multiple = pre["size_multiple"]
    return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple


def warped(image: Array, pre: dict[str, Any], box: Array | None) -> tuple[Array, Place]:
    """The whole picture, or the crop around a box, in the middle of the input."""
    size_w, size_h = pre["size_wh"]
    height, width = image.shape[:2]
    if pre["resize_mode"] == "crop":
        left, top, right, bottom = (0, 0, width, height) if box is None else (float(value) for value in box)
        centre = np.array([(left + right) * 0.5, (top + bottom) * 0.5], dtype=np.float32)
        scale = _with_aspect((right - left) * PADDING_OF_CROPS, (bottom - top) * PADDING_OF_CROPS, size_w / size_h)
        border: tuple[float, ...] = (0, 0, 0)
    else:
        centre = np.array([width / 2, height / 2], dtype=np.float32)
        inner_w, inner_h = min(size_w, size_h * (width / height)), min(size_h, size_w / (width / height))
        scale = np.array([width * size_w / inner_w, height * size_h / inner_h], dtype=np.float32)
        border = _padding_bgr(pre)
    picture = cv2.warpAffine(
        image, _warp(centre, scale, (size_w, size_h)), (size_w, size_h), flags=cv2.INTER_LINEAR, borderValue=border
    )
    factor = (float(scale[0]) / size_w, float(scale[1]) / size_h)
    offset = (float(centre[0] - 0.5 * scale[0]), float(centre[1] - 0.5 * scale[1]))
    return picture, Place(factor, offset, (size_h, size_w), (size_h, size_w), (height, width))


def _with_aspect(width: float, height: float, aspect: float) -> Array:
    """Made larger to the input's ratio of sides."""
    if width > height * aspect:
        return np.array([width, width / aspect], dtype=np.float32)
    return np.array([height * aspect, height], dtype=np.float32)


def _warp(centre: Array, scale: Array, size_wh: tuple[int, int]) -> Array:
    """The affine map that brings the box of this centre and width to the whole input."""
    middle = np.array([size_wh[0] * 0.5, size_wh[1] * 0.5], dtype=np.float32)
    source, target = np.zeros((3, 2), dtype=np.float32), np.zeros((3, 2), dtype=np.float32)
    for points, point, half in ((source, centre, scale[0] * 0.5), (target, middle, size_wh[0] * 0.5)):
        points[0], points[1] = point, point + np.array([-half, 0.0])
        direction = points[0] - points[1]
        points[2] = points[1] + np.array([-direction[1], direction[0]])
    return np.asarray(cv2.getAffineTransform(source, target))


PLACEMENTS = {"fit": resized, "long_short": resized, "centred": warped, "crop": warped}


# What the outputs mean -----------------------------------------------------------------------------------------------

PER_OBJECT = {"det_boxes", "det_scores", "det_labels", "det_masks", "det_keypoints"}
"""Outputs of models that find the objects themselves: one row each, without a dimension for the batch."""


def dense(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """Of every position boxes (N, 4) xyxy in the input, scores (N, classes), and what else a position knows."""
    chosen = _candidates(outputs["scores"], place, post)
    at, labels = chosen
    boxes = _to_original(_clipped(outputs["boxes"][at], place, post), place)
    scores = outputs["scores"][at, labels]
    if "factors" in outputs and not post["one_label"]:
        scores = scores * outputs["factors"][at]
    if post.get("min_box_size", -1) >= 0:
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > post["min_box_size"]).all(axis=1)
        at, labels, boxes, scores = at[large], labels[large], boxes[large], scores[large]
    kept = suppressed(boxes, scores, labels, post["iou_threshold"])[: post["max_detections"]]
    found: Found = {
        "boxes": boxes[kept].astype(np.float32),
        "scores": scores[kept].astype(np.float32),
        "labels": labels[kept].astype(np.int64),
    }
    if "kernels" in outputs:
        found["masks"] = _masks_of_kernels(outputs, at[kept], place, post)
    if "keypoints" in outputs:
        points = outputs["keypoints"][at[kept]]
        found["keypoints"] = _points(points[..., :2], points[..., 2], place)
    return found


def _candidates(scores: Array, place: Place, post: dict[str, Any]) -> tuple[Array, Array]:
    """Positions and labels that are sure enough, the best of each level."""
    if post["one_label"]:
        labels = scores.argmax(axis=1)
        at = np.flatnonzero(scores.max(axis=1) >= post["score_threshold"])
        return at, labels[at]
    picked, begin = [], 0
    for count in _positions(post["levels"], place.input_hw, len(scores)):
        of_level = scores[begin : begin + count]
        at, labels = np.nonzero(of_level > post["score_threshold"])
        best = np.argsort(-of_level[at, labels], kind="stable")[: post["candidates_per_level"]]
        picked.append((at[best] + begin, labels[best]))
        begin += count
    return np.concatenate([at for at, _ in picked]), np.concatenate([labels for _, labels in picked])


def _positions(levels: list[dict[str, int]], input_hw: tuple[int, int], total: int) -> list[int]:
    counts = [
        math.ceil(input_hw[0] / level["stride"]) * math.ceil(input_hw[1] / level["stride"]) * level["anchors"]
        for level in levels
    ]
    if sum(counts) != total:
        raise ValueError(f"the model has {total} positions, an input of {input_hw} should have {sum(counts)}")
    return counts


def suppressed(boxes: Array, scores: Array, labels: Array, iou_threshold: float) -> Array:
    """Indices of what non-maximum suppression leaves, best first; objects of different classes do not compete."""
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    xywh = boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    return np.asarray(
        cv2.dnn.NMSBoxesBatched(
            xywh.tolist(), scores.astype(np.float32).tolist(), labels.astype(int).tolist(), -1.0, iou_threshold
        ),
        dtype=np.int64,
    ).reshape(-1)


def detections(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """Objects that the model has chosen itself: det_boxes (M, 4) xyxy in the input, best first; masks of boxes."""
    kept = outputs["det_scores"] >= post["score_threshold"]
    kept[post["max_detections"] :] = False
    boxes = _to_original(_clipped(outputs["det_boxes"][kept], place, post), place)
    found: Found = {
        "boxes": boxes.astype(np.float32),
        "scores": outputs["det_scores"][kept].astype(np.float32),
        "labels": outputs["det_labels"][kept].astype(np.int64),
    }
    if "det_masks" in outputs:
        masks = [
            pasted(mask, box, place.original_hw) >= post["mask_threshold"]
            for mask, box in zip(outputs["det_masks"][kept], boxes, strict=True)
        ]
        found["masks"] = np.stack(masks) if masks else np.zeros((0, *place.original_hw), dtype=bool)
    if "det_keypoints" in outputs:
        points = outputs["det_keypoints"][kept]
        found["keypoints"] = _points(points[..., :2], points[..., 2], place)
    return found


def tops(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """The same of models that give as many objects for every picture: top_boxes (K, 4)."""
    return detections({name.replace("top_", "det_"): output for name, output in outputs.items()}, place, post)


def queries(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """Mask2Former's: logits (Q, classes + 1) and masks (Q, h, w), logits too, of a part of the input's size."""
    odds = softmax(outputs["class_logits"])[:, :-1]
    best = np.argsort(-odds.ravel(), kind="stable")[: post["max_detections"]]
    query, labels = np.divmod(best, odds.shape[1])
    scores, masks, boxes = [], [], []
    picture_h, picture_w = place.picture_hw
    height, width = place.original_hw
    for number, label in zip(query, labels, strict=True):
        logits = cv2.resize(outputs["mask_logits"][number], place.input_hw[::-1], interpolation=cv2.INTER_LINEAR)
        logits = cv2.resize(logits[:picture_h, :picture_w], (width, height), interpolation=cv2.INTER_LINEAR)
        mask = logits > 0
        inside = 1 / (1 + np.exp(-logits[mask].astype(np.float64)))
        scores.append(odds[number, label] * inside.sum() / (mask.sum() + 1e-6))
        masks.append(mask)
        boxes.append(_around(mask))
    sure = np.asarray(scores, dtype=np.float32)
    order = [int(at) for at in np.argsort(-sure, kind="stable") if sure[at] >= post["score_threshold"]]
    return {
        "boxes": np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[order],
        "scores": sure[order],
        "labels": labels[order].astype(np.int64),
        "masks": np.stack([masks[at] for at in order]) if order else np.zeros((0, height, width), dtype=bool),
    }


def semantic(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """The class of every pixel, from scores (classes, H, W) of the input's size."""
    height, width = place.picture_hw
    corners = post["align_corners"]
    scores = outputs["logits"]
    if scores.shape[1:] != place.input_hw:
        scores = stretched(scores, place.input_hw, align_corners=corners)
    whole = stretched(scores[:, :height, :width], place.original_hw, align_corners=corners)
    return {"class_map": whole.argmax(axis=0).astype(np.uint8)}


def heatmap(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """One map (H, W) per point: its maximum, moved by a quarter towards the larger neighbour."""
    maps = outputs["heatmaps"]
    count, height, width = maps.shape
    at = maps.reshape(count, -1).argmax(axis=1)
    scores = maps.reshape(count, -1).max(axis=1)
    points = np.stack([at % width, at // width], axis=1).astype(np.float32)
    points[scores <= 0] = -1
    steps = np.zeros_like(points)
    for number, spots in enumerate(maps):
        x, y = int(points[number, 0]), int(points[number, 1])
        step_x = spots[y, x + 1] - spots[y, x - 1] if 1 < x < width - 1 and 0 < y < height else 0.0
        step_y = spots[y + 1, x] - spots[y - 1, x] if 1 < y < height - 1 and 0 < x < width else 0.0
        steps[number] = np.sign([step_x, step_y])
    points += 0.25 * steps
    factor = np.array([place.input_hw[1] / width, place.input_hw[0] / height], dtype=np.float32)
    return {"keypoints": _points(points[None] * factor, scores[None], place)}


def simcc(outputs: dict[str, Array], place: Place, post: dict[str, Any]) -> Found:
    """One row of x and one of y per point: their maxima."""
    rows_x, rows_y = outputs["simcc_x"], outputs["simcc_y"]
    scores = np.minimum(rows_x.max(axis=1), rows_y.max(axis=1))
    points = np.stack([rows_x.argmax(axis=1), rows_y.argmax(axis=1)], axis=1).astype(np.float32)
    points[scores <= 0] = -1
    return {"keypoints": _points(points[None] / post["split_ratio"], scores[None], place)}


MEANINGS = {
    "dense": dense, "detections": detections, "tops": tops, "queries": queries, "semantic": semantic,
    "heatmap": heatmap, "simcc": simcc,
}  # fmt: skip


def _clipped(boxes: Array, place: Place, post: dict[str, Any]) -> Array:
    if not post["clip_boxes"]:
        return boxes
    height, width = place.picture_hw
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))


def _to_original(boxes: Array, place: Place) -> Array:
    return boxes * np.array(place.scale * 2, dtype=np.float32) + np.array(place.offset * 2, dtype=np.float32)


def _points(points: Array, scores: Array, place: Place) -> Array:
    """(N, K, 2) in the input and (N, K) -> (N, K, 3) in the original."""
    original = points * np.array(place.scale) + np.array(place.offset)
    return np.asarray(np.concatenate([original, scores[..., None]], axis=-1).astype(np.float32))


def _mean_of_sure(scores: Array) -> Array:
    """(N, K) -> (N,); 0 where no point is sure."""
    sure = scores > SURE_POINT
    return np.asarray((scores * sure).sum(axis=1) / np.maximum(sure.sum(axis=1), 1), dtype=np.float32)


def _around(mask: Array) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0.0, 0.0, 0.0, 0.0]
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def softmax(logits: Array) -> Array:
    """Over the last dimension."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def pasted(mask: Array, box: Array, original_hw: tuple[int, int]) -> Array:
    """A mask (h, w) of a box, as large as the picture: bilinear, nothing beyond the mask (MMDetection's paste)."""
    height, width = original_hw
    rows = _samples(height, box[1], box[3], mask.shape[0])
    columns = _samples(width, box[0], box[2], mask.shape[1])
    return np.asarray(rows @ mask.astype(np.float32) @ columns.T)


def _samples(length: int, begin: float, end: float, cells: int) -> Array:
    """(length, cells): how much of each cell every pixel of a line takes."""
    at = (np.arange(length, dtype=np.float32) + 0.5 - begin) / max(float(end - begin), 1e-6) * cells - 0.5
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells, dtype=np.float32)[None])))


def stretched(maps: Array, size_hw: tuple[int, int], *, align_corners: bool = False) -> Array:
    """(C, h, w) -> (C, H, W), bilinear, as torch's `interpolate` does it."""
    if not align_corners:
        height, width = size_hw
        return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])
    rows, columns = (_line(size, cells) for size, cells in zip(size_hw, maps.shape[1:], strict=True))
    return np.asarray(np.einsum("Hh,chw,Ww->cHW", rows, maps, columns, optimize=True), dtype=np.float32)


def _line(length: int, cells: int) -> Array:
    at = np.arange(length, dtype=np.float32) * ((cells - 1) / (length - 1) if length > 1 else 0)
    return np.asarray(
        np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells, dtype=np.float32)[None])).astype(np.float32)
    )


def _masks_of_kernels(outputs: dict[str, Array], at: Array, place: Place, post: dict[str, Any]) -> Array:
    """RTMDet-Ins: small convolutions over the mask features (C, h, w), whose weights each position has predicted."""
    height, width = place.original_hw
    masks = np.zeros((len(at), height, width), dtype=bool)
    stride = post["mask_stride"]
    for number, position in enumerate(at):
        logits = _convolved(outputs["mask_features"], outputs["kernels"][position], outputs["priors"][position], post)
        size_h, size_w = logits.shape[0] * stride, logits.shape[1] * stride
        logits = cv2.resize(logits, (size_w, size_h), interpolation=cv2.INTER_LINEAR)
        grown = (math.ceil(size_w * place.scale[0]), math.ceil(size_h * place.scale[1]))
        logits = cv2.resize(logits, grown, interpolation=cv2.INTER_LINEAR)[:height, :width]
        masks[number] = 1 / (1 + np.exp(-logits)) > post["mask_threshold"]
    return masks


def _convolved(features: Array, weights: Array, prior: Array, post: dict[str, Any]) -> Array:
    """The features and the distance of each cell from the position, through the layers, (h, w)."""
    channels, height, width = features.shape
    stride = post["mask_stride"]
    x, y = np.meshgrid(np.arange(width) * stride, np.arange(height) * stride)
    reach = prior[2] * 8
    distance = np.stack([(prior[0] - x) / reach, (prior[1] - y) / reach]).astype(np.float32)
    values = np.concatenate([distance, features]).reshape(channels + 2, -1)
    sizes: list[list[int]] = post["mask_layers"]
    begin, biases = 0, sum(rows * columns for rows, columns in sizes)
    for number, (rows, columns) in enumerate(sizes):
        layer = weights[begin : begin + rows * columns].reshape(rows, columns)
        values = layer @ values + weights[biases : biases + rows, None]
        begin, biases = begin + rows * columns, biases + rows
        if number + 1 < len(sizes):
            values = np.maximum(values, 0)
    return np.ascontiguousarray(values.reshape(height, width), dtype=np.float32)


# Runtimes ------------------------------------------------------------------------------------------------------------


class OnnxSession:
    """ONNX Runtime on the CPU."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else it eats others' cores
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))


class OpenVinoSession:
    """OpenVINO on the CPU. Without a word on precision it may compute in bfloat16."""

    def __init__(self, model: Path, threads: int, precision: str = "f32") -> None:
        import openvino

        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._model = openvino.Core().compile_model(str(model), "CPU", options)
        self._names = [output.get_any_name() for output in self._model.outputs]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        results = self._model(inputs)
        return {name: np.asarray(results[name]) for name in self._names}


class TorchScriptSession:
    """PyTorch, for packages in its own format."""

    def __init__(self, model: Path, threads: int, names: list[str]) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._names = torch, names
        self._model = torch.jit.load(str(model), map_location="cpu").eval()

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with self._torch.inference_mode():
            outputs = self._model(*(self._torch.from_numpy(value) for value in inputs.values()))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: output.numpy() for name, output in zip(self._names, outputs, strict=True)}


def open_session(folder: Path, metadata: dict[str, Any], threads: int = 0) -> Session:
    """The model of a package in the runtime of its format."""
    model, kind = folder / metadata["model_file"], metadata["export_format"]
    if kind == "onnx":
        return OnnxSession(model, threads)
    if kind == "openvino":
        return OpenVinoSession(model, threads, metadata.get("inference_precision", "f32"))
    if kind == "torchscript":
        return TorchScriptSession(model, threads, [output["name"] for output in metadata["output_spec"]])
    if kind == "tensorrt":
        from tensorrt_session import TensorRtSession  # type: ignore[import-not-found]  # beside it in packages

        session: Session = TensorRtSession(model)
        return session
    raise ValueError(f"a package of format {kind!r} cannot be run by this file")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Predicts with an exported model.")
    parser.add_argument("package", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--conf", type=float, default=None, help="least score")
    parser.add_argument("--json", type=Path, help="writes here instead of to the screen")
    arguments = parser.parse_args()
    image = cv2.imread(str(arguments.image), cv2.IMREAD_COLOR)
    if image is None:
        parser.error(f"{arguments.image} is no image that OpenCV can read")
    predictor = Predictor(arguments.package)
    found = predictor.predict(image, conf=arguments.conf)
    text = json.dumps({"class_names": predictor.class_names} | {name: told(name, of) for name, of in found.items()})
    if arguments.json:
        arguments.json.write_text(text)
    else:
        print(text)


def told(name: str, values: Array) -> Any:
    """For JSON; masks as the number of their pixels."""
    if name == "masks":
        return [{"pixels": int(mask.sum())} for mask in values]
    return values.tolist()


if __name__ == "__main__":
    main()

"""A dozen images of the split, truth beside prediction, small enough to live inside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from mmtrain.datasets.pictures import Pictures
from mmtrain.reports.coco_metrics import Annotation, Truth, read_truth
from mmtrain.reports.drawing import Pixels, Skeleton, decode_rgb, drawn, jpeg, painted
from mmtrain.reports.matching import ImageMatch, by_image, match_images
from mmtrain.reports.models import Evaluation, Ranking, Sample
from mmtrain.reports.ranking import mistakes
from mmtrain.reports.semantic import read_indices
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

COUNT = 12
_MAX_SIZE = (480, 640)  # width, height in pixels
_VISIBLE = 2

Reasons = dict[int, str]
"""Image id -> why it was chosen."""


def draw_samples(
    annotations: Path,
    predictions: Path,
    pictures: Pictures,
    evaluation: Evaluation,
    *,
    skeleton: Skeleton | None = None,
    count: int = COUNT,
) -> list[Sample]:
    """Choose and draw the same images every time: the worst, the best, the rest spread over the classes.

    Args:
        pictures: reads the `file_name` entries.
        evaluation: of these predictions; those below its score threshold are not drawn.
        skeleton: of a pose, with 0-based limbs.

    Returns:
        At most `count` samples; images that cannot be read are left out.
    """
    assert evaluation.operating_point is not None
    threshold = evaluation.operating_point.score_threshold
    truth = read_truth(annotations)
    found = [_visible(p) for p in orjson.loads(predictions.read_bytes()) if p["score"] >= threshold]
    masks = evaluation.task is Task.INSTANCE
    matches = {match.image_id: match for match in match_images(truth, found, "segm" if masks else "bbox")}
    images = {image["id"]: image for image in truth.images}
    objects_of, found_of = by_image(truth.annotations), by_image(found)

    def draw(picture: Pixels, rows: Sequence[Annotation]) -> Image.Image:
        return drawn(picture, rows, truth.class_names, max_size=_MAX_SIZE, masks=masks, skeleton=skeleton)

    samples = []
    for image_id, reason in choose_images(truth, matches, evaluation.ranking or Ranking(measure=""), count).items():
        picture = _read(pictures, images[image_id]["file_name"])
        if picture is None:
            continue
        pose = evaluation.task is Task.POSE  # its mistakes are not those of boxes
        sample = Sample(
            file_name=images[image_id]["file_name"],
            reason=reason,
            objects=None if pose else len(matches[image_id].truth_class),
            mistakes=None if pose else mistakes(matches[image_id], threshold),
            truth_jpeg=jpeg(draw(picture, objects_of[image_id])),
            prediction_jpeg=jpeg(draw(picture, found_of[image_id])),
        )
        samples.append(sample)
    return samples


def draw_semantic_samples(
    truth: Mapping[int, Path],
    found: Mapping[int, Path],
    file_names: Mapping[int, str],
    pictures: Pictures,
    evaluation: Evaluation,
    *,
    clear: Sequence[str] = ("background",),
    count: int = COUNT,
) -> list[Sample]:
    """The same with painted pixels; the arguments are those of `evaluate_semantic`.

    Args:
        clear: classes that are not painted over.
    """
    names = evaluation.class_names
    chosen = _extremes(evaluation.ranking or Ranking(measure=""), count // 2, count // 4)
    _fill(chosen, [*truth], count)
    unpainted = [k for k, name in enumerate(names) if name in clear]
    samples = []
    for image_id, reason in chosen.items():
        picture = _read(pictures, file_names[image_id])
        if picture is None:
            continue
        sides = (painted(picture, read_indices(m[image_id]), _MAX_SIZE, unpainted) for m in (truth, found))
        truth_jpeg, prediction_jpeg = map(jpeg, sides)
        sample = Sample(
            file_name=file_names[image_id], reason=reason, truth_jpeg=truth_jpeg, prediction_jpeg=prediction_jpeg
        )
        samples.append(sample)
    return samples


def choose_images(truth: Truth, matches: Mapping[int, ImageMatch], ranking: Ranking, count: int) -> Reasons:
    """The worst third, the best sixth, then images that show each class in turn (rarest first), then evenly spaced."""
    chosen = _extremes(ranking, count // 3, count // 6)
    for class_id in _class_rounds([*matches.values()], len(truth.class_names), rounds=count):
        showing = [i for i, match in matches.items() if i not in chosen and class_id in match.truth_class]
        if len(chosen) < count and showing:
            chosen[showing[len(showing) // 2]] = f"shows {truth.class_names[class_id]}"
    _fill(chosen, [*matches], count)
    return chosen


def _extremes(ranking: Ranking, worst: int, best: int) -> Reasons:
    """Only where there is something to see: images with mistakes, and images with objects."""
    ends = {
        "worst": [image for image in ranking.worst[:worst] if image.mistakes],
        "best": [image for image in ranking.best[:best] if image.objects],
    }
    return {i.image_id: f"among the {end}, {ranking.measure} {i.score:.2f}" for end in ends for i in ends[end]}


def _fill(chosen: Reasons, image_ids: Sequence[int], count: int) -> None:
    rest = [image_id for image_id in image_ids if image_id not in chosen]
    spaced = np.linspace(0, len(rest) - 1, max(0, min(count - len(chosen), len(rest)))).astype(int)
    chosen |= {rest[i]: "evenly spaced" for i in spaced}


def _class_rounds(matches: list[ImageMatch], class_count: int, rounds: int) -> list[int]:
    """Class ids that occur, rarest first, again and again; `rounds` turns in all."""
    occurring = np.concatenate([np.empty(0, np.int64), *(match.truth_class for match in matches)])
    amount = np.bincount(occurring, minlength=class_count)
    order = [int(k) for k in np.argsort(amount, kind="stable") if amount[k]]
    return [k for k, _ in zip(cycle(order), range(max(rounds, len(order))), strict=False)]


def _visible(prediction: Annotation) -> Annotation:
    """The third number of a predicted keypoint is a score, not its visibility."""
    if "keypoints" not in prediction:
        return prediction
    points = [*prediction["keypoints"]]
    points[2::3] = [_VISIBLE] * (len(points) // 3)
    return prediction | {"keypoints": points}


def _read(pictures: Pictures, file_name: str) -> Pixels | None:
    try:
        return decode_rgb(pictures.read(file_name))
    except (OSError, DatasetError):
        return None

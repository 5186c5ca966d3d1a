"""One split, whatever its task: measured, and drawn truth beside prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmtrain.datasets.pictures import Pictures
from mmtrain.reports.coco_metrics import Truth, read_truth
from mmtrain.reports.drawing import Skeleton
from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import Evaluation, Sample
from mmtrain.reports.pose import Pairs, evaluate_pose
from mmtrain.reports.samples import draw_samples, draw_semantic_samples
from mmtrain.reports.semantic import evaluate_semantic
from trainer_sdk.tasks import Task


class PosePoints(NamedTuple):
    """The keypoints of a pose; pairs are 0-based."""

    names: Sequence[str]
    sigmas: Sequence[float]
    """The same that training and validation use."""
    flip_pairs: Pairs
    limbs: Pairs


@dataclass(frozen=True)
class SplitFiles:
    """Where truth and predictions of one split lie."""

    task: Task
    annotations: Path
    """``dataset/<split>.json``."""
    predictions: Path
    """COCO results, ``work/predictions_<split>.json``. Semantic: the folder ``work/predictions_<split>`` of indexed
    pictures of the images' own sizes, `mask_name` each."""
    pose: PosePoints | None = None


class _Masks(NamedTuple):
    truth: dict[int, Path]
    found: dict[int, Path]
    file_names: dict[int, str]


def mask_name(image_id: int) -> str:
    """How the predicted mask of an image is called."""
    return f"{image_id:06}.png"


def evaluate_split(split: SplitFiles, score_threshold: float | None = None) -> Evaluation:
    """Measures it; the threshold is for tasks whose predictions have scores, see `evaluate.evaluate`."""
    if split.task is Task.SEMANTIC:
        truth = read_truth(split.annotations)
        masks = _masks(split, truth)
        return evaluate_semantic(masks.truth, masks.found, truth.class_names, file_names=masks.file_names)
    if split.task is Task.POSE:
        assert split.pose is not None
        return evaluate_pose(
            split.annotations,
            split.predictions,
            split.pose.sigmas,
            names=split.pose.names,
            flip_pairs=split.pose.flip_pairs,
            score_threshold=score_threshold,
        )
    return evaluate(split.annotations, split.predictions, task=split.task, score_threshold=score_threshold)


def draw_split(split: SplitFiles, pictures: Pictures, evaluation: Evaluation) -> list[Sample]:
    """The worst, the best and others of it; the evaluation is of the same files."""
    if split.task is Task.SEMANTIC:
        masks = _masks(split, read_truth(split.annotations))
        return draw_semantic_samples(masks.truth, masks.found, masks.file_names, pictures, evaluation)
    skeleton = Skeleton(split.pose.names, split.pose.limbs) if split.pose else None
    return draw_samples(split.annotations, split.predictions, pictures, evaluation, skeleton=skeleton)


def _masks(split: SplitFiles, truth: Truth) -> _Masks:
    """Those that were not predicted are left out: `evaluate_semantic` names them."""
    found = {image["id"]: split.predictions / mask_name(image["id"]) for image in truth.images}
    return _Masks(
        truth={image["id"]: split.annotations.parent / image["seg_file_name"] for image in truth.images},
        found={image_id: path for image_id, path in found.items() if path.is_file()},
        file_names={image["id"]: image["file_name"] for image in truth.images},
    )

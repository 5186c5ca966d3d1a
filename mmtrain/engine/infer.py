"""Runs a model over a split: what it sees as COCO results, or as class maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

from converters.semantic import indexed_picture
from mmtrain.engine.pose_rows import pose_rows

CocoResult = dict[str, Any]


def load_weights(runner: Runner, checkpoint: Path) -> torch.nn.Module:
    """The runner's model with the weights of a published checkpoint, every one of them.

    Raises:
        RuntimeError: keys that are missing or left over.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    state: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state, strict=True)
    return model


def predict(
    runner: Runner | type[Runner], model: torch.nn.Module, loader_config: Config, *, report: Callable[[int, int], None]
) -> list[CocoResult]:
    """Predictions of one split.

    Returns:
        rows of {image_id, category_id (0-based label), bbox (xywh, pixels of the original picture), score,
        segmentation (compressed RLE; mask models only), keypoints ([x, y, score] of each point; pose models only)}.
    """
    return [
        row
        for sample in _samples(runner, model, loader_config, report)
        for row in (pose_rows(sample) if "keypoints" in sample.pred_instances else _rows(sample))
    ]


def predict_masks(
    runner: Runner | type[Runner],
    model: torch.nn.Module,
    loader_config: Config,
    folder: Path,
    *,
    report: Callable[[int, int], None],
    labels: Sequence[int] | None = None,
) -> None:
    """Class maps of one split: ``<image id, 6 digits>.png`` each, indexed, of the original picture's size.

    Args:
        labels: what each of the model's classes is called in the map; by default as in the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = None if labels is None else np.asarray(labels, dtype=np.uint8)
    for sample in _samples(runner, model, loader_config, report):
        indices = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        indexed_picture(indices if named is None else named[indices]).save(folder / f"{int(sample.img_id):06}.png")


def _samples(
    runner: Runner | type[Runner], model: torch.nn.Module, loader_config: Config, report: Callable[[int, int], None]
) -> Iterator[Any]:
    """What the model makes of every picture of a split."""
    loader = runner.build_dataloader(loader_config)
    total, done = len(loader.dataset), 0
    model.eval()
    with torch.inference_mode():
        for batch in loader:
            samples = model.test_step(batch)
            yield from samples
            done += len(samples)
            report(done, total)


def _rows(sample: Any) -> Iterator[CocoResult]:
    """The rows of one DetDataSample: bboxes (N, 4) float xyxy, scores (N,), labels (N,), masks (N, H, W) bool."""
    found = sample.pred_instances.cpu().numpy()
    boxes_xywh = found.bboxes.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    masks = encoded_masks(found.masks) if "masks" in found else [None] * len(boxes_xywh)
    for box_xywh, score, label, mask in zip(boxes_xywh, found.scores, found.labels, masks, strict=True):
        row: CocoResult = {
            "image_id": int(sample.img_id),
            "category_id": int(label),
            "bbox": [round(float(value), 3) for value in box_xywh],
            "score": round(float(score), 5),
        }
        yield row if mask is None else row | {"segmentation": mask}


def encoded_masks(masks: np.ndarray[Any, Any]) -> list[dict[str, Any] | None]:
    """Masks (N, H, W), 0 or 1 -> compressed RLE with text counts."""
    if not len(masks):
        return []
    rles = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]

"""Runs a model over a split and returns what it sees as COCO results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

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
    runner: Runner, model: torch.nn.Module, loader_config: Config, *, report: Callable[[int, int], None]
) -> list[CocoResult]:
    """Predictions of one split.

    Returns:
        rows of {image_id, category_id (0-based label), bbox (xywh, pixels of the original picture), score,
        segmentation (compressed RLE; mask models only)}.
    """
    loader = runner.build_dataloader(loader_config)
    total = len(loader.dataset)
    results: list[CocoResult] = []
    done = 0
    model.eval()
    with torch.inference_mode():
        for batch in loader:
            samples = model.test_step(batch)
            for sample in samples:
                results.extend(_rows(sample))
            done += len(samples)
            report(done, total)
    return results


def _rows(sample: Any) -> Iterator[CocoResult]:
    """The rows of one DetDataSample: bboxes (N, 4) float xyxy, scores (N,), labels (N,), masks (N, H, W) bool."""
    found = sample.pred_instances.cpu().numpy()
    boxes_xywh = found.bboxes.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    masks = _encoded(found.masks) if "masks" in found else [None] * len(boxes_xywh)
    for box_xywh, score, label, mask in zip(boxes_xywh, found.scores, found.labels, masks, strict=True):
        row: CocoResult = {
            "image_id": int(sample.img_id),
            "category_id": int(label),
            "bbox": [round(float(value), 3) for value in box_xywh],
            "score": round(float(score), 5),
        }
        yield row if mask is None else row | {"segmentation": mask}


def _encoded(masks: np.ndarray) -> list[dict[str, Any] | None]:
    """Masks (N, H, W) bool -> compressed RLE with text counts."""
    if not len(masks):
        return []
    rles = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]

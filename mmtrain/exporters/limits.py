"""What a request says about choosing objects: least score, IoU of the suppression, most objects."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError

HONOURED = {
    "dense": {"conf", "iou", "max_det", "nms"},
    "detections": {"conf", "iou", "max_det", "nms"},
    "tops": {"conf", "max_det"},
    "queries": {"conf", "max_det"},
    "heatmap": {"conf"},
    "simcc": {"conf"},
    "semantic": set(),
}
"""By the kind of output."""


def refuse_what_has_no_meaning(config: ExportConfig, kind: str) -> None:
    """
    Args:
        kind: of the graph's output.

    Raises:
        ConfigError: a limit that this kind of model does not have.
    """
    asked = {name for name in ("conf", "iou", "max_det") if getattr(config, name) is not None}
    foreign = sorted((asked | ({"nms"} if config.nms else set())) - HONOURED[kind])
    if foreign:
        problems = [f"{name}: this model has no such choice to make" for name in foreign]
        raise ConfigError.of_problems("EXPORT_CONFIG", problems)


def told(config: ExportConfig) -> dict[str, Any]:
    """For `postprocessing` in `metadata.json`, by which the reader chooses."""
    asked = {
        "score_threshold": config.conf, "least_score": config.conf, "iou_threshold": config.iou,
        "max_detections": config.max_det,
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value is not None}


@contextmanager
def in_the_model(model: Any, config: ExportConfig) -> Iterator[None]:
    """While a model is exported that chooses in its graph, its own limits are the ones asked for.

    The file and PyTorch's answers in the certificate then both follow them. Where the reader chooses, they stay the
    model's own: the certificate compares more objects by them.
    """
    with ExitStack() as stack:
        for holder in _holders(model, config):
            stack.enter_context(patch.object(holder, "test_cfg", _limited(holder.test_cfg, config)))
        yield


def _holders(model: Any, config: ExportConfig) -> list[Any]:
    """Parts of the model that hold the rules of its choice."""
    if hasattr(model, "roi_head"):
        return [model.roi_head]
    if type(model).__name__ == "BottomupPoseEstimator":
        return [model]
    return [model, model.bbox_head] if config.nms and hasattr(model, "bbox_head") else []


def _limited(rules: Mapping[str, Any], config: ExportConfig) -> Any:
    changed: Any = copy.deepcopy(rules)
    if config.conf is not None:
        changed["score_thr"] = config.conf
    if config.max_det is not None and "nms_thr" not in changed:  # MMPose limits no number; the reader does
        changed["max_per_img"] = config.max_det
    if config.iou is not None and "nms_thr" in changed:
        changed["nms_thr"] = config.iou
    elif config.iou is not None:
        changed["nms"]["iou_threshold"] = config.iou
    return changed

"""Checkpoints with random weights: what they see is nonsense, but it is made in a second, and is the same twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from mmtrain.recipes import load_recipe
from tests.exports.models import build
from trainer_sdk.tasks import Task

MODELS = {
    "rtmdet-tiny": Task.DETECTION,
    "rtmdet-ins-tiny": Task.INSTANCE,
    "bisenetv2": Task.SEMANTIC,
    "rtmpose-t": Task.POSE,
}
"""One of each task."""


def write_checkpoint(model: str, task: Task, folder: Path, size: int = 64) -> Path:
    """As a training leaves one."""
    built = build(load_recipe(model, task), folder, (size, size))
    classes = list(built.plan.class_names)
    meta = {"trainer": built.description, "dataset_meta": {"classes": classes}, "epoch": 1}
    torch.save({"meta": meta, "state_dict": with_extent(dict(built.model.state_dict()))}, folder / f"{model}.pth")
    return folder / f"{model}.pth"


def with_extent(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """RTMDet's boxes are some cells large instead of none, so that they overlap, and its masks diamonds."""
    for name, values in state.items():
        if "rtm_reg" in name and name.endswith(".bias"):
            values.add_(1.5)
        if "rtm_kernel" in name and name.endswith(".bias"):
            values.copy_(diamond())
    return state


def diamond() -> torch.Tensor:
    """RTMDet-Ins' small convolutions (10 to 8 to 8 to 1) that compute ``0.6 - |x| - |y|``; their biases come last."""
    first = torch.zeros(8, 10)
    first[:4, :2] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    last = torch.tensor([-1.0] * 4 + [0] * 4)
    return torch.cat([first.ravel(), torch.eye(8).ravel(), last, torch.zeros(16), torch.tensor([0.6])])


def write_pictures(folder: Path, count: int = 3) -> Path:
    """Of several shapes, so that some are padded and some are not."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number, (width, height) in zip(range(count), [(96, 96), (200, 90), (61, 128)] * count, strict=False):
        coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (width, height)))
    return folder

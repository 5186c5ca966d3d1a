"""Models of every recipe with random weights that make up their mind: exports are compared with them."""

from __future__ import annotations

import contextlib
import io
import logging
import pprint
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from converters.pose_files import dataset_info
from mmtrain import compat
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.engine.checkpoints import describe
from mmtrain.engine.fit import runnable, upstream_config
from mmtrain.exporters.probes import probe_images
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from tests.matrix.heads import BY_CLASSES
from tests.unit.test_plan import plan_of
from trainer_sdk.tasks import Task

LARGE = 1.5
"""Sides of boxes in cells, to which RTMDet's random ones add: of theirs alone few have an area."""
DECIDED = 40.0
"""By how much the layers that name classes are louder than upstream begins with."""


class Built(NamedTuple):
    """A model as an exporter gets it."""

    recipe: Recipe
    plan: TrainPlan
    model: nn.Module
    config: Config
    description: dict[str, Any]


def build(recipe: Recipe, folder: Path, imgsz: tuple[int, int], classes: tuple[str, ...] = ()) -> Built:
    """With weights from a seed; what they see is nonsense, but the same nonsense everywhere."""
    compat.apply()
    for package in ("mmdet", "mmseg", "mmpose"):
        compat.import_framework(package)
    plan = plan_of(recipe, imgsz=imgsz, pretrained=False, device="cpu")
    plan = plan.model_copy(update={"class_names": classes or plan.class_names})
    files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "val.json", test=None)
    if recipe.task is Task.POSE:
        assert plan.keypoints is not None
        points = plan.keypoints
        layout = dataset_info(plan.class_names[0], points.names, points.skeleton, points.flip_pairs)
        folder.mkdir(parents=True, exist_ok=True)
        Path(files.keypoint_layout).write_text(f"dataset_info = {pprint.pformat(layout, sort_dicts=False)}\n")
    config = runnable(build_config(upstream_config(recipe), recipe, plan, files, folder / "work"))
    torch.manual_seed(7)
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)  # as torch begins: upstream's own beginning takes seconds, and is as random
    logging.disable(logging.NOTSET)
    decide(model)
    return Built(recipe, plan, model.eval(), config, describe(plan, config.pretty_text, {}, "exports"))


def decide(model: nn.Module) -> None:
    """Statistics as if something had been seen, and classes that differ from place to place."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    sees = type(model).__name__ in ("YOLOX", "BottomupPoseEstimator")  # pixels of 0..255, and says exponentials
    if sees:
        _let_it_see(model)
    loud = [] if sees else [f"{pattern}.weight" for pattern in BY_CLASSES]
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in loud):
            parameter.data.mul_(DECIDED)
        if fnmatchcase(name, "bbox_head.rtm_reg.*.bias"):
            parameter.data.add_(LARGE)
        if fnmatchcase(name, "bbox_head.multi_level_conv_reg.*.weight"):
            parameter.data.div_(DECIDED)  # YOLOX: sides are exponentials


def _let_it_see(model: nn.Module) -> None:
    """Batch norms get the statistics of pictures."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    pictures = np.stack([cv2.resize(image, (256, 192)) for image in probe_images()])
    head = model.bbox_head if hasattr(model, "bbox_head") else model.head
    model.train()
    with torch.no_grad():
        head(model.extract_feat(torch.from_numpy(pictures).permute(0, 3, 1, 2).float()))
    model.eval()

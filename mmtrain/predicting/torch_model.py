"""A PyTorch model of mmdet, mmseg or mmpose as a `Predictor`: its own test pipeline, without the reading of files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS, init_default_scope
from torch import nn

from mmtrain.config.slots import innermost
from mmtrain.engine.infer import encoded_masks
from mmtrain.engine.pose_rows import pose_rows
from mmtrain.predicting.direct import DirectInput
from mmtrain.predicting.faster import autocast, faster
from mmtrain.predicting.found import Bgr, Box, Classes, Found, Painted
from mmtrain.predicting.options import Options
from mmtrain.predicting.predictor import Sight
from trainer_sdk.tasks import Task

READERS = ("LoadImageFromFile", "LoadImage", "LoadAnnotations", "InferencerLoader")
"""Transforms that are done already, or whose results nobody asks for."""


class TorchPredictor:
    """One model on one device.

    Args:
        model: built and loaded, in evaluation mode.
        config: the complete one it was built from.
        flip_pairs: points that a mirror exchanges, counted from 0.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        task: Task,
        classes: Classes,
        options: Options,
        *,
        points: int = 0,
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.task, self.classes, self.flip_pairs = task, classes, flip_pairs
        self._options = options
        steps = pipeline_steps(config)
        self._float = any(step.get("to_float32") for step in whole_pipeline(config))
        self._top_down = any(step["type"] == "TopdownAffine" for step in steps)
        self.flips_itself = self._top_down
        init_default_scope(config.default_scope)
        set_limits(model, options)
        if self._top_down:
            model.test_cfg["flip_test"] = options.flip
            self._flip_indices = flip_indices(points, flip_pairs)
        self._direct = DirectInput(model, steps) if DirectInput.fits(model, steps) else None
        self._steps = Compose([TRANSFORMS.build(dict(step)) for step in steps])
        self._model = faster(model.eval(), options, channels_last=self._direct is not None)

    def prepare(self, picture: Bgr, boxes_xyxy: Sequence[Box]) -> list[Any]:
        """What the test pipeline makes of it."""
        height, width = picture.shape[:2]
        sample: dict[str, Any] = {
            "img": picture.astype(np.float32) if self._float else picture,
            "img_shape": (height, width), "ori_shape": (height, width),
            "img_path": "", "img_id": 0, "id": 0, "category_id": 0,
        }  # fmt: skip
        if self._direct is not None:
            return [self._direct.prepare(sample)]
        if not self._top_down:
            return [_Packed(**self._steps(sample))]
        boxes = boxes_xyxy or [(0.0, 0.0, float(width), float(height))]
        return [
            _Packed(
                **self._steps(
                    sample
                    | {"bbox": np.array([box], dtype=np.float32), "bbox_score": np.ones(1, dtype=np.float32)}
                    | {"flip_indices": self._flip_indices}
                )
            )
            for box in boxes
        ]

    def infer(self, inputs: Sequence[Any]) -> list[Sight]:
        """Inputs of one shape at a time: padded to each other they would be seen differently."""
        sights: list[Sight] = []
        with torch.inference_mode(), autocast(self._options):
            for _, alike in groupby(inputs, key=lambda one: tuple(one.shape)):
                sights += [self._sight(sample) for sample in self._seen(list(alike))]
        return sights

    def _seen(self, group: list[Any]) -> list[Any]:
        if self._direct is not None:
            inputs, samples = self._direct.batch(group)
            return list(self._model(inputs, samples, mode="predict"))
        data = {"inputs": [one.inputs for one in group], "data_samples": [one.data_samples for one in group]}
        return list(self._model.test_step(data))

    def _sight(self, sample: Any) -> Sight:
        if self.task is Task.SEMANTIC:
            return self._painted(sample)
        if self.task is Task.POSE:
            sample.set_field(0, "category_id", field_type="metainfo", dtype=None)
            sample.set_field(0, "img_id", field_type="metainfo", dtype=None)
            return Sight([_pose(row) for row in pose_rows(sample)])
        found = sample.pred_instances.cpu().numpy()
        masks = encoded_masks(found.masks) if "masks" in found else [None] * len(found.scores)
        return Sight(
            [
                Found(int(label), float(score), tuple(map(float, box)), mask)  # type: ignore[arg-type]
                for box, score, label, mask in zip(found.bboxes, found.scores, found.labels, masks, strict=True)
                if score >= self._options.conf
            ]
        )

    def _painted(self, sample: Any) -> Sight:
        logits = sample.seg_logits.data.float()
        if logits.shape[0] == 1:  # one foreground class, as mmseg has it
            positive = logits.sigmoid()
            probabilities = torch.cat([1 - positive, positive])
        elif logits.min() >= 0:  # Mask2Former's are sums of probabilities
            probabilities = logits / logits.sum(dim=0).clamp(min=1e-9)
        else:
            probabilities = logits.softmax(dim=0)
        if not self._options.one_view:
            return Sight(probabilities=probabilities.cpu().numpy())
        surest = probabilities.amax(dim=0).cpu().numpy()
        indices = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        return Sight(painted=Painted(indices, {int(k): float(surest[indices == k].mean()) for k in np.unique(indices)}))


class _Packed(NamedTuple):
    """What a Pack transform leaves."""

    inputs: torch.Tensor
    """(3, H, W)."""
    data_samples: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape)


def flip_indices(points: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Where each point is in a mirror image."""
    indices = list(range(points))
    for one, other in pairs:
        indices[one], indices[other] = other, one
    return indices


def whole_pipeline(config: Config) -> list[dict[str, Any]]:
    """The test pipeline."""
    return [dict(step) for step in innermost(config.test_dataloader.dataset)["pipeline"]]


def pipeline_steps(config: Config) -> list[dict[str, Any]]:
    """Of it, what comes after the reading of files; there are no points to pack."""
    steps = [step for step in whole_pipeline(config) if step["type"].rpartition(".")[2] not in READERS]
    return [{key: value for key, value in step.items() if key != "pack_transformed"} for step in steps]


def set_limits(model: nn.Module, options: Options) -> None:
    """Gives the least score, the IoU of the last suppression and the most objects to the heads that choose.

    A region proposal network has no least score and keeps its own suppression. Where a head has no such setting, what
    it finds is filtered afterwards.
    """
    for part in _with_test_cfg(model):
        settings = part.test_cfg
        if "score_thr" not in settings:
            continue
        settings.score_thr = options.conf
        if options.iou is not None:
            if isinstance(settings.get("nms"), dict) and "iou_threshold" in settings.nms:
                settings.nms.iou_threshold = options.iou
            elif "nms_thr" in settings:
                settings.nms_thr = options.iou
        if "max_per_img" in settings:
            settings.max_per_img = options.candidates


def _with_test_cfg(model: nn.Module) -> list[Any]:
    return [part for part in model.modules() if isinstance(getattr(part, "test_cfg", None), ConfigDict)]


def _pose(row: dict[str, Any]) -> Found:
    x, y, width, height = row["bbox"]
    flat = row["keypoints"]
    points = tuple((flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3))
    return Found(row["category_id"], row["score"], (x, y, x + width, y + height), None, points)

"""Boxes and instance masks: MMDetection's model, data set and evaluator for our data."""

from __future__ import annotations

import itertools
import math
from typing import Any

from mmtrain.config import pipelines
from mmtrain.config.files import DatasetFiles, Split
from mmtrain.config.model import model_for, set_model_slot
from mmtrain.config.pipelines import train_pipeline
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.tasks import Task

__all__ = ["build_model", "dataset", "evaluator", "test_pipeline", "train_pipeline"]

Dict = dict[str, Any]

DINO_STRIDES = (8, 16, 32, 64)
"""Of the four feature maps that DINO-4scale takes its queries from."""
STRIDE = 32
BORDER = {
    "type": "RandomCenterCropPad", "ratios": None, "border": None, "mean": [0, 0, 0], "std": [1, 1, 1],
    "to_rgb": True, "test_mode": True, "test_pad_mode": ("size_divisor", 1),
}  # fmt: skip
"""Crops and pads nothing: CenterNet's head subtracts a border from its boxes, and no other transform writes one."""


def build_model(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """Upstream's model with our class count, sizes and frozen stages, and no download of its own."""
    model = model_for(model, recipe, plan)
    if plan.class_weights.value:
        for slot in recipe.class_loss_slots:  # the last weight is the background's
            set_model_slot(model, f"{slot}.class_weight", [*plan.class_weights.value, 1.0], new=True)
    # Upstream YOLOX's change of size between batches, Mask2Former's padding to 1024 px: the size is the plan's to say.
    model["data_preprocessor"].pop("batch_augments", None)
    if model["type"] == "DINO":
        width, height = (int(side * min(1, 2 * pipelines.smallest_scale(plan))) for side in plan.imgsz.value)
        model["data_preprocessor"]["pad_size_divisor"] = padding_for_queries(model["num_queries"], (width, height))
    return model


def padding_for_queries(queries: int, imgsz: tuple[int, int]) -> int:
    """Multiple to which both sides of a batch are padded, so that DINO finds a position for each of its queries.

    It takes the best `queries` positions of its feature maps and fails in `topk` where there are fewer: on small
    inputs and on long and narrow pictures. A resized picture has one side of at least the smaller side of `imgsz`,
    scaled down half of it; the other side may be anything.
    """
    longer = min(imgsz) // 2

    def positions(multiple: int) -> int:
        sides = (multiple, math.ceil(longer / multiple) * multiple)
        return sum(math.prod(math.ceil(side / stride) for side in sides) for stride in DINO_STRIDES)

    return next(multiple for multiple in itertools.count(STRIDE, STRIDE) if positions(multiple) >= queries)


def test_pipeline(recipe: Recipe, plan: TrainPlan) -> list[Dict]:
    """Without augmentation; what predictions will see."""
    steps = pipelines.test_pipeline(recipe, plan)
    return _with_border(steps) if recipe.base.startswith("mmdet::centernet/") else steps


def _with_border(steps: list[Dict]) -> list[Dict]:
    load, *between, annotations, pack = steps
    return [
        {**load, "to_float32": True},
        *between,
        dict(BORDER),
        annotations,
        {**pack, "meta_keys": (*pack["meta_keys"], "border")},
    ]


def dataset(plan: TrainPlan, files: DatasetFiles, split: Split, pipeline: list[Dict]) -> Dict:
    """Upstream drops training pictures without objects and small ones; a user's negatives are there to be learnt."""
    pictures = {
        "type": "CocoDataset",
        "data_root": "",
        "ann_file": str(files.annotations(split)),
        "data_prefix": {"img": files.image_prefix},
        "metainfo": {"classes": plan.class_names},  # without it mmdet looks for COCO's 80 and drops every box
        "pipeline": pipeline,
        **({"filter_cfg": {"filter_empty_gt": False, "min_size": 0}} if split == "train" else {"test_mode": True}),
    }
    return pipelines.of_two_pictures(plan, pictures) if split == "train" else pictures


def evaluator(plan: TrainPlan, files: DatasetFiles, split: Split) -> Dict:
    """COCO's metrics while training; the report measures again, in more detail."""
    return {
        "type": "CocoMetric",
        "ann_file": str(files.annotations(split)),
        "metric": ["bbox", "segm"] if plan.task is Task.INSTANCE else "bbox",
        "classwise": True,
        "proposal_nums": (100, 1, 10),
        "format_only": False,
    }

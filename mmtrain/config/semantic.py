"""A class for every pixel: MMSegmentation's model, data set and evaluator for our data."""

from __future__ import annotations

import math
from typing import Any

from mmtrain.config.files import DatasetFiles, Split
from mmtrain.config.model import model_for, set_model_slot
from mmtrain.config.semantic_pipelines import IGNORE, test_pipeline, train_pipeline
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe

__all__ = ["build_model", "dataset", "evaluator", "test_pipeline", "train_pipeline"]

Dict = dict[str, Any]


def build_model(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """Upstream's model with our class count, sizes and frozen stages, and no download of its own."""
    model = model_for(model, recipe, plan)
    weights = plan.class_weights.value
    for slot in recipe.class_loss_slots:  # upstream's PIDNet and DDRNet weigh Cityscapes' 19 classes: not ours
        set_model_slot(model, f"{slot}.class_weight", weights and [*weights], new=True)
    _set_sizes(model["data_preprocessor"], recipe, plan)
    model["test_cfg"] = {"mode": "whole"}  # the picture at once: it fits, it was resized to the input size
    return model


def _set_sizes(preprocessor: Dict, recipe: Recipe, plan: TrainPlan) -> None:
    """Crops are padded to the input size, pictures to whole cells of the coarsest feature map.

    Padding comes after normalisation, so 0 is the mean colour; its pixels have no class.
    """
    cell = recipe.size_multiple
    width, height = (math.ceil(side / cell) * cell for side in plan.imgsz.value)
    preprocessor |= {"size": (height, width), "pad_val": 0, "seg_pad_val": IGNORE, "test_cfg": {"size_divisor": cell}}
    preprocessor.pop("size_divisor", None)


def dataset(plan: TrainPlan, files: DatasetFiles, split: Split, pipeline: list[Dict]) -> Dict:
    """MMEngine's own data set, which reads OpenMMLab's list of images: MMSegmentation's takes names apart.

    Its `BaseSegDataset` reads a text file of names, for which a mask must have its image's name, and no name a blank
    at its end.
    """
    return {
        "type": "mmengine.dataset.BaseDataset",
        "ann_file": str(files.mask_list(split)),
        "data_prefix": {"img_path": files.image_prefix, "seg_map_path": str(files.mask_list(split).parent)},
        "metainfo": {"classes": plan.class_names},
        "pipeline": pipeline,
        "test_mode": split != "train",
    }


def evaluator(plan: TrainPlan, files: DatasetFiles, split: Split) -> Dict:
    """In points of 100, as MMSegmentation has it; the report measures again, in more detail."""
    return {"type": "IoUMetric", "iou_metrics": ["mIoU", "mDice"]}

"""A class for every pixel: MMSegmentation's model, data set and evaluator for our data."""

from __future__ import annotations

import copy
import math
from typing import Any

from mmtrain.config.files import DatasetFiles, Split
from mmtrain.config.semantic_pipelines import IGNORE, test_pipeline, train_pipeline
from mmtrain.config.slots import drop_downloads, replace_sync_bn, set_slot
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe

__all__ = ["build_model", "dataset", "evaluator", "test_pipeline", "train_pipeline"]

Dict = dict[str, Any]

NO_OBJECT_WEIGHT = 0.1
"""Of the class "no object" in Mask2Former's loss (arXiv:2112.01527, appendix; upstream's class_weight ends in it)."""


def build_model(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """Upstream's model with our class count, sizes and frozen stages, and no download of its own."""
    model = copy.deepcopy(model)
    for slot in recipe.class_slots:
        set_slot(model, slot.removeprefix("model."), len(plan.class_names))
    weights = plan.class_weights.value
    for slot in recipe.class_loss_slots:  # upstream's PIDNet and DDRNet weigh Cityscapes' 19 classes: not ours
        set_slot(model, f"{slot.removeprefix('model.')}.class_weight", weights and [*weights], new=True)
    for slot in recipe.class_weight_slots:
        even = (1.0,) * len(plan.class_names)
        set_slot(model, slot.removeprefix("model."), [*(weights or even), NO_OBJECT_WEIGHT])
    drop_downloads(model)  # weights come from `load_from` or from nowhere
    if recipe.freezable:
        _set_backbone(model["backbone"], plan)
    _set_sizes(model["data_preprocessor"], recipe, plan)
    model["test_cfg"] = {"mode": "whole"}  # the picture at once: it fits, it was resized to the input size
    if not plan.sync_bn.value:
        replace_sync_bn(model)
    return model


def _set_backbone(backbone: Dict, plan: TrainPlan) -> None:
    backbone["frozen_stages"] = plan.backbone_frozen_stages.value
    backbone["norm_eval"] = plan.norm_eval.value
    if plan.from_scratch:
        backbone["norm_cfg"]["requires_grad"] = True  # Mask2Former freezes ImageNet's; a random one must learn


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

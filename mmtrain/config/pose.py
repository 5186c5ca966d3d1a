"""Poses: MMPose's model, data set and evaluator for our points.

Top-down models see the crop around one box and name its points; in training and evaluation the boxes are the ground
truth's, and a crop's class is its box's. RTMO finds the objects by itself, of one class.
"""

from __future__ import annotations

from typing import Any

from converters.pose_files import dataset_info
from mmtrain.config.files import DatasetFiles, Split
from mmtrain.config.model import model_for, set_model_slot
from mmtrain.config.pose_pipelines import codec, test_pipeline, train_pipeline
from mmtrain.plan import KeypointLayout, TrainPlan
from mmtrain.recipes import Recipe, load_recipe

__all__ = ["build_model", "dataset", "evaluator", "test_pipeline", "train_pipeline"]

Dict = dict[str, Any]

STRIDE = 32
"""Of the feature map that RTMPose's head reads."""
LEAST_SCORE = 0.01
"""Of a pose that RTMO reports: an average precision wants the unsure ones too. Upstream's 0.1 is for looking at."""
PCK_PART = 0.2
"""Of the longer side of the box: the report's PCK@0.2."""
LAST_STAGE = {"loss_mle": 5.0, "loss_oks": 10.0}
"""Loss weights of upstream RTMO's training from epoch 280 of 600 on, when it learns from its own refined points."""


def build_model(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """Upstream's model with our points, sizes and frozen stages, and no download of its own."""
    model = model_for(model, recipe, plan)
    for slot in recipe.keypoint_slots:
        set_model_slot(model, slot, len(_points(plan).names))
    model["data_preprocessor"].pop("batch_augments", None)  # RTMO's change of size: it is the plan's to say
    if recipe.one_stage:
        _set_one_stage(model, plan)
    else:
        _set_top_down(model, recipe, plan)
    return model


def _set_top_down(model: Dict, recipe: Recipe, plan: TrainPlan) -> None:
    head, (width, height) = model["head"], plan.imgsz.value
    head["decoder"] = codec(recipe, plan)
    if "in_featuremap_size" in head:
        head["input_size"] = (width, height)
        head["in_featuremap_size"] = (width // STRIDE, height // STRIDE)
    model["test_cfg"]["flip_test"] = False  # twice the time for about a point: predictions are made without it too


def _set_one_stage(model: Dict, plan: TrainPlan) -> None:
    width, height = plan.imgsz.value
    model["test_cfg"] |= {"input_size": (height, width), "score_thr": LEAST_SCORE}
    if not plan.from_scratch:
        model["head"]["proxy_target_cc"] = True
        for loss, weight in LAST_STAGE.items():
            model["head"][loss]["loss_weight"] = weight


def dataset(plan: TrainPlan, files: DatasetFiles, split: Split, pipeline: list[Dict]) -> Dict:
    """A sample is an object for a top-down model, a picture for RTMO; what has no labelled point trains nothing."""
    one_stage = load_recipe(plan.recipe, plan.task).one_stage
    points = _points(plan)
    return {
        "type": "CocoDataset",
        "data_root": "",
        "data_mode": "bottomup" if one_stage else "topdown",
        "ann_file": str(_annotations(plan, files, split)),
        "data_prefix": {"img": files.image_prefix},
        "metainfo": dataset_info(plan.class_names[0], points.names, points.skeleton, points.flip_pairs),
        "pipeline": pipeline,
        **({} if split == "train" else {"test_mode": True}),
    }


def evaluator(plan: TrainPlan, files: DatasetFiles, split: Split) -> list[Dict]:
    """COCO's metrics of poses while training, and the PCK of crops; the report measures again, in more detail.

    Boxes that are given twice do not occur, so no pose is suppressed for being like another.
    """
    one_stage = load_recipe(plan.recipe, plan.task).one_stage
    coco = {
        "type": "CocoMetric",
        "ann_file": str(_annotations(plan, files, split)),
        "score_mode": "bbox" if one_stage else "bbox_keypoint",
        "nms_mode": "none",
    }
    pck = {"type": "PCKAccuracy", "thr": PCK_PART, "norm_item": "bbox"}
    return [coco] if one_stage else [coco, pck]  # it compares pose by pose: RTMO finds more or fewer than there are


def _annotations(plan: TrainPlan, files: DatasetFiles, split: Split) -> Any:
    one_stage = load_recipe(plan.recipe, plan.task).one_stage
    return files.annotations_from_one(split) if one_stage else files.annotations(split)


def _points(plan: TrainPlan) -> KeypointLayout:
    assert plan.keypoints is not None  # `make_plan` has them for every pose recipe
    return plan.keypoints

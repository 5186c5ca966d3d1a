"""The names under which each kind of job's CONFIG may give its values: the two dialects, and what others write."""

from __future__ import annotations

from typing import Any

from trainer_sdk.config.model_jobs import EvaluateConfig, ExportConfig, PredictConfig
from trainer_sdk.config.platform_tree import PATIENCE
from trainer_sdk.config.reading import ConfigForm, GivenValues
from trainer_sdk.config.train import TrainConfig


def _as_training_has_it(key: str, value: Any) -> Any:
    """Values that OpenMMLab writes in another form under another key."""
    if key == "crop_size" and isinstance(value, list) and len(value) == 2:
        return value[::-1]  # MMSegmentation's (height, width)
    if key == "clip_grad" and isinstance(value, dict) and value.keys() <= {"max_norm", "norm_type"}:
        return value.get("max_norm") if value.get("norm_type", 2) == 2 else value
    return value


def _patience(given: GivenValues) -> None:
    """``early_stopping`` is a switch beside ``patience`` in some forms, and the number itself in ours."""
    values = given["early_stopping"]
    if any(value is False for _, value in values):
        given["early_stopping"] = []
        return
    numbers = [one for one in values if one[1] is not True]
    given["early_stopping"] = numbers or [(source, PATIENCE) for source, _ in values]


IMAGE_SIZE = ("image_size", "img_scale")
WORKERS = ("num_workers",)

STRUCTURED = (
    "lr_milestones", "albumentations", "class_weights", "freeze", "val_interval", "keypoints", "split_config",
    "imgsz", "early_stopping",
)  # fmt: skip

TRAIN = ConfigForm(
    TrainConfig,
    variables={
        "epochs": "EPOCHS",
        "batch": "BATCH_SIZE",
        "lr0": "LEARNING_RATE",
        "imgsz": "IMGSZ",
        "device": "DEVICE",
    },
    also={
        "epochs": ("max_epochs",),
        "batch": ("batch_size",),
        "lr0": ("learning_rate", "lr"),
        "imgsz": (*IMAGE_SIZE, "crop_size"),
        "workers": WORKERS,
        "seed": ("random_seed",),
        "lr_scheduler": ("scheduler",),
        "lr_milestones": ("milestones",),
        "lr_gamma": ("gamma",),
        "lr_final_ratio": ("lrf",),
        "grad_clip": ("clip_grad", "gradient_clip_value", "gradient_clip", "max_grad_norm"),
        "accumulate": ("gradient_accumulation_steps", "accumulative_counts"),
        "weak_epochs": ("close_mosaic", "close_mosaic_epochs"),
        "amp": ("mixed_precision",),
        "early_stopping": ("patience", "early_stopping_patience"),
        "early_stopping_min_delta": ("min_delta",),
        "checkpoint_keep_max": ("keep", "max_keep_ckpts", "keep_n_checkpoints"),
        "backbone_frozen_stages": ("frozen_stages",),
    },
    structured=frozenset(STRUCTURED),
    refused={
        "resume_from": "a job goes on by itself when it is started again with the same JOB_ID",
        "load_from": "set the environment variable CHECKPOINT_PATH",
        "auxiliary_head": "the heads are the recipe's",
        "cutmix": "it is for classification",
        "auto_augment": "name transforms in albumentations",
        "nesterov": "SGD runs with momentum",
        "cos_lr": "set lr_scheduler to cosine",
    },
    takes_tree=True,
    as_ours=_as_training_has_it,
    settled=_patience,
)

OF_THE_MODEL = {"task_type": "TASK_TYPE", "model_name": "MODEL_NAME"}

PREDICT = ConfigForm(
    PredictConfig,
    also={
        "imgsz": IMAGE_SIZE,
        "workers": WORKERS,
        "conf": ("confidence_threshold", "score_threshold"),
        "iou": ("iou_threshold", "nms_threshold"),
        "max_det": ("max_detections",),
        "batch": ("batch_size",),
        "flip": ("flip_test", "augment"),
        "tile_overlap": ("overlap",),
        "save_images": ("save_img", "save"),
    },
    structured=frozenset(["imgsz", "tiles", "classes", "class_names", "keypoints"]),
    refused={
        "half": 'write "precision": "fp16" (a GPU) or "bf16"',
        "stream": "images are always read as a stream",
        "vid_stride": "every frame is looked at",
    },
    lifted={**OF_THE_MODEL, "image_paths_s3": "IMAGES_S3_URI", "image_paths": "IMAGE_PATHS"},
    asks_nothing=(False,),
)

EXPORT = ConfigForm(
    ExportConfig,
    also={
        "imgsz": IMAGE_SIZE,
        "workers": WORKERS,
        "opset_version": ("opset",),
        "class_names": ("classes",),
        "nms": ("with_nms",),
        "conf": ("confidence_threshold", "score_threshold"),
        "iou": ("iou_threshold", "nms_threshold"),
        "max_det": ("max_detections",),
        "fp16": ("half",),
        "workspace_size_gb": ("workspace",),
    },
    structured=frozenset(["imgsz", "input_shape", "dynamic_axes", "profiles", "class_names", "keypoints"]),
    refused={
        "minimum_deployment_target": "it is for CoreML, which is not written here",
        "pruning_amount": "a pruned model is another model; train a smaller one",
    },
    lifted=OF_THE_MODEL,
    sources=("EXPORT_CONFIG", "CONFIG"),
    asks_nothing=(0, False, "", "none"),
)

EVALUATE = ConfigForm(
    EvaluateConfig,
    also={
        "imgsz": IMAGE_SIZE,
        "workers": WORKERS,
        "batch": ("batch_size",),
        "split": ("dataset_split",),
        "class_names": ("classes",),
        "conf": ("confidence_threshold", "score_threshold"),
    },
    structured=frozenset(["imgsz", "class_names", "keypoints", "split_config"]),
    lifted=OF_THE_MODEL,
)

"""A complete MMEngine configuration from upstream's, the plan and the data: plain dicts in, a plain dict out.

No torch and no mm* here. Nothing of ours is named in the result: `Runner.from_cfg(config).train()` runs it by hand.
Pipelines are composed from the plan instead of patched into upstream's, so that one input size reaches every
transform of training, validation and test.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mmtrain.config.pipelines import test_pipeline, train_pipeline
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.tasks import Task

Dict = dict[str, Any]

EMA = {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.0002, "update_buffers": True, "priority": 49}
"""Upstream RTMDet's, used for any recipe when asked for."""


class DatasetFiles(BaseModel):
    """Where the converted data lie: absolute, so that config.py runs from any folder."""

    model_config = ConfigDict(frozen=True)

    images: Path
    train: Path
    val: Path
    test: Path | None


def build_config(base: Dict, recipe: Recipe, plan: TrainPlan, files: DatasetFiles, work_dir: Path) -> Dict:
    """The configuration of one training."""
    test_file = files.test or files.val  # MMEngine wants all three loops or none; without a test split it is val's
    return {
        "default_scope": base["default_scope"],
        "model": build_model(base["model"], recipe, plan),
        "train_dataloader": _train_loader(base, recipe, plan, files),
        "val_dataloader": _eval_loader(recipe, plan, files, files.val),
        "test_dataloader": _eval_loader(recipe, plan, files, test_file),
        "val_evaluator": _evaluator(plan, files.val),
        "test_evaluator": _evaluator(plan, test_file),
        "train_cfg": {
            "type": "EpochBasedTrainLoop",
            "max_epochs": plan.epochs.value,
            "val_interval": plan.val_interval.value,
        },
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "optim_wrapper": _optim_wrapper(base["optim_wrapper"], plan),
        "param_scheduler": _schedule(plan),
        "default_hooks": _hooks(plan),
        "custom_hooks": [dict(EMA)] if plan.ema.value else [],
        "env_cfg": {
            "cudnn_benchmark": recipe.letterbox and bool(plan.gpus),  # pays off only when every batch has one shape
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "nccl" if plan.gpus else "gloo"},
        },
        "log_processor": {"type": "LogProcessor", "window_size": 50, "by_epoch": True},
        "log_level": "INFO",
        "visualizer": base["visualizer"],
        "randomness": {"seed": plan.seed.value},
        "load_from": plan.weights_file,
        "resume": False,
        "launcher": "pytorch" if len(plan.gpus) > 1 else "none",
        "work_dir": str(work_dir),
    }


def build_model(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """Upstream's model with our class count, our frozen stages, and no download of its own."""
    model = copy.deepcopy(model)
    for slot in recipe.class_slots:
        set_slot(model, slot.removeprefix("model."), len(plan.class_names))
    model["backbone"]["init_cfg"] = None  # weights come from `load_from` or from nowhere
    model["backbone"]["frozen_stages"] = plan.backbone_frozen_stages.value
    model["backbone"]["norm_eval"] = plan.norm_eval.value
    if not plan.sync_bn.value:
        _replace_sync_bn(model)
    return model


def set_slot(config: Any, slot: str, value: Any) -> None:
    """Sets ``a.b.0.c``; every part must exist, a slot that does not is a mistake in the recipe.

    Raises:
        KeyError: no such slot.
    """
    *parents, last = slot.split(".")
    for part in parents:
        config = config[int(part)] if part.isdigit() else config[part]
    if last not in config:
        raise KeyError(f"no slot {slot!r} in the configuration")
    config[last] = value


def _replace_sync_bn(config: Any) -> None:
    """SyncBN fails on a CPU and costs on a single GPU, where BN is the same thing."""
    if isinstance(config, dict):
        if config.get("type") == "SyncBN":
            config["type"] = "BN"
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            _replace_sync_bn(value)


def _dataset(plan: TrainPlan, files: DatasetFiles, annotations: Path, pipeline: list[Dict]) -> Dict:
    return {
        "type": "CocoDataset",
        "data_root": "",
        "ann_file": str(annotations),
        "data_prefix": {"img": str(files.images)},
        "metainfo": {"classes": plan.class_names},  # without it mmdet looks for COCO's 80 and drops every box
        "pipeline": pipeline,
    }


def _train_loader(base: Dict, recipe: Recipe, plan: TrainPlan, files: DatasetFiles) -> Dict:
    dataset = _dataset(plan, files, files.train, train_pipeline(recipe, plan))
    # Upstream drops pictures without objects and small ones; a user's negatives are there to be learnt.
    dataset["filter_cfg"] = {"filter_empty_gt": False, "min_size": 0}
    return {
        "batch_size": plan.batch.value // max(1, len(plan.gpus)),
        "num_workers": plan.workers.value,
        "persistent_workers": plan.workers.value > 0,
        "pin_memory": bool(plan.gpus),
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "batch_sampler": base["train_dataloader"].get("batch_sampler"),
        "dataset": dataset,
    }


def _eval_loader(recipe: Recipe, plan: TrainPlan, files: DatasetFiles, annotations: Path) -> Dict:
    return {
        # Pictures of different shapes would be padded to each other, which changes their results a little.
        "batch_size": plan.batch.value // max(1, len(plan.gpus)) if recipe.letterbox else 1,
        "num_workers": plan.workers.value,
        "persistent_workers": plan.workers.value > 0,
        "drop_last": False,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": _dataset(plan, files, annotations, test_pipeline(recipe, plan)) | {"test_mode": True},
    }


def _evaluator(plan: TrainPlan, annotations: Path) -> Dict:
    return {
        "type": "CocoMetric",
        "ann_file": str(annotations),
        "metric": ["bbox", "segm"] if plan.task is Task.INSTANCE else "bbox",
        "classwise": True,
        "proposal_nums": (100, 1, 10),
        "format_only": False,
    }


def _optim_wrapper(base: Dict, plan: TrainPlan) -> Dict:
    """The optimizer of the plan; upstream's per-parameter rules and gradient clipping stay."""
    optimizer: Dict = {
        "type": plan.optimizer.value,
        "lr": plan.lr0.value,
        "weight_decay": plan.weight_decay.value,
    }
    if plan.optimizer.value == "SGD":
        optimizer["momentum"] = plan.momentum.value
    kept = {key: copy.deepcopy(base[key]) for key in ("paramwise_cfg", "clip_grad") if base.get(key)}
    return {"type": "AmpOptimWrapper" if plan.amp.value else "OptimWrapper", "optimizer": optimizer, **kept}


def _schedule(plan: TrainPlan) -> list[Dict]:
    """Warm-up, then the fall; both counted in iterations, so that short trainings keep their shape."""
    warmup, total = plan.warmup_iters.value, plan.iters_per_epoch.value * plan.epochs.value
    span = {"by_epoch": False, "begin": warmup, "end": total}
    falls: dict[str, list[Dict]] = {
        "constant": [],
        "cosine": [
            {"type": "CosineAnnealingLR", **span, "T_max": total - warmup, "eta_min_ratio": plan.lr_final_ratio.value}
        ],
        "linear": [{"type": "LinearLR", **span, "start_factor": 1.0, "end_factor": plan.lr_final_ratio.value}],
        # MMDetection's 1x schedule: a tenth after 8 and 11 of 12 epochs.
        "step": [
            {"type": "MultiStepLR", "by_epoch": False, "milestones": [total * 8 // 12, total * 11 // 12], "gamma": 0.1}
        ],
    }  # fmt: skip
    start = {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": warmup, "start_factor": plan.warmup_ratio.value}
    return ([start] if warmup > 0 else []) + falls[plan.lr_scheduler.value]


def _hooks(plan: TrainPlan) -> Dict:
    return {
        "timer": {"type": "IterTimerHook"},
        "logger": {"type": "LoggerHook", "interval": 50},
        "param_scheduler": {"type": "ParamSchedulerHook"},
        "checkpoint": {
            "type": "CheckpointHook",
            "interval": plan.checkpoint_interval.value,
            "max_keep_ckpts": plan.checkpoint_keep_max.value,
            "save_best": plan.primary_metric.value,
            "rule": "greater",
            "save_last": True,
        },
        "sampler_seed": {"type": "DistSamplerSeedHook"},
    }

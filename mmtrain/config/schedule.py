"""Optimizer, learning rate, loops and hooks: what is the same for every task."""

from __future__ import annotations

import copy
from typing import Any

from mmtrain.choices import STRONG
from mmtrain.plan import TrainPlan
from trainer_sdk.tasks import Task

Dict = dict[str, Any]

EMA = {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.0002, "update_buffers": True, "priority": 49}
"""Upstream RTMDet's, used for any recipe when asked for."""

SAME_SCORE = 1e-6


def train_loop(plan: TrainPlan) -> Dict:
    """Epochs for every task, also where upstream counts iterations."""
    # Tuples, since MMEngine asserts it; after epoch n (from 1) it looks up n + 1.
    later = [(start + 2, interval) for start, interval in plan.val_intervals.value if start > 0]
    return {
        "type": "EpochBasedTrainLoop",
        "max_epochs": plan.epochs.value,
        "val_interval": plan.val_interval.value,
        **({"dynamic_intervals": later} if later else {}),
    }


def custom_hooks(plan: TrainPlan) -> list[Dict]:
    """Hooks of MMEngine's and upstream's; none of ours, so that config.py runs without us."""
    hooks = [dict(EMA)] if plan.ema.value else []
    in_points = plan.task is Task.SEMANTIC
    if plan.early_stopping.value:
        hooks.append(
            {
                "type": "EarlyStoppingHook",
                "monitor": plan.primary_metric.value,
                "rule": "greater",
                "patience": plan.early_stopping.value,
                # With 0, MMEngine takes the same score again for an improvement. MMSegmentation's are points of 100.
                "min_delta": max(plan.early_stopping_min_delta.value, SAME_SCORE) * (100 if in_points else 1),
            }
        )
    return hooks


def without_strong(plan: TrainPlan) -> TrainPlan:
    """The plan of the last epochs: every picture by itself."""
    return plan.model_copy(update={name: getattr(plan, name).model_copy(update={"value": 0.0}) for name in STRONG})


def switch_pipeline(plan: TrainPlan, weak: list[Dict]) -> list[Dict]:
    """MMDetection's hook that changes the pipeline for the last epochs; it knows nothing of boxes, so any task may."""
    if not plan.weak_epochs.value:
        return []
    switch_epoch = plan.epochs.value - plan.weak_epochs.value
    return [{"type": "mmdet.PipelineSwitchHook", "switch_epoch": switch_epoch, "switch_pipeline": weak}]


def randomness(plan: TrainPlan) -> Dict:
    """Seeds; with `deterministic` cuDNN's and torch's repeatable algorithms too."""
    return {"seed": plan.seed.value, "deterministic": plan.deterministic.value}


def optim_wrapper(base: Dict, plan: TrainPlan) -> Dict:
    """The optimizer of the plan; upstream's per-parameter rules stay."""
    optimizer: Dict = {
        "type": plan.optimizer.value,
        "lr": plan.lr0.value,
        "weight_decay": plan.weight_decay.value,
    }
    if plan.optimizer.value == "SGD":
        optimizer["momentum"] = plan.momentum.value
    wrapper: Dict = {"type": "OptimWrapper", "optimizer": optimizer}
    if plan.amp.value != "off":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": {"fp16": "float16", "bf16": "bfloat16"}[plan.amp.value]}
    if plan.accumulate.value > 1:
        wrapper["accumulative_counts"] = plan.accumulate.value
    if plan.grad_clip.value:
        wrapper["clip_grad"] = {"max_norm": plan.grad_clip.value, "norm_type": 2}
    if base.get("paramwise_cfg"):
        wrapper["paramwise_cfg"] = _rules(copy.deepcopy(base["paramwise_cfg"]), plan)
    return wrapper


def _rules(paramwise: Dict, plan: TrainPlan) -> Dict:
    """Upstream's rules per parameter. A smaller step for the backbone is for one that knows something already."""
    if plan.from_scratch:
        for name, rule in paramwise.get("custom_keys", {}).items():
            if name == "backbone":
                rule.pop("lr_mult", None)
    return paramwise


def schedule(plan: TrainPlan) -> list[Dict]:
    """Warm-up, then the fall; both counted in iterations, so that short trainings keep their shape."""
    warmup, total = plan.warmup_iters.value, plan.iters_per_epoch.value * plan.epochs.value
    start = {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": warmup, "start_factor": plan.warmup_ratio.value}
    return ([start] if warmup > 0 else []) + _fall(plan, warmup, total)


def _fall(plan: TrainPlan, warmup: int, total: int) -> list[Dict]:
    kind, ratio = plan.lr_scheduler.value, plan.lr_final_ratio.value
    if kind == "constant" or total - warmup < 2:  # MMEngine's LinearLR and PolyLR divide by one less than their length
        return []
    span = {"by_epoch": False, "begin": warmup, "end": total}
    milestones = [epoch * plan.iters_per_epoch.value for epoch in plan.lr_milestones.value]
    falls: dict[str, Dict] = {
        # onecycle is a long warm-up before it: MMEngine's OneCycleLR gives every parameter the same learning rate, also
        # where upstream wants a tenth of it for the backbone.
        "cosine": {"type": "CosineAnnealingLR", **span, "T_max": total - warmup, "eta_min_ratio": ratio},
        "linear": {"type": "LinearLR", **span, "start_factor": 1.0, "end_factor": ratio},
        "poly": {"type": "PolyLR", **span, "power": plan.lr_power.value, "eta_min": plan.lr0.value * ratio},
        # MMDetection's 1x schedule: a tenth after 8 and 11 of 12 epochs.
        "multistep": {
            "type": "MultiStepLR",
            "by_epoch": False,
            "milestones": milestones or [total * 8 // 12, total * 11 // 12],
            "gamma": plan.lr_gamma.value,
        },
    }
    return [falls[{"step": "multistep", "onecycle": "cosine"}.get(kind, kind)]]


def default_hooks(plan: TrainPlan) -> Dict:
    """Log, schedule, checkpoints, data order."""
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

"""The platform's generic ``advanced_config`` tree (contract 3.1): fully populated by the backend, chosen by nobody.

Its defaults (Adam at 1e-3, 224 px, "accuracy") are not wishes and contradict the values one level up, so only a
leaf that differs from its default counts. Where the contract states no default, the choice that changes nothing is
taken for it: no schedule, no augmentation beyond a flip of every second picture, no early stopping. What belongs to
a switch (rotation_degrees, hue, patience) counts with the switch alone. A leaf that was clearly chosen and that we
do not honour is reported as without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

BRANCHES = ("optimizer", "scheduler", "augmentation", "preprocessing", "validation")

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
SCHEDULERS = {
    "step": "step", "multistep": "multistep", "cosine": "cosine", "one_cycle": "onecycle", "linear": "linear",
    "none": "constant",
}  # fmt: skip
PATIENCE = 10
"""Validations, where early stopping is switched on without a number."""
FLIPPED = 0.5
"""Share of pictures that a recipe flips too."""

Leaves = Mapping[str, Any]
Chosen = dict[str, tuple[str, Any]]
"""Our name -> (leaf, value in our words)."""

# leaf -> (the tree's default, our name, our words for its values)
HONOURED: dict[str, tuple[Any, str, Mapping[str, str]]] = {
    "optimizer.type": ("adam", "optimizer", OPTIMIZERS),
    "optimizer.learning_rate": (1e-3, "lr0", {}),
    "optimizer.weight_decay": (0, "weight_decay", {}),
    "optimizer.momentum": (0.9, "momentum", {}),
    "scheduler.type": ("none", "lr_scheduler", SCHEDULERS),
    "scheduler.warmup_epochs": (0, "warmup_epochs", {}),
    "preprocessing.image_size": (224, "imgsz", {}),
    "validation.val_interval": (1, "val_interval", {}),
    "mixed_precision": (False, "amp", {}),
    "gradient_clip_value": (0, "grad_clip", {}),
    "gradient_accumulation_steps": (1, "accumulate", {}),
    "checkpoint_interval": (10, "checkpoint_interval", {}),
    "keep_n_checkpoints": (3, "checkpoint_keep_max", {}),
}

TREE = {
    "": "mixed_precision gradient_clip_value gradient_accumulation_steps checkpoint_interval keep_n_checkpoints "
    "log_interval",
    "optimizer.": "type learning_rate weight_decay betas eps amsgrad momentum nesterov alpha",
    "scheduler.": "type step_size gamma milestones T_max eta_min T_0 T_mult mode factor patience threshold cooldown "
    "min_lr max_lr pct_start anneal_strategy warmup_epochs warmup_lr",
    "augmentation.": "enabled random_flip random_flip_prob random_rotation rotation_degrees random_crop crop_scale "
    "crop_ratio color_jitter brightness contrast saturation hue random_erasing erasing_prob random_grayscale "
    "grayscale_prob gaussian_blur blur_kernel_size blur_sigma mixup mixup_alpha cutmix cutmix_alpha autoaugment "
    "autoaugment_policy",
    "preprocessing.": "image_size resize_mode normalize mean std pad_value to_rgb",
    "validation.": "enabled val_interval val_start_epoch metrics save_best save_best_metric save_best_mode "
    "save_predictions save_visualizations num_visualizations early_stopping early_stopping_patience "
    "early_stopping_min_delta",
}
"""Every leaf of contract 3.1, by branch."""
LEAVES = frozenset(branch + leaf for branch, leaves in TREE.items() for leaf in leaves.split())

NO_EFFECT_DEFAULTS: dict[str, Any] = {
    "log_interval": 10,
    "optimizer.nesterov": False,
    "optimizer.amsgrad": False,
    "scheduler.eta_min": 0,
    "augmentation.random_erasing": False,
    "augmentation.random_grayscale": False,
    "augmentation.gaussian_blur": False,
    "augmentation.cutmix": False,
    "augmentation.autoaugment": False,
    "validation.enabled": True,
    "validation.save_best": True,
    "preprocessing.normalize": True,
}
"""What we do not honour, and the value that asks for nothing."""


def is_generic_tree(advanced: Mapping[str, Any]) -> bool:
    """Whether this is the backend's tree rather than a flat mapping of keys."""
    return any(isinstance(advanced.get(branch), Mapping) for branch in BRANCHES)


def of_the_tree(key: str) -> bool:
    """Whether it stands at the top of the backend's tree."""
    return key in LEAVES or key in BRANCHES


def wishes(advanced: Mapping[str, Any], place: str) -> tuple[Chosen, list[str]]:
    """The leaves somebody chose, and notes on what had no effect.

    Args:
        place: where the tree stands, such as ``CONFIG.advanced``.
    """
    leaves = {leaf: value for leaf, value in _leaves(advanced) if value is not None}
    chosen = {
        name: (leaf, words.get(leaves[leaf], leaves[leaf]) if isinstance(leaves[leaf], str) else leaves[leaf])
        for leaf, (default, name, words) in HONOURED.items()
        if leaf in leaves and leaves[leaf] != default
    }
    for rule in RULES:
        chosen |= rule(leaves)
    ignored = [
        f"{place}.{leaf}={value!r} has no effect in this trainer"
        for leaf, value in leaves.items()
        if value != NO_EFFECT_DEFAULTS.get(leaf, value)
    ] + [
        f"{place}.{leaf}={value!r} is unknown and has no effect" for leaf, value in leaves.items() if leaf not in LEAVES
    ]
    return chosen, ignored


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _switched(leaves: Leaves, switch: str, **companions: str) -> Chosen:
    """What belongs to a switch that is on: our name -> leaf of the same branch."""
    if leaves.get(switch) is not True:
        return {}
    branch = switch.rpartition(".")[0]
    named = {name: f"{branch}.{leaf}" for name, leaf in companions.items()}
    return {name: (leaf, leaves[leaf]) for name, leaf in named.items() if leaf in leaves}


def _falls(leaves: Leaves) -> Chosen:
    """Of a schedule that was chosen; 30 epochs and a tenth are the tree's own."""
    kind, chosen = leaves.get("scheduler.type"), Chosen()
    if kind in ("step", "multistep") and leaves.get("scheduler.gamma", 0.1) != 0.1:
        chosen["lr_gamma"] = ("scheduler.gamma", leaves["scheduler.gamma"])
    if kind == "step" and leaves.get("scheduler.step_size", 30) != 30:
        chosen["lr_milestones"] = ("scheduler.step_size", [leaves["scheduler.step_size"]])
    if kind == "multistep" and leaves.get("scheduler.milestones"):
        chosen["lr_milestones"] = ("scheduler.milestones", leaves["scheduler.milestones"])
    return chosen


def _flips(leaves: Leaves) -> Chosen:
    if leaves.get("augmentation.random_flip") is False:
        return {"fliplr": ("augmentation.random_flip", 0.0)}
    leaf = "augmentation.random_flip_prob"
    return {"fliplr": (leaf, leaves[leaf])} if leaves.get(leaf, FLIPPED) != FLIPPED else {}


def _rotation(leaves: Leaves) -> Chosen:
    return _switched(leaves, "augmentation.random_rotation", degrees="rotation_degrees")


def _colour(leaves: Leaves) -> Chosen:
    """As torchvision's ColorJitter: shares by which each may change."""
    return _switched(leaves, "augmentation.color_jitter", hsv_h="hue", hsv_s="saturation", hsv_v="brightness")


def _switches(leaves: Leaves) -> Chosen:
    return {
        name: (f"augmentation.{name}", 1.0)
        for name in ("random_crop", "mixup")
        if leaves.get(f"augmentation.{name}") is True
    }


def _patience(leaves: Leaves) -> Chosen:
    switch = "validation.early_stopping"
    if leaves.get(switch) is not True:
        return {}
    asked = _switched(leaves, switch, early_stopping="early_stopping_patience")
    delta = _switched(leaves, switch, early_stopping_min_delta="early_stopping_min_delta")
    return {"early_stopping": (switch, PATIENCE), **asked, **delta}


def _metric(leaves: Leaves) -> Chosen:
    """With its mode: the one a level up belongs to the metric that stands there."""
    leaf, mode = "validation.save_best_metric", "validation.save_best_mode"
    metric = leaves.get(leaf, "accuracy")
    if metric == "accuracy":
        return {}
    return {
        "primary_metric": (leaf, metric),
        "primary_metric_mode": (mode, "min" if metric == "loss" else leaves.get(mode)),
    }


def _no_augmentation(leaves: Leaves) -> Chosen:
    """Everything off, also what the recipe does by itself. Comes last."""
    leaf = "augmentation.enabled"
    if leaves.get(leaf) is not False:
        return {}
    names = ("mosaic", "mixup", "fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale")
    return dict.fromkeys((*names, "random_crop", "copy_paste"), (leaf, 0.0))


RULES: tuple[Callable[[Leaves], Chosen], ...] = (
    _falls, _flips, _rotation, _colour, _switches, _patience, _metric, _no_augmentation,
)  # fmt: skip

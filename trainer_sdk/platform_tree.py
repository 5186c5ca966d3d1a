"""The platform's generic ``advanced_config`` tree (contract 3.1): fully populated by the backend, chosen by nobody.

Its defaults (Adam at 1e-3, 224 px, "accuracy") are not wishes and contradict the values one level up, so only a
leaf that differs from its default counts. Leaves whose default the contract does not state cannot be told from a
wish; they never count. A leaf that was clearly chosen and that we do not honour is reported as without effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BRANCHES = ("optimizer", "scheduler", "augmentation", "preprocessing", "validation")

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
SCHEDULERS = {"step": "step", "cosine": "cosine", "linear": "linear", "none": "constant"}

# Of scheduler.type and mixed_precision the contract states no default; "none" and false are the inactive choices.
# leaf -> (the tree's default, our name, our words for its values)
HONOURED: dict[str, tuple[Any, str, Mapping[str, str]]] = {
    "optimizer.type": ("adam", "optimizer", OPTIMIZERS),
    "optimizer.learning_rate": (1e-3, "lr0", {}),
    "optimizer.weight_decay": (0, "weight_decay", {}),
    "optimizer.momentum": (0.9, "momentum", {}),
    "scheduler.type": ("none", "lr_scheduler", SCHEDULERS),
    "preprocessing.image_size": (224, "imgsz", {}),
    "mixed_precision": (False, "amp", {}),
    "checkpoint_interval": (10, "checkpoint_interval", {}),
    "keep_n_checkpoints": (3, "checkpoint_keep_max", {}),
}

NO_EFFECT_DEFAULTS: dict[str, Any] = {
    "log_interval": 10,
    "validation.save_best_metric": "accuracy",
}


def is_generic_tree(advanced: Mapping[str, Any]) -> bool:
    """Whether this is the backend's tree rather than a flat mapping of keys."""
    return any(isinstance(advanced.get(branch), Mapping) for branch in BRANCHES)


def wishes(advanced: Mapping[str, Any]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """The leaves somebody chose.

    Returns:
        our name -> (leaf, value in our words), and notes on what had no effect.
    """
    chosen: dict[str, tuple[str, Any]] = {}
    ignored: list[str] = []
    for leaf, value in _leaves(advanced):
        if leaf in HONOURED:
            default, name, words = HONOURED[leaf]
            if value is not None and value != default:
                chosen[name] = (leaf, words.get(value, value) if isinstance(value, str) else value)
        elif value is not None and value != NO_EFFECT_DEFAULTS.get(leaf, value):
            ignored.append(f"advanced_config.{leaf}={value!r} has no effect in this trainer")
    return chosen, ignored


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

"""The platform's generic ``advanced_config`` tree (contract 3.1): fully populated by the backend, chosen by nobody.

Its defaults (Adam at 1e-3, 224 px, "accuracy") are not wishes and contradict the values one level up, so only a
leaf that differs from its default counts. Leaves whose default the contract does not state cannot be told from a
wish; they are reported as without effect and never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

BRANCHES = ("optimizer", "scheduler", "augmentation", "preprocessing", "validation")

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
SCHEDULERS = {"step": "step", "cosine": "cosine", "linear": "linear", "none": "constant"}

# leaf -> (the tree's default, our name, conversion)
HONOURED: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "optimizer.type": ("adam", "optimizer", lambda value: OPTIMIZERS.get(value, value)),
    "optimizer.learning_rate": (1e-3, "lr0", float),
    "optimizer.weight_decay": (0, "weight_decay", float),
    "optimizer.momentum": (0.9, "momentum", float),
    "scheduler.type": ("none", "lr_scheduler", lambda value: SCHEDULERS.get(value, value)),
    "preprocessing.image_size": (224, "imgsz", lambda value: value),
    "mixed_precision": (False, "amp", bool),
    "checkpoint_interval": (10, "checkpoint_interval", int),
    "keep_n_checkpoints": (3, "checkpoint_keep_max", int),
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
        our name -> (leaf, converted value), and notes on what had no effect.
    """
    chosen: dict[str, tuple[str, Any]] = {}
    ignored: list[str] = []
    for leaf, value in _leaves(advanced):
        if leaf in HONOURED:
            default, name, convert = HONOURED[leaf]
            if value is not None and value != default:
                chosen[name] = (leaf, convert(value))
        elif value is not None and value != NO_EFFECT_DEFAULTS.get(leaf, value):
            ignored.append(f"advanced_config.{leaf}={value!r} has no effect in this trainer")
    return chosen, ignored


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

"""Requests as the platform and people write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.request.reading import read_train_spec

LEAST = {"JOB_ID": "123", "MODEL_NAME": "rtmdet_tiny", "DATASET_ID": "ds_abc"}


TREE_DEFAULTS: dict[str, Any] = {  # contract 3.1: what the backend fills in when nobody chose anything
    "optimizer": {"type": "adam", "learning_rate": 1e-3, "weight_decay": 0, "momentum": 0.9, "nesterov": False},
    "scheduler": {"type": "none", "step_size": 30, "gamma": 0.1, "warmup_epochs": 0},
    "augmentation": {"enabled": True, "random_flip": True, "mixup": False, "mixup_alpha": 0.2},
    "preprocessing": {"image_size": 224, "resize_mode": "resize", "mean": [0.485, 0.456, 0.406]},
    "validation": {"enabled": True, "val_interval": 1, "save_best_metric": "accuracy"},
    "mixed_precision": False,
    "gradient_clip_value": None,
    "checkpoint_interval": 10,
    "keep_n_checkpoints": 3,
    "log_interval": 10,
}


def read(config: Any = None, **environ: str) -> TrainSpec:
    text = {} if config is None else {"CONFIG": config if isinstance(config, str) else json.dumps(config)}
    return read_train_spec({**LEAST, **text, **environ})


def problem(config: Any = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(config, **environ)
    return caught.value.message


def tree(**change: Any) -> dict[str, Any]:
    """The platform's generic tree with leaves changed as ``branch__leaf``."""
    copy: dict[str, Any] = json.loads(json.dumps(TREE_DEFAULTS))
    for path, value in change.items():
        *branches, leaf = path.split("__")
        (copy[branches[0]] if branches else copy)[leaf] = value
    return copy

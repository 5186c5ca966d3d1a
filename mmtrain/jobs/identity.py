"""By what a training knows its own checkpoints: the plan and the data, apart from where and how fast it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from mmtrain.config.files import DatasetFiles
from mmtrain.plan import TrainPlan
from mmtrain.versions import versions
from trainer_sdk.workspace import fingerprint

MACHINE = (
    "device", "gpus", "nodes", "processes", "workers", "threads", "weights_file", "sync_bn", "compile",
    "channels_last", "model", "batch", "accumulate", "iters_per_epoch", "warmup_iters", "drop_last",
)  # fmt: skip
"""Of the plan: what may be another on the machine that goes on. Of batch and accumulate only their product counts."""
HERE = ("device", "gpus", "workers", "threads", "weights_file")
"""Of the plan: what may be another on each node of one training."""


def facts_of(plan: TrainPlan, files: DatasetFiles) -> dict[str, str]:
    """What must be the same on every node, by name: the plan's values, the files, the packages."""
    weights = Path(plan.weights_file) if plan.weights_file else None
    read = {"train split": files.train, "val split": files.val, "test split": files.test, "start weights": weights}
    return {
        **{name: str(value) for name, value in _values(plan).items() if name not in HERE},
        **{f"the sha256 of the {name}": str(fingerprint(path)["sha256"]) for name, path in read.items() if path},
        **{f"the version of {name}": version for name, version in versions().items()},
    }


def fingerprint_of(asked: TrainPlan, files: DatasetFiles, *, auto_batch: bool) -> str:
    """A sha256 of the plan's values, not of their reasons, and of every split.

    Args:
        asked: the plan before the memory was measured or ran out: both may end otherwise next time.
    """
    values = {name: value for name, value in _values(asked).items() if name not in MACHINE}
    values["images_a_step"] = "auto" if auto_batch else asked.batch.value * asked.accumulate.value
    digest = hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
    for path in (files.train, files.val, files.test):
        digest.update(path.read_bytes() if path else b"none")
    return digest.hexdigest()


def _values(plan: TrainPlan) -> dict[str, Any]:
    """Without origins and reasons."""
    return {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in plan.model_dump(mode="json").items()
    }

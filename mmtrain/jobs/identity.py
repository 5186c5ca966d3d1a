"""By what a training knows its own checkpoints: the plan and the data, apart from where and how fast it runs."""

from __future__ import annotations

import hashlib

import orjson

from mmtrain.config.files import DatasetFiles
from mmtrain.plan import TrainPlan

MACHINE = (
    "device", "gpus", "workers", "threads", "weights_file", "sync_bn", "compile", "channels_last", "model",
    "batch", "accumulate", "iters_per_epoch", "warmup_iters", "drop_last",
)  # fmt: skip
"""Of the plan: what may be another on the machine that goes on. Of batch and accumulate only their product counts."""


def fingerprint_of(asked: TrainPlan, files: DatasetFiles, *, auto_batch: bool) -> str:
    """A sha256 of the plan's values, not of their reasons, and of every split.

    Args:
        asked: the plan before the memory was measured or ran out: both may end otherwise next time.
    """
    values = {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in asked.model_dump(mode="json").items()
        if name not in MACHINE
    }
    values["images_a_step"] = "auto" if auto_batch else asked.batch.value * asked.accumulate.value
    digest = hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
    for path in (files.train, files.val, files.test):
        digest.update(path.read_bytes() if path else b"none")
    return digest.hexdigest()

"""What the parent asks of the worker, and the names of the files between them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mmtrain.config.files import DatasetFiles
from mmtrain.plan import TrainPlan
from trainer_sdk.request.nodes import PATIENCE_S
from trainer_sdk.tasks import Task

ORDER = "worker.json"
ERROR = "worker_error.json"
MESSAGES = "worker_messages.jsonl"
LOG = "worker.log"
EARLIER_LOG = "worker.earlier.log"
STOP = "stop"
PROBE = "probe.json"
PROBED = "probe.jsonl"
MODEL = "model.json"
PREDICTIONS = "predictions"
"""Of the split: a folder of class maps, or with ``.json`` COCO results."""
INTERRUPTED = "interrupted.pth"
BROUGHT = "fetched.pth"
RESUMABLE = (INTERRUPTED, BROUGHT, "epoch_*.pth")
"""Names of whole training checkpoints in ``work/``; the second one was made on another machine."""


class WorkerOrder(BaseModel):
    """``work/worker.json``."""

    model_config = ConfigDict(frozen=True)

    plan: TrainPlan
    files: DatasetFiles
    dataset: dict[str, Any]
    """Identity of the data, for the checkpoint's description."""
    fingerprint: str
    """Of the training: a checkpoint with the same one is gone on with."""
    parent: int
    """Process whose end ends the worker."""
    facts: dict[str, str] = {}
    """What must be the same on every node, by name."""
    patience_s: int = PATIENCE_S
    """How long a process waits for another one."""


class AloneOrder(BaseModel):
    """``work/worker.json`` of a job that trains nothing; each kind adds what it needs."""

    model_config = ConfigDict(frozen=True)

    parent: int
    """Process whose end ends the worker."""
    threads: int


class ModelSource(BaseModel):
    """What `engine/model_of.py` needs to load a model."""

    model_config = ConfigDict(frozen=True)

    path: Path
    name: str
    """What people call it."""
    device: str
    """torch's word."""
    model_name: str | None = None
    task: Task | None = None
    class_names: tuple[str, ...] | None = None
    keypoints: dict[str, Any] | None = None
    size_wh: tuple[int, int] | None = None


class ModelFacts(BaseModel):
    """``work/model.json``: what is known of a model before it is built."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    task: Task
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    keypoint_names: tuple[str, ...] | None = None
    size_wh: tuple[int, int]
    primary_metric: str
    """Upstream's name."""
    epoch: int | None = None
    trained_on_sha256: str | None = None
    """Of the annotations of its training data."""


class FactsOrder(AloneOrder):
    """Which model to say the facts of."""

    source: ModelSource


class EvaluateOrder(AloneOrder):
    """Which model is to look at which pictures."""

    source: ModelSource
    files: DatasetFiles
    """With the split to look at as `val`."""
    class_names: tuple[str, ...]
    """Of the data, and those that only the model knows."""
    labels: tuple[int, ...]
    """The model's class -> its place in `class_names`."""
    batch: int | None
    """None: the recipe's."""
    workers: int


class ProbeOrder(BaseModel):
    """``probe.json``: which batches the memory is measured with."""

    model_config = ConfigDict(frozen=True)

    plan: TrainPlan
    """For one device, as the probe trains on one."""
    files: DatasetFiles
    batches: tuple[int, ...]
    """Images at a time on one device, growing."""
    most_share: float
    """Of the memory: what needs more is the last that is tried."""
    devices: int
    enough: int | None
    """Nobody wants more than this: when it is sure to fit, nothing larger is tried."""


class Tried(BaseModel):
    """A line of ``probe.jsonl``: what some iterations with so many images on one device needed."""

    model_config = ConfigDict(frozen=True)

    batch: int
    peak_bytes: int | None
    """None: they did not fit."""
    empty_bytes: int = 0
    """What was needed before the first image."""
    limit_bytes: int
    limit: str
    """What sets the limit."""
    seconds: float
    problem: str = ""

    @property
    def share(self) -> float:
        """Of the memory, 0..1; infinite for what did not fit."""
        return math.inf if self.peak_bytes is None else self.peak_bytes / self.limit_bytes

    def suffices_for(self, batch: int | None, most_share: float) -> bool:
        """Whether so many images are sure to leave enough of the memory."""
        return batch is not None and self.at_most_bytes(batch) <= most_share * self.limit_bytes

    def at_most_bytes(self, batch: int) -> float:
        """What so many images need at most: what does not grow with them, as gradients, is counted as if it did."""
        if self.peak_bytes is None:
            return math.inf
        return self.empty_bytes + (self.peak_bytes - self.empty_bytes) * max(1.0, batch / self.batch)

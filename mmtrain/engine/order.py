"""What the parent asks of the worker, and the names of the files between them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from mmtrain.config.files import DatasetFiles
from mmtrain.plan import TrainPlan

ORDER = "worker.json"
ERROR = "worker_error.json"
MESSAGES = "worker_messages.jsonl"
LOG = "worker.log"
EARLIER_LOG = "worker.earlier.log"
STOP = "stop"


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

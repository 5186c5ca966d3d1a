"""What the parent asks of the process that predicts, and what comes back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from mmtrain.engine.order import AloneOrder, ModelSource
from mmtrain.predicting.options import Options
from mmtrain.predicting.writers import Wanted
from trainer_sdk.tasks import Task

PREDICTED = "predicted.json"
FIRST_ROWS = "first_rows.jsonl"
"""In ``work/``: rows of predictions.json without masks, at most `MOST_ROWS`, for the backend and the page."""
MOST_ROWS = 10_000


class PredictOrder(AloneOrder):
    """``work/worker.json``."""

    model: ModelSource
    """A checkpoint of ours or upstream's, or the folder of an exported package."""
    package: bool
    sources: tuple[str, ...]
    options: Options
    classes: tuple[str | int, ...] | None
    """To report, by name or id."""
    wanted: Wanted
    save_dice: bool
    readers: int
    """Threads that fetch, decode and prepare pictures."""


class Predicted(BaseModel):
    """``work/predicted.json``."""

    model_config = ConfigDict(frozen=True)

    task: Task
    class_names: tuple[str, ...]
    images: int
    """With those that could not be looked at."""
    unreadable: int
    objects: int
    of_class: dict[str, int]
    inference_ms: float
    """In all."""
    wall_s: float
    """From the first picture to the last row, without the loading of the model."""
    notes: tuple[str, ...] = ()
    first_problems: tuple[tuple[str, str], ...] = ()
    """Address and reason of some that could not be looked at."""

    @property
    def average_ms(self) -> float:
        return self.inference_ms / max(1, self.images - self.unreadable)

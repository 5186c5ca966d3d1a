"""What the worker says to its parent, one JSON object a line.

A file in the job folder carries them rather than a pipe: a stalled parent never blocks the training, a person can
read it afterwards, and nothing depends on file descriptors surviving torchrun (docs/decisions/0003).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trainer_sdk.events import Number, Numbers


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class WeightsLoaded(_Message):
    """What of the weights to start from fitted the model; the names are those of the model's tensors."""

    kind: Literal["weights_loaded"] = "weights_loaded"
    source: str
    loaded: int
    total: int
    reinitialised: list[str]
    """In both, and of another shape or for other classes."""
    missing: list[str]
    """In the model alone: new too."""
    unexpected: list[str]
    """In the file alone: left there."""
    class_remark: str | None = None


class FitStarted(_Message):
    """The model is built and the first iteration is next; of a training that goes on, what is done already."""

    kind: Literal["fit_started"] = "fit_started"
    epochs: int
    iters: int
    parameters: int
    done_epochs: int = 0
    done_iters: int = 0


class Iteration(_Message):
    """Now and then, by time rather than by count."""

    kind: Literal["iteration"] = "iteration"
    epoch: int
    iteration: int
    loss: Number
    losses: Numbers = {}
    """What it is the sum of, by the model's names."""
    lr: Number


class EpochEnd(_Message):
    """Mean losses of one epoch; 1-based."""

    kind: Literal["epoch"] = "epoch"
    epoch: int
    iteration: int
    losses: Numbers
    lr: Number
    data_share: Number = None
    """Of the time of its iterations, spent waiting for data, 0..1."""
    peak_rss_bytes: Number = None
    """The most memory the process had until then, of the machine; without its data loading processes."""
    peak_gpu_bytes: Number = None
    """The most that torch took of one GPU."""


class Validated(_Message):
    """One validation; 1-based epoch, MMDetection's metric names."""

    kind: Literal["validated"] = "validated"
    epoch: int
    metrics: Numbers
    best: bool


class Validating(_Message):
    """A validation that is under way, now and then; 1-based epoch, batches of one process."""

    kind: Literal["validating"] = "validating"
    epoch: int
    done: int
    total: int


class Predicting(_Message):
    """The best checkpoint at work on a split."""

    kind: Literal["predicting"] = "predicting"
    split: str
    done: int
    total: int


class Finished(_Message):
    """The worker's work is done and its files are written."""

    kind: Literal["finished"] = "finished"
    best_epoch: int
    epochs: int
    train_s: float


class Progressed(_Message):
    """How far a job that trains nothing is."""

    kind: Literal["progressed"] = "progressed"
    what: str
    done: int
    total: int


class Remark(_Message):
    """Something that people should read."""

    kind: Literal["remark"] = "remark"
    text: str
    level: Literal["INFO", "WARNING"] = "INFO"


class Done(_Message):
    """The work of a job that trains nothing is done and its files are written."""

    kind: Literal["done"] = "done"
    seconds: float


News = (
    WeightsLoaded
    | FitStarted
    | Iteration
    | EpochEnd
    | Validating
    | Validated
    | Predicting
    | Finished
    | Progressed
    | Remark
    | Done
)
parse_news: Callable[[bytes], News] = TypeAdapter(Annotated[News, Field(discriminator="kind")]).validate_json


def read_news(path: Path) -> list[News]:
    """What was ever said, as far as it can be read: the last line of a killed worker may be half a one."""
    news = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValidationError):
            news.append(parse_news(line))
    return news


def lasting(news: Iterable[News]) -> list[News]:
    """Without what a training that went on from an earlier checkpoint did a second time."""
    kept: dict[tuple[str, int], News] = {}
    for number, message in enumerate(news):
        if isinstance(message, FitStarted):
            done = message.done_epochs
            kept = {key: one for key, one in kept.items() if getattr(one, "epoch", 0) <= done}
        place = message.epoch if isinstance(message, EpochEnd | Validated) else number
        kept[message.kind, 0 if isinstance(message, WeightsLoaded) else place] = message
    return list(kept.values())


class MessageWriter:
    """The worker's end: one unbuffered append per message."""

    def __init__(self, path: Path) -> None:
        torn = path.exists() and not path.read_bytes().endswith(b"\n")
        self._file = path.open("ab", buffering=0)
        if torn:  # an earlier worker was killed inside a line, or the file is empty
            self._file.write(b"\n")

    def say(self, message: _Message) -> None:
        self._file.write(message.model_dump_json().encode() + b"\n")


class MessageReader:
    """The parent's end: what comes from now on; a line still being written waits for the next look."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def news(self) -> list[News]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [parse_news(line) for line in lines if line]

    def close(self) -> None:
        self._file.close()

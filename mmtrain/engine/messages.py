"""What the worker says to its parent, one JSON object a line.

A file in the job folder carries them rather than a pipe: a stalled parent never blocks the training, a person can
read it afterwards, and nothing depends on file descriptors surviving torchrun (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from trainer_sdk.events import Number, Numbers


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class FitStarted(_Message):
    """The model is built and the first iteration is next."""

    kind: Literal["fit_started"] = "fit_started"
    epochs: int
    iters: int
    parameters: int


class Iteration(_Message):
    """Now and then, by time rather than by count."""

    kind: Literal["iteration"] = "iteration"
    epoch: int
    iteration: int
    loss: Number
    lr: Number


class EpochEnd(_Message):
    """Mean losses of one epoch; 1-based."""

    kind: Literal["epoch"] = "epoch"
    epoch: int
    iteration: int
    losses: Numbers
    lr: Number


class Validated(_Message):
    """One validation; 1-based epoch, MMDetection's metric names."""

    kind: Literal["validated"] = "validated"
    epoch: int
    metrics: Numbers
    best: bool


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


News = FitStarted | Iteration | EpochEnd | Validated | Predicting | Finished
parse_news: Callable[[bytes], News] = TypeAdapter(Annotated[News, Field(discriminator="kind")]).validate_json


class MessageWriter:
    """The worker's end: one unbuffered append per message."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def say(self, message: _Message) -> None:
        self._file.write(message.model_dump_json().encode() + b"\n")


class MessageReader:
    """The parent's end: what came since the last look; a line still being written waits for the next."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""

    def news(self) -> list[News]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [parse_news(line) for line in lines if line]

    def close(self) -> None:
        self._file.close()

"""Keeps the newest checkpoint of a running training in the storage. A guest: whatever fails here, the training goes on.

A thread looks at ``work/`` every second, so neither the worker nor who listens to it knows of it. What it has seen it
links into a folder of its own: MMEngine removes old checkpoints, while they are uploaded too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from mmtrain.engine.messages import EpochEnd, Iteration, News, Predicting, Validating, lasting, read_news
from mmtrain.engine.order import BROUGHT, INTERRUPTED, MESSAGES, RESUMABLE
from mmtrain.jobs.memory import MEMORY
from mmtrain.jobs.progress import ProgressStore

log = logging.getLogger("trainer")

LOOK_EVERY_S = 1.0
REST = 3
"""Times as long as an upload took, at least, until the next: machine and network are for the training."""


class Keeper:
    """Keeps one training; a context manager around it, which lets the last checkpoint of a failed one through."""

    def __init__(self, store: ProgressStore, training: str, work: Path, wait_s: Callable[[], float]) -> None:
        """
        Args:
            training: its fingerprint.
            wait_s: how long the end may wait for an upload, asked there.
        """
        self._store = store
        self._training = training
        self._work = work
        self._wait_s = wait_s
        self._scratch = work / "keeping"
        self._kept: tuple[str, int] | None = None
        self._ended = threading.Event()
        self._one_more = False
        self._warned = False
        self._thread = threading.Thread(target=self._look_until_the_end, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._one_more = error is not None
        self._ended.set()
        self._thread.join(self._wait_s())

    def _look_until_the_end(self) -> None:
        pause_s = LOOK_EVERY_S
        while not self._ended.wait(pause_s):
            began = time.monotonic()
            self.look()
            pause_s = max(LOOK_EVERY_S, REST * (time.monotonic() - began))
        if self._one_more:
            self.look()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def look(self) -> None:
        """Keeps the newest checkpoint unless it is kept. Never raises."""
        try:
            self._keep_newest()
        except Exception as error:  # noqa: BLE001 - a guest: its failures are told once and stay its own
            if not self._warned:
                log.warning("checkpoints cannot be kept at %s, the training goes on: %s", self._store.uri, error)
            self._warned = True

    def _keep_newest(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # removed between two looks: there is a newer one
            checkpoint = newest_checkpoint(self._work)
            if checkpoint is None or self._kept == (version := _version(checkpoint)):
                return
            news = read_news(self._work / MESSAGES)
            reached = reached_by(checkpoint, news)
            if reached is not None:
                files = self._frozen(checkpoint, news, epochs=reached[0])
                self._store.save(self._training, reached, files, self._scratch)
                self._kept = version

    def _frozen(self, checkpoint: Path, news: list[News], *, epochs: int) -> dict[str, Path]:
        """What a training needs to go on with whole curves, by its path below ``work/``, where nothing changes it."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        history = self._scratch / MESSAGES
        history.write_bytes(b"".join(line.model_dump_json().encode() + b"\n" for line in worth_keeping(news, epochs)))
        names = {best.name: best for best in self._work.glob("best_*.pth")} | {BROUGHT: checkpoint}
        if checkpoint.name == INTERRUPTED:  # in the middle of an epoch only the same number of processes goes on
            names |= {epoch.name: epoch for epoch in _newest_first(self._work, "epoch_*.pth")[:1]}
        others = [*self._work.glob("*/vis_data/events.*"), *self._work.glob(MEMORY)]  # the second, for the same steps
        names |= {str(file.relative_to(self._work)): file for file in others}
        return {MESSAGES: history} | {name: _frozen_file(file, self._scratch) for name, file in names.items()}


def newest_checkpoint(work: Path) -> Path | None:
    """None when it comes from the storage itself. Raises: FileNotFoundError, when one was removed just now."""
    newest = next(iter(_newest_first(work, *RESUMABLE)), None)
    return None if newest is None or newest.name == BROUGHT else newest


def reached_by(checkpoint: Path, news: Iterable[News]) -> tuple[int, int] | None:
    """Whole epochs and iterations of a checkpoint; None while its epoch's end is not told: that comes after it."""
    past = lasting(news)
    ends = {message.epoch: message.iteration for message in past if isinstance(message, EpochEnd)}
    if checkpoint.name != INTERRUPTED:
        epoch = int(checkpoint.stem.rpartition("_")[2])
        return (epoch, ends[epoch]) if epoch in ends else None
    iterations = [message.iteration for message in past if isinstance(message, EpochEnd | Iteration)]
    return max(ends, default=0), max(iterations, default=0)


def worth_keeping(news: Iterable[News], epochs: int) -> list[News]:
    """What curves and notes are made of, of so many epochs."""
    passing = (Iteration, Validating, Predicting)
    return [line for line in lasting(news) if not isinstance(line, passing) and getattr(line, "epoch", 0) <= epochs]


def _newest_first(work: Path, *patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in work.glob(pattern)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _frozen_file(file: Path, folder: Path) -> Path:
    """Checkpoints are replaced, never changed, so a second name is enough; TensorBoard's files grow."""
    target = folder / file.name
    if file.suffix == ".pth":
        with contextlib.suppress(OSError):  # a file system without links
            os.link(file, target)
            return target
    shutil.copy2(file, target)
    return target


def _version(path: Path) -> tuple[str, int]:
    return path.name, path.stat().st_mtime_ns

"""Everything random as a function of the seed and of where the training is, not of what happened before.

A training that goes on after an interruption draws the same numbers as one that was never interrupted, without the
state of any generator being kept: neither of the processes on each GPU, nor of those that load data. A picture is
augmented the same way whichever process loads it, so the numbers of a training do not depend on `workers`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from multiprocessing.sharedctypes import RawValue
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtrain.config.slots import innermost

SAMPLES, ITERATIONS = 0, 1
"""Streams: the augmentation of a picture, and what the model draws in an iteration."""
FEWEST_CACHED = 5
"""MMDetection's cached mosaic mixes from five pictures on."""


class SeedHook(Hook):
    """Seeds before every picture and every iteration.

    Args:
        fresh_caches: transforms that mix pictures begin every epoch with a few of its own instead of what earlier
            epochs left: what else would be lost with the process, and with it the sameness of the numbers.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int, *, fresh_caches: bool) -> None:
        self._seed = seed
        self._fresh_caches = fresh_caches
        self._epoch = RawValue("q", 0)  # seen by the data loading processes, which live longer than an epoch

    def before_train(self, runner: Runner) -> None:
        seed_samples(runner.train_dataloader.dataset, self._seed, self._epoch, fresh_caches=self._fresh_caches)

    def before_train_epoch(self, runner: Runner) -> None:
        self._epoch.value = runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_all((self._seed, ITERATIONS, runner.iter, get_rank()))
        if torch.cuda.is_available():
            torch.cuda.manual_seed(_number((self._seed, ITERATIONS, runner.iter, get_rank())))


def seed_all(place: tuple[int, ...]) -> None:
    """Python's, numpy's and torch's generators of this process."""
    number = _number(place)
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)


def seed_samples(dataset: Any, seed: int, epoch: Any, *, fresh_caches: bool = False) -> None:
    """Makes `dataset[index]` begin with generators that depend on seed, epoch and index alone.

    Args:
        epoch: its ``value`` is the current one, 0-based.
    """
    kind = type(dataset)

    class Seeded(kind):  # type: ignore[misc,valid-type]
        """The same data set; a wrapper would hide its attributes, which hooks set."""

        _filled_in = -1

        def __getitem__(self, index: int) -> Any:
            now = epoch.value
            if fresh_caches and self._filled_in != now:
                self._filled_in = now
                self._refill(now)
            seed_all((seed, SAMPLES, now, int(index)))
            return super().__getitem__(index)

        def _refill(self, now: int) -> None:
            caching = [step for step in _transforms(innermost(self).pipeline) if hasattr(step, "results_cache")]
            for step in caching:
                step.results_cache.clear()
            order = np.random.default_rng((seed, now)).permutation(len(self))
            for index in order[:FEWEST_CACHED] if caching else ():
                seed_all((seed, SAMPLES, now, int(index)))
                super().__getitem__(int(index))

    Seeded.__name__ = kind.__name__
    dataset.__class__ = Seeded


def _transforms(step: Any) -> Iterator[Any]:
    """The steps of a pipeline, also those inside a choice between pipelines."""
    yield step
    inner = getattr(step, "transforms", ())
    for one in inner if isinstance(inner, list | tuple) else (inner,):
        yield from _transforms(one)


def _number(place: tuple[int, ...]) -> int:
    """32 bits; SeedSequence keeps neighbouring places apart."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])

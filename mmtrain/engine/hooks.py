"""What we add to a Runner. Registered by `fit`, never named in config.py, so that the config runs without us.

Epochs: MMEngine counts from 0 in `after_train_epoch` and has already counted up in `after_val_epoch`.
Kept trivial: `Runner.call_hook` re-raises a TypeError without its traceback.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import psutil
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtrain.engine.messages import EpochEnd, FitStarted, Iteration, MessageWriter, Validated
from mmtrain.metrics import mm_metric_names
from mmtrain.plan import TrainPlan
from trainer_sdk.errors import DivergedError, Interrupted

SAY_EVERY_S = 0.5
LOOK_EVERY_S = 0.5
CHECK_LOSS_EVERY = 10
BAD_CHECKS = 3


class MessageHook(Hook):
    """Tells the parent how the training goes. LOWEST, so that a best checkpoint exists when it is announced."""

    priority = "LOWEST"

    def __init__(self, writer: MessageWriter, plan: TrainPlan) -> None:
        self._writer = writer
        self._primary_metric = plan.primary_metric.value
        self._nothing_found = dict.fromkeys(mm_metric_names(plan.task), 0.0)
        self._best = -math.inf
        self._next_say = 0.0

    def before_train(self, runner: Runner) -> None:
        parameters = sum(parameter.numel() for parameter in runner.model.parameters())
        self._writer.say(FitStarted(epochs=runner.max_epochs, iters=runner.max_iters, parameters=parameters))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if time.monotonic() < self._next_say:
            return
        self._next_say = time.monotonic() + SAY_EVERY_S
        self._writer.say(
            Iteration(
                epoch=runner.epoch + 1,
                iteration=runner.iter + 1,
                loss=float(outputs["loss"]),
                lr=_learning_rate(runner),
            )
        )

    def after_train_epoch(self, runner: Runner) -> None:
        per_epoch = runner.max_iters // runner.max_epochs
        scalars = runner.message_hub.log_scalars
        losses = {
            name.removeprefix("train/"): history.mean(per_epoch)
            for name, history in scalars.items()
            if name.startswith("train/") and "loss" in name
        }
        self._writer.say(
            EpochEnd(epoch=runner.epoch + 1, iteration=runner.iter, losses=losses, lr=_learning_rate(runner))
        )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        # CocoMetric returns nothing at all when the model found no object in any picture: that is a 0, not a gap.
        numbers = {name: float(number) for name, number in (metrics or self._nothing_found).items()}
        value = numbers[self._primary_metric]
        best = bool(metrics) and value > self._best  # MMEngine keeps no best checkpoint without a result either
        self._best = max(self._best, value) if metrics else self._best
        self._writer.say(Validated(epoch=runner.epoch, metrics=numbers, best=best))


class StopHook(Hook):
    """Ends the work when the parent asks for it (a file appears) or is gone, also inside an evaluation."""

    def __init__(self, stop_file: Path, parent: int) -> None:
        self._stop_file = stop_file
        self._parent = parent
        self._next_look = 0.0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._stop_if_asked(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._stop_if_asked(runner)

    def _stop_if_asked(self, runner: Runner) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        if self._stop_file.exists() or not _alive(self._parent):
            runner.save_checkpoint(runner.work_dir, "interrupted.pth", save_optimizer=True, save_param_scheduler=True)
            raise Interrupted("the parent asked to stop")


class DivergenceHook(Hook):
    """Ends a training whose loss is no longer a number, instead of letting it report zero accuracy hours later."""

    def __init__(self) -> None:
        self._bad = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (runner.iter + 1) % CHECK_LOSS_EVERY:
            return
        self._bad = 0 if math.isfinite(float(outputs["loss"])) else self._bad + 1
        if self._bad >= BAD_CHECKS:
            raise DivergedError(
                f"the loss was not finite for {BAD_CHECKS * CHECK_LOSS_EVERY} iterations (iteration {runner.iter + 1})",
                hint="lower lr0, or lengthen warmup_epochs",
            )


class DescriptionHook(Hook):
    """Puts into every checkpoint what is needed to use it without us (mmtrain/engine/checkpoints.py)."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"]["trainer"] = self._description


def _learning_rate(runner: Runner) -> float:
    return float(runner.optim_wrapper.get_lr()["lr"][0])


def _alive(process: int) -> bool:
    """A zombie is gone too: its own parent just has not looked yet."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

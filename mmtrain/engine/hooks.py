"""What we add to a Runner. Registered by `fit`, never named in config.py, so that the config runs without us.

Epochs: MMEngine counts from 0 in `after_train_epoch` and has already counted up in `after_val_epoch`.
Kept trivial: `Runner.call_hook` re-raises a TypeError without its traceback.
"""

from __future__ import annotations

import math
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmtrain.config.slots import innermost
from mmtrain.engine.browse import show, whole_pipeline
from mmtrain.engine.messages import EpochEnd, FitStarted, Iteration, MessageWriter, Validated, Validating
from mmtrain.engine.order import INTERRUPTED
from mmtrain.engine.stopping import StopRequest
from mmtrain.engine.team import ALONE, Team
from mmtrain.machine import peak_rss_bytes
from mmtrain.metrics import mm_metric_names
from mmtrain.plan import TrainPlan
from mmtrain.shown import JOB_FOLDER, Shown
from trainer_sdk.errors import DivergedError, Interrupted

SAY_EVERY_S = 0.5
CHECK_LOSS_EVERY = 10
BAD_CHECKS = 3
SHOWN_PICTURES = 12
SHOW_S = 2.0


class MessageHook(Hook):
    """Tells the parent how the training goes. LOWEST, so that a best checkpoint exists when it is announced.

    Args:
        writer: None on all processes but the first, which add what they know.
    """

    priority = "LOWEST"

    def __init__(self, writer: MessageWriter | None, plan: TrainPlan, team: Team = ALONE) -> None:
        self._writer = writer
        self._team = team
        self._nothing_found = dict.fromkeys(mm_metric_names(plan.task), 0.0)
        self._next_say = 0.0

    def before_train(self, runner: Runner) -> None:
        if self._writer is None:
            return
        parameters = sum(parameter.numel() for parameter in runner.model.parameters())
        self._writer.say(
            FitStarted(
                epochs=runner.max_epochs,
                iters=runner.max_iters,
                parameters=parameters,
                done_epochs=runner.epoch,
                done_iters=runner.iter,
            )
        )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._writer is None or time.monotonic() < self._next_say:
            return
        self._next_say = time.monotonic() + SAY_EVERY_S
        self._writer.say(
            Iteration(
                epoch=runner.epoch + 1,
                iteration=runner.iter + 1,
                loss=float(outputs["loss"]),
                losses={name: float(value) for name, value in outputs.items() if "loss" in name and name != "loss"},
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
        means = self._team.mean(losses.values())  # each process sees its share of every batch
        if self._writer is None:
            return
        self._writer.say(
            EpochEnd(
                epoch=runner.epoch + 1,
                iteration=runner.iter,
                losses=dict(zip(losses, means, strict=True)),
                lr=_learning_rate(runner),
                data_share=_data_share(scalars, per_epoch),
                peak_rss_bytes=peak_rss_bytes(),
                peak_gpu_bytes=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
            )
        )

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._writer is None or time.monotonic() < self._next_say:
            return
        self._next_say = time.monotonic() + SAY_EVERY_S
        self._writer.say(Validating(epoch=runner.epoch, done=batch_idx + 1, total=len(runner.val_dataloader)))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._writer is None:
            return
        # CocoMetric returns nothing at all when the model found no object in any picture: that is a 0, not a gap.
        numbers = {name: float(number) for name, number in (metrics or self._nothing_found).items()}
        best = Path(runner.message_hub.runtime_info.get("best_ckpt", "")).stem.endswith(f"_epoch_{runner.epoch}")
        self._writer.say(Validated(epoch=runner.epoch, metrics=numbers, best=best))


class StopHook(Hook):
    """Ends the work when this is asked for, also inside an evaluation.

    LOWEST, so that a checkpoint has the whole iteration. All processes end after the same one, whichever node is asked.
    """

    priority = "LOWEST"

    def __init__(self, request: StopRequest, team: Team = ALONE) -> None:
        self._request = request
        self._team = team

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if node := self._node_asked():
            self._leave(runner, runner.iter + 1, node)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if node := self._node_asked():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook._swap_ema_parameters()  # validation is of the average: the model has its weights back
            self._leave(runner, runner.iter, node)

    def _node_asked(self) -> int:
        """Which node's parent asks, counted from 1; 0: none does."""
        return self._team.highest(self._team.place.node + 1 if self._request.asked() else 0)

    def _leave(self, runner: Runner, done_iters: int, node: int) -> None:
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta={"epoch": runner.epoch, "iter": done_iters})
        self._team.wait()  # the first one saves; the end of another would end it
        several = self._team.place.nodes > 1
        raise Interrupted(f"node {node - 1} was told to stop" if several else "the parent asked to stop")


class DivergenceHook(Hook):
    """Ends a training whose loss is no longer a number, instead of letting it report zero accuracy hours later.

    A checkpoint of such weights is never written: nothing comes back from there, and it would push out a good one.
    """

    def __init__(self) -> None:
        self._bad = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (runner.iter + 1) % CHECK_LOSS_EVERY:
            return
        self._bad = 0 if math.isfinite(float(outputs["loss"])) else self._bad + 1
        if self._bad >= BAD_CHECKS:
            iterations = BAD_CHECKS * CHECK_LOSS_EVERY
            raise _diverged(
                runner, f"the loss was not finite for {iterations} iterations (iteration {runner.iter + 1})"
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in runner.model.parameters()):
            raise _diverged(
                runner, f"the loss was not finite, and the weights are not any more (iteration {runner.iter})"
            )


class DescriptionHook(Hook):
    """Puts into every checkpoint what is needed to use it without us (mmtrain/engine/checkpoints.py)."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"]["trainer"] = self._description


class BrowseHook(Hook):
    """Keeps what the model is about to be shown, from the data set that is in memory anyway, for the report."""

    def __init__(self, job_dir: Path, seed: int) -> None:
        self._folder = job_dir / JOB_FOLDER
        self._seed = seed

    def before_train(self, runner: Runner) -> None:
        loader = runner.cfg.train_dataloader.to_dict()
        try:
            show(
                innermost(runner.train_dataloader.dataset),
                whole_pipeline(loader["dataset"]),
                self._folder,
                count=SHOWN_PICTURES,
                seed=self._seed,
                budget_s=SHOW_S,
            )
        except Exception as error:  # noqa: BLE001 - pictures for the report are no reason to lose a training
            traceback.print_exc()  # worker.log
            Shown(problem=f"{type(error).__name__}: {error}").write(self._folder)


def _data_share(scalars: dict[str, Any], iterations: int) -> float | None:
    """Of the last iterations, as MMEngine's IterTimerHook took them: `data_time` is a part of `time`."""
    if "train/time" not in scalars:
        return None
    whole_s = float(scalars["train/time"].mean(iterations))
    return float(scalars["train/data_time"].mean(iterations)) / whole_s if whole_s > 0 else None


def _learning_rate(runner: Runner) -> float:
    return float(runner.optim_wrapper.get_lr()["lr"][0])


def _diverged(runner: Runner, found: str) -> DivergedError:
    kept = sorted(Path(runner.work_dir).glob("epoch_*.pth"), key=lambda path: int(path.stem.removeprefix("epoch_")))
    where = f"the last good checkpoint is work/{kept[-1].name}" if kept else "it was before the first checkpoint"
    return DivergedError(found, hint=f"lower lr0, or lengthen warmup_epochs; {where}")

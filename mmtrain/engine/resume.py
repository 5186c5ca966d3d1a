"""Going on with a training where a checkpoint left it, as if nothing had happened.

MMEngine restores model, optimizer, schedulers, average and log. Here is the rest: which checkpoint; the middle of an
epoch; the validation that a checkpoint was written before; early stopping; gradients not yet used; and a batch size
that is another one by now.

From the middle of an epoch a training goes on with the same iteration: the batches before it are loaded and thrown
away, so that order and mixed pictures are as they were.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmtrain.engine.order import RESUMABLE
from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.team import ALONE, Team
from trainer_sdk.errors import CheckpointError
from trainer_sdk.workspace import write_atomically

log = logging.getLogger(__name__)

STATE = "trainer_state"
GRADIENTS = "gradients"

Checkpoint = dict[str, Any]


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """MMEngine's loop, which begins anywhere."""

    @property
    def iters_in_epoch(self) -> int:
        """Iterations of the current epoch that are done."""
        return int(self._iter - self._epoch * len(self.dataloader))

    def run(self) -> torch.nn.Module:
        self.runner.call_hook("before_train")
        if self._epoch > 0 and self.iters_in_epoch == 0:
            self._end_epoch()  # a checkpoint of an epoch's end is from before its validation
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._end_epoch()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self.iters_in_epoch
        for index, batch in enumerate(self.dataloader):
            if index >= done:
                self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _end_epoch(self) -> None:
        self._decide_current_val_interval()
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.val_loop.run()


class ResumeHook(Hook):
    """Puts into checkpoints what MMEngine leaves out, and takes it back. LOWEST: after all that it looks at."""

    priority = "LOWEST"

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._trained_s = 0.0
        self._started = time.monotonic()
        self._gradients: dict[str, torch.Tensor] = {}
        self._fast_forward = False
        self._steps_from = 0
        """Iteration from which batches are counted into steps: where their number a step last changed."""

    @property
    def trained_s(self) -> float:
        """Seconds of training, also those before an interruption."""
        return self._trained_s + time.monotonic() - self._started

    def before_save_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        stopping = _early_stopping(runner)
        checkpoint["meta"][STATE] = {
            "batch": self._batch,
            "processes": get_world_size(),
            "iters_per_epoch": len(runner.train_dataloader),
            "steps_from": self._steps_from,
            "trained_s": self.trained_s,
            "early_stopping": None
            if stopping is None
            else {"wait_count": stopping.wait_count, "best_score": float(stopping.best_score)},
        }
        for state in checkpoint.get("param_schedulers", ()):
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]  # OneCycleLR's function: nothing but values can be loaded safely, and it is made anew
        if "optimizer" in checkpoint:
            checkpoint[GRADIENTS] = _unused_gradients(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        if not runner._resume:
            return
        state = checkpoint["meta"][STATE]
        self._trained_s, self._started = state["trained_s"], time.monotonic()
        stopping = _early_stopping(runner)
        if stopping is not None and state["early_stopping"] is not None:
            stopping.wait_count = state["early_stopping"]["wait_count"]
            stopping.best_score = state["early_stopping"]["best_score"]
        self._gradients = checkpoint.pop(GRADIENTS, {})
        self._steps_from = state.get("steps_from", 0)
        _find_best(checkpoint, Path(runner.work_dir))
        if not same_steps(checkpoint, len(runner.train_dataloader), self._batch):
            self._gradients = {}
            checkpoint["meta"]["iter"] = checkpoint["meta"]["epoch"] * len(runner.train_dataloader)
            self._steps_from = checkpoint["meta"]["iter"]
            self._fast_forward = "param_schedulers" in checkpoint
            checkpoint.pop("param_schedulers", None)

    def before_train(self, runner: Runner) -> None:
        for name, parameter in _model(runner).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter.device)
        self._gradients = {}
        if self._fast_forward:
            fast_forward(runner)
        if self._steps_from:  # else the first step would be made of fewer batches than the others
            done, whole = runner.iter - self._steps_from, runner.max_iters - self._steps_from
            runner.optim_wrapper.initialize_count_status(runner.model, done, whole)


def same_steps(checkpoint: Checkpoint, iters_per_epoch: int, batch: int) -> bool:
    """Whether the checkpoint counts iterations as this training does."""
    state = checkpoint["meta"][STATE]
    found = (state["iters_per_epoch"], state["batch"], state["processes"])
    return bool(found == (iters_per_epoch, batch, get_world_size()))


def fast_forward(runner: Runner) -> None:
    """Schedules count iterations; where an epoch has another number of them by now, they are walked through again."""
    for group in runner.optim_wrapper.param_groups:
        group["lr"] = group["initial_lr"]
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    for _ in range(runner.iter):
        for scheduler in runner.param_schedulers:
            scheduler.step()


def choose_checkpoint(
    work_dir: Path, fingerprint: str, *, iters_per_epoch: int, batch: int, team: Team = ALONE
) -> Path | None:
    """The newest whole checkpoint of the same training; the same one on every process.

    Args:
        fingerprint: of request, data and plan; a checkpoint of another training is left alone.
        iters_per_epoch, batch: a checkpoint from within an epoch counts only if it was one of as many steps.
    """
    place = team.place
    elsewhere = place.nodes > 1  # another machine has another disk
    path = _newest(work_dir, fingerprint, iters_per_epoch, batch) if place.first else None
    found = team.from_first((path.name, path.read_bytes() if elsewhere else b"") if path else None)
    if found is None:
        return None
    name, content = found
    if place.node > 0 and place.first_here:
        write_atomically(work_dir / name, content)
    team.wait()
    return work_dir / name


def _newest(work_dir: Path, fingerprint: str, iters_per_epoch: int, batch: int) -> Path | None:
    found = [path for pattern in RESUMABLE for path in work_dir.glob(pattern)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            checkpoint = load_checkpoint_safely(path)
            meta = checkpoint["meta"]
            ours = meta["trainer"]["fingerprint"] == fingerprint and "optimizer" in checkpoint
            within = meta["iter"] % meta[STATE]["iters_per_epoch"] != 0
        except (CheckpointError, KeyError, TypeError) as error:
            log.warning("%s is not gone on with: %s", path.name, error)
            continue
        if ours and (not within or same_steps(checkpoint, iters_per_epoch, batch)):
            return path
    return None


def _find_best(checkpoint: Checkpoint, work_dir: Path) -> None:
    """The best checkpoint may lie elsewhere by now, or be lost: then the next validation is the best one again."""
    known = checkpoint["message_hub"]["runtime_info"]
    resumed = checkpoint["message_hub"]["resumed_keys"]
    if "best_ckpt" not in known:
        return
    best = work_dir / Path(known["best_ckpt"]).name
    if best.exists():
        known["best_ckpt"] = str(best)
        return
    for name in ("best_ckpt", "best_score"):
        known.pop(name, None)
        resumed.pop(name, None)


def _unused_gradients(runner: Runner) -> dict[str, torch.Tensor]:
    """Of a step that is not complete: several batches add up to one.

    With several processes each has gradients of its own; there, such a step is made of the batches that remain.
    """
    wrapper = runner.optim_wrapper
    counts, done = wrapper._accumulative_counts, wrapper._inner_count
    if get_world_size() > 1 or done % counts == 0 or done == wrapper._max_counts:
        return {}
    return {name: p.grad.cpu() for name, p in _model(runner).named_parameters() if p.grad is not None}


def _early_stopping(runner: Runner) -> EarlyStoppingHook | None:
    return next((hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)), None)


def _model(runner: Runner) -> torch.nn.Module:
    return getattr(runner.model, "module", runner.model)

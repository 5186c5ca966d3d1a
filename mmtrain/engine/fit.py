"""Trains: configuration in, checkpoints out. The only place, beside `infer`, that holds a Runner."""

from __future__ import annotations

import importlib.util
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmtrain.engine.hooks import DescriptionHook, DivergenceHook, MessageHook, StopHook
from mmtrain.engine.messages import MessageWriter
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe


@dataclass(frozen=True)
class Fitted:
    """What a finished training leaves."""

    runner: Runner
    best: Path
    last: Path
    best_epoch: int
    epochs: int
    train_s: float


def upstream_config(recipe: Recipe) -> dict[str, Any]:
    """The recipe's base configuration as a plain dict (a Config only looks like one)."""
    package, _, relative = recipe.base.partition("::")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    config: dict[str, Any] = Config.fromfile(Path(spec.origin).parent / ".mim" / "configs" / relative).to_dict()
    return config


def fit(
    config: Config,
    plan: TrainPlan,
    description: dict[str, Any],
    *,
    writer: MessageWriter | None,
    stop_file: Path,
    parent: int,
) -> Fitted:
    """Runs the training to its end.

    Args:
        writer: where news go; None on all processes but the first.
        stop_file: its appearance ends the training after the current iteration.
        parent: process whose end ends the training.

    Raises:
        DivergedError, Interrupted: see the hooks.
    """
    runner = Runner.from_cfg(config)
    runner.register_hook(DivergenceHook())
    runner.register_hook(DescriptionHook(description))
    runner.register_hook(StopHook(stop_file, parent))
    if writer is not None:
        runner.register_hook(MessageHook(writer, plan))
    started = time.monotonic()
    runner.train()
    last = Path((Path(runner.work_dir) / "last_checkpoint").read_text())
    best = _best(Path(runner.work_dir), last)
    return Fitted(
        runner=runner,
        best=best,
        last=last,
        best_epoch=int(re.findall(r"epoch_(\d+)", best.name)[-1]),
        epochs=runner.epoch,
        train_s=round(time.monotonic() - started, 3),
    )


def _best(work_dir: Path, last: Path) -> Path:
    """The checkpoint that MMEngine kept as the best; the last one when no validation found a single object."""
    found = sorted(work_dir.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else last

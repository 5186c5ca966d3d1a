"""Trains: configuration in, checkpoints out. The only place, beside `infer`, that holds a Runner."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from mmtrain.choices import Decided
from mmtrain.config.build import TASKS
from mmtrain.engine.hooks import BrowseHook, DescriptionHook, DivergenceHook, MessageHook, StopHook
from mmtrain.engine.messages import MessageWriter
from mmtrain.engine.order import BROUGHT, INTERRUPTED
from mmtrain.engine.resume import ResumableLoop, ResumeHook, choose_checkpoint
from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.seeding import SeedHook
from mmtrain.engine.start import fitting, write_start
from mmtrain.engine.stopping import LoadingContext, StopRequest, heed_only_the_parent
from mmtrain.engine.team import ALONE, Team
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe, load_recipe
from trainer_sdk.errors import ConfigError


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


def runnable(values: dict[str, Any]) -> Config:
    """MMEngine's form of a configuration.

    Not formatted by yapf: that takes seconds, and MMEngine asks for the text four times at the start and with every
    checkpoint. Without it, it is indented Python all the same.
    """
    return Config(values, format_python_code=False)


def fit(
    config: Config,
    plan: TrainPlan,
    description: dict[str, Any],
    *,
    writer: MessageWriter | None,
    stop: StopRequest,
    team: Team = ALONE,
) -> Fitted:
    """Runs the training to its end, from the newest of its own checkpoints in the work folder if there is one.

    Args:
        description: of the checkpoints, with the training's fingerprint.
        writer: where news go; None on all processes but the first.
        stop: ends the training after the current iteration.
        team: those that train together; it has met.

    Raises:
        DivergedError, Interrupted: see the hooks.
    """
    config.train_cfg.type = ResumableLoop.__name__
    # One more than asked for: MMEngine removes the old one before it has written the new one.
    config.default_hooks.checkpoint.max_keep_ckpts += 1
    runner = prepared_runner(config, plan)
    if plan.deterministic.value:  # where CUDA has no such operator, worker.log says so instead of ending the training
        torch.use_deterministic_algorithms(True, warn_only=True)
    go_on(runner, description["fingerprint"], plan.batch.value, team)
    if plan.weights_file and not runner._resume:
        _prepare_weights(runner, plan, writer, team)
    resuming = ResumeHook(plan.batch.value)
    runner.register_hook(SeedHook(plan.seed.value, fresh_caches=plan.deterministic.value))
    runner.register_hook(DivergenceHook())
    runner.register_hook(DescriptionHook(description))
    runner.register_hook(resuming)
    runner.register_hook(MessageHook(writer, plan, team))
    if writer is not None:
        runner.register_hook(BrowseHook(Path(runner.work_dir).parent, plan.seed.value))
    runner.register_hook(StopHook(stop, team))
    runner.train()
    last = _last(runner)
    best = _best(runner, last)
    if writer is not None:
        _tidy(last.parent, plan.checkpoint_keep_max.value)
    return Fitted(
        runner=runner,
        best=best,
        last=last,
        best_epoch=_epoch(best),
        epochs=runner.epoch,
        train_s=round(resuming.trained_s, 3),
    )


def go_on(runner: Runner, fingerprint: str, batch: int, team: Team = ALONE) -> None:
    """Lets the runner begin where the newest checkpoint of the same training is."""
    iters_per_epoch = len(runner.train_dataloader)
    path = choose_checkpoint(
        Path(runner.work_dir), fingerprint, iters_per_epoch=iters_per_epoch, batch=batch, team=team
    )
    if path is not None:
        runner._resume, runner._load_from = True, str(path)


def _prepare_weights(runner: Runner, plan: TrainPlan, writer: MessageWriter | None, team: Team) -> None:
    """The first process of each machine writes the file that all there load; the first of all says what is in it.

    Raises:
        CheckpointError: weights of another model, or none.
    """
    if team.place.first_here:
        assert plan.weights_file is not None
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        start = fitting(
            load_checkpoint_safely(Path(plan.weights_file), plan.weights.value),
            model,
            name=plan.weights.value,
            recipe=plan.recipe,
            class_names=plan.class_names,
            keypoint_names=plan.keypoints.names if plan.keypoints else (),
            shapes_with_one_more=lambda: _shapes(plan, (*plan.class_names, "one more")),
        )
        write_start(start, model, Path(runner.cfg.load_from))
        if writer is not None:
            writer.say(start.told)
    team.wait()


def _shapes(plan: TrainPlan, class_names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Of every tensor of the model, were the classes these."""
    recipe = load_recipe(plan.recipe, plan.task)
    alike = Decided[tuple[float, ...] | None](value=None, origin="recipe")
    other = plan.model_copy(update={"class_names": class_names, "class_weights": alike})
    model = TASKS[recipe.task].build_model(upstream_config(recipe)["model"], recipe, other)
    with torch.random.fork_rng(devices=[]):  # the training's random numbers are not for this
        state = MODELS.build(ConfigDict(model)).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def prepared_runner(config: Config, plan: TrainPlan) -> Runner:
    """With what a configuration cannot say."""

    class Prepared(Runner):  # type: ignore[misc]
        def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> Any:
            if not plan.sync_bn.value:  # MMEngine reverts those of its own accord only where one process trains
                model = revert_sync_batchnorm(model)
            prepare_model(model, plan)  # before DistributedDataParallel counts what learns
            return super().wrap_model(model_wrapper_cfg, model)

        @staticmethod
        def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader[Any]:
            loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
            loader.worker_init_fn = _Settled(loader.worker_init_fn)
            if loader.num_workers:
                loader.multiprocessing_context = LoadingContext()
            return loader

    return Prepared.from_cfg(config)


class _Settled:
    """What every data loading process does first, and then what it was to do first."""

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self._then = then

    def __call__(self, number: int) -> None:
        heed_only_the_parent()
        if self._then is not None:
            self._then(number)


def prepare_model(model: nn.Module, plan: TrainPlan) -> None:
    """What a configuration cannot say: parts frozen by name, and the memory format.

    Raises:
        ConfigError: a name that no parameter begins with.
    """
    if plan.channels_last.value:
        model.to(memory_format=torch.channels_last)  # convolutions hand it on to their outputs
    names = [name for name, _ in model.named_parameters()]
    for prefix in (part.rstrip("*") for part in plan.freeze.value):
        frozen = [
            parameter for name, parameter in model.named_parameters() if name.removeprefix("module.").startswith(prefix)
        ]
        if not frozen:
            parts = sorted({".".join(name.removeprefix("module.").split(".")[:2]) for name in names})
            raise ConfigError(f"freeze: no parameter's name begins with {prefix!r}", hint=f"parts: {', '.join(parts)}")
        for parameter in frozen:
            parameter.requires_grad_(False)
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm) and name.removeprefix("module.").startswith(prefix):
                module.train = lambda mode=True, module=module: module  # its statistics stay, whatever the model does
                module.training = False


def _last(runner: Runner) -> Path:
    """The last checkpoint; early stopping may end a training between two of them."""
    last = Path(runner.work_dir) / f"epoch_{runner.epoch}.pth"
    if not last.exists():
        runner.save_checkpoint(runner.work_dir, last.name, meta={"epoch": runner.epoch, "iter": runner.iter})
    return last


def _epoch(checkpoint: Path) -> int:
    return int(re.findall(r"epoch_(\d+)", checkpoint.name)[-1])


def _best(runner: Runner, last: Path) -> Path:
    """The checkpoint that MMEngine kept as the best; the last one when no validation found a single object."""
    return Path(runner.message_hub.runtime_info.get("best_ckpt", last))


def _tidy(work_dir: Path, keep: int) -> None:
    """Leaves as many checkpoints as were asked for, and none that was only there to go on from."""
    epochs = sorted(work_dir.glob("epoch_*.pth"), key=_epoch)
    for path in (*epochs[:-keep], work_dir / INTERRUPTED, work_dir / BROUGHT):
        path.unlink(missing_ok=True)

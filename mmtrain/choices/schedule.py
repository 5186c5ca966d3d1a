"""Learning rate, its falls, and what happens in which epoch."""

from __future__ import annotations

from mmtrain.choices.decided import Decided, asked_or
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError

WEIGHT_DECAY = {"SGD": 1e-4, "Adam": 0.0, "AdamW": 0.05}
"""Usual values: what is right for AdamW's decoupled decay is far too strong for the L2 of the other two."""
FALLS = ("step", "multistep")
OF_SCHEDULERS: dict[str, tuple[str, ...]] = {
    "lr_milestones": FALLS,
    "lr_gamma": FALLS,
    "lr_power": ("poly",),
    "lr_final_ratio": ("cosine", "linear", "poly", "onecycle"),
}
"""Which numbers belong to which schedules."""
ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25 / 1e4
"""PyTorch's OneCycleLR (arXiv:1708.07120): share of the training, first and last learning rate / highest."""


def learning_rate(config: TrainConfig, recipe: Recipe, batch: int) -> Decided[float]:
    """Linear scaling (Goyal et al. 2017, arXiv:1706.02677) from the recipe's batch to the images of one step."""
    if config.lr0 is not None:
        return Decided(value=config.lr0, origin="request", reason="asked for")
    defaults = recipe.defaults
    if config.optimizer is not None and config.optimizer != defaults.optimizer:
        base = {"SGD": 0.01, "Adam": 2.5e-4, "AdamW": 2.5e-4}[config.optimizer]
        reason = f"usual for {config.optimizer} at batch {defaults.batch}"
    else:
        base = defaults.lr0 if config.pretrained else defaults.lr0_from_scratch
        reason = f"recipe's {base:g} at batch {defaults.batch}" + ("" if config.pretrained else ", from scratch")
    return Decided(value=base * batch / defaults.batch, origin="recipe", reason=f"{reason}, scaled to batch {batch}")


def weight_decay(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """Upstream's for upstream's optimizer, else the usual one."""
    if config.optimizer is None or config.optimizer == recipe.defaults.optimizer:
        return asked_or(config.weight_decay, recipe.defaults.weight_decay, "upstream's choice")
    return asked_or(config.weight_decay, WEIGHT_DECAY[config.optimizer], f"usual for {config.optimizer}")


def milestones(config: TrainConfig, recipe: Recipe, epochs: int) -> Decided[tuple[int, ...]]:
    """Epochs after which the learning rate falls; one of `step` comes again as often as the training is long.

    Raises:
        ConfigError: falls after the end, or out of order.
    """
    asked, scheduler = config.lr_milestones, config.lr_scheduler or recipe.defaults.lr_scheduler
    if scheduler not in FALLS:
        return Decided(value=(), origin="recipe", reason=f"{scheduler} has none")
    if not asked:
        return Decided(
            value=(), origin="recipe", reason="after 8/12 and 11/12 of the training: MMDetection's 1x schedule"
        )
    if list(asked) != sorted(set(asked)) or asked[-1] >= epochs:
        raise ConfigError(
            f"lr_milestones={list(asked)} must grow and end before the last of {epochs} epochs", hint="correct them"
        )
    if scheduler == "step" and len(asked) == 1:
        again = tuple(range(asked[0], epochs, asked[0]))
        return Decided(value=again, origin="request", reason=f"asked for: every {asked[0]} epochs")
    return Decided(value=asked, origin="request", reason="asked for")


def warmup(config: TrainConfig, recipe: Recipe, iters_per_epoch: int, epochs: int) -> Decided[int]:
    """Iterations; always fewer than the training has."""
    if config.warmup_iters is not None:
        iters = min(config.warmup_iters, iters_per_epoch * epochs - 1)
        return Decided(value=iters, origin="request", reason="asked for; always shorter than the training")
    if config.lr_scheduler == "onecycle" and config.warmup_epochs is None:
        rise = round(ONE_CYCLE_RISE * iters_per_epoch * epochs)
        return Decided(value=rise, origin="request", reason=f"onecycle rises for {ONE_CYCLE_RISE:.0%} of the training")
    wanted = asked_or(config.warmup_epochs, recipe.defaults.warmup_epochs, "recipe's warm-up epochs, at most a tenth")
    iters = round(wanted.value * iters_per_epoch)
    if wanted.origin == "recipe":
        iters = min(iters, max(1, iters_per_epoch * epochs // 10))
    return Decided(value=min(iters, iters_per_epoch * epochs - 1), origin=wanted.origin, reason=wanted.reason)


def warmup_ratio(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """First learning rate / lr0."""
    if config.lr_scheduler == "onecycle" and config.warmup_ratio is None:
        return Decided(value=ONE_CYCLE_START, origin="request", reason="of onecycle, as PyTorch has it")
    return asked_or(config.warmup_ratio, recipe.defaults.warmup_ratio, "upstream's choice")


def final_ratio(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """Last learning rate / lr0."""
    if config.lr_scheduler == "onecycle" and config.lr_final_ratio is None:
        return Decided(value=ONE_CYCLE_END, origin="request", reason="of onecycle, as PyTorch has it")
    return asked_or(config.lr_final_ratio, recipe.defaults.lr_final_ratio, "upstream's choice")


def val_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    """The first one; never longer than the training."""
    asked = config.val_interval[0][1] if isinstance(config.val_interval, tuple) else config.val_interval
    wanted = asked_or(asked, max(1, epochs // 10), "about ten validations; the last epoch is always one")
    return wanted if wanted.value <= epochs else Decided(value=epochs, origin="request", reason="once, at the end")


def val_intervals(config: TrainConfig) -> Decided[tuple[tuple[int, int], ...]]:
    """From which epoch (0-based) on which interval.

    Raises:
        ConfigError: not from 0 on, or out of order.
    """
    asked = config.val_interval if isinstance(config.val_interval, tuple) else None
    if asked is not None:
        starts = [start for start, _ in asked]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ConfigError(
                f"val_interval={[list(pair) for pair in asked]}: the first must begin at epoch 0, the others later",
                hint="write [[0, 5], [40, 1]] for every fifth epoch, from 40 on every one",
            )
    return asked_or(asked, (), "one interval for the whole training")


def checkpoint_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    """Epochs between checkpoints."""
    return asked_or(config.checkpoint_interval, max(1, epochs // 20), "about twenty; the last epoch is always one")


def schedule_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """Numbers of a schedule or an optimizer that is not the one in use: they would have no effect."""
    scheduler = config.lr_scheduler or recipe.defaults.lr_scheduler
    optimizer = config.optimizer or recipe.defaults.optimizer
    problems = [
        f"{name}: has no effect with lr_scheduler={scheduler!r}, only with {', '.join(schedulers)}"
        for name, schedulers in OF_SCHEDULERS.items()
        if getattr(config, name) is not None and scheduler not in schedulers
    ]
    if config.warmup_iters is not None and config.warmup_epochs is not None:
        problems.append("warmup_iters and warmup_epochs say the same: give one")
    if config.momentum is not None and optimizer != "SGD":
        problems.append(f"momentum: {optimizer} has none, only SGD")
    return problems

"""What can be said against a request before its data are there."""

from __future__ import annotations

from collections.abc import Callable

from converters.schema import check_keypoints
from converters.split import check_split_config
from mmtrain import choices
from mmtrain.augmentation import augmentation_problems
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.tasks import Task


def check_request(config: TrainConfig, recipe: Recipe, machine: Machine, *, from_checkpoint: bool = False) -> None:
    """Says all of it at once.

    Args:
        from_checkpoint: it starts from CHECKPOINT_PATH, whatever CONFIG says of the published weights.

    Raises:
        ConfigError: values that cannot be had, alone or together.
        ResourceError: a device that this machine lacks.
    """
    problems, lacking = problems_of(config, recipe, machine, from_checkpoint=from_checkpoint)
    if problems:
        raise ConfigError.of_problems("the request cannot be honoured", problems, hint="docs/environment.md")
    if lacking is not None:
        raise lacking


def problems_of(
    config: TrainConfig, recipe: Recipe, machine: Machine, *, from_checkpoint: bool
) -> tuple[list[str], ResourceError | None]:
    """What `check_request` would say."""
    problems = [
        *choices.size_problems(config, recipe),
        *choices.task_problems(config, recipe),
        *augmentation_problems(config, recipe),
    ]
    lacking: ResourceError | None = None
    checks: tuple[Callable[[], object], ...] = (
        lambda: choices.pretrained(config, recipe, from_checkpoint=from_checkpoint),
        lambda: choices.primary_metric(config, recipe),
        lambda: choices.milestones(config, recipe, config.epochs or recipe.defaults.epochs),
        lambda: choices.val_intervals(config),
        lambda: check_split_config(config.split_config or {}),
        lambda: _check_points(config, recipe),
        lambda: _check_batch(config, recipe, machine),
        lambda: choices.amp(config, choices.choose_device(config, machine)[1]),
        lambda: choices.compiled(config, machine),
    )
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(f"{error.message} - {error.hint}")
        except ResourceError as error:
            lacking = error
    return problems, lacking


def _check_points(config: TrainConfig, recipe: Recipe) -> None:
    if config.keypoints is not None:
        check_keypoints(config.keypoints)
        if recipe.task is not Task.POSE:
            raise ConfigError(f"keypoints: {recipe.name} learns none", hint="leave CONFIG.keypoints out")


def _check_batch(config: TrainConfig, recipe: Recipe, machine: Machine) -> None:
    if isinstance(config.batch, int):
        gpus = choices.choose_device(config, machine)[1]
        devices = choices.nodes(machine).value * choices.processes(machine, gpus).value
        choices.check_divides(config.batch, devices)
        choices.check_least_batch(recipe, config.batch, devices)

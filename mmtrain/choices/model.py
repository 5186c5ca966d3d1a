"""What a model starts from, what of it learns, and what it cannot do."""

from __future__ import annotations

import difflib

from mmtrain.checkpoint_file import shown
from mmtrain.choices.decided import Decided, asked_or, stated
from mmtrain.choices.schedule import schedule_problems
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.tasks import Task

NO_WEIGHTS = "none"


def pretrained(config: TrainConfig, recipe: Recipe, *, from_checkpoint: bool = False) -> Decided[bool]:
    """Raises: ConfigError for published weights of a model that has none."""
    if from_checkpoint:
        return Decided(value=False, origin="request", reason="CHECKPOINT_PATH takes their place")
    if recipe.weights is not None:
        return stated(config, "pretrained", "published weights learn faster and end better on small sets")
    if config.pretrained and "pretrained" in config.model_fields_set:
        raise ConfigError(
            f"pretrained=true: upstream publishes no weights of {recipe.name}",
            hint="leave it out to train from scratch, or choose another model",
        )
    return Decided(value=False, origin="recipe", reason="upstream publishes no weights of this model")


def weights(spec: TrainSpec, recipe: Recipe, pretrained: Decided[bool]) -> Decided[str]:
    """Which weights the training starts from, by name."""
    if spec.checkpoint_path:
        return Decided(value=shown(spec.checkpoint_path), origin="request", reason="CHECKPOINT_PATH")
    if pretrained.value and recipe.weights is not None:
        return Decided(value=recipe.weights.file_name, origin=pretrained.origin, reason="upstream's for this model")
    return Decided(value=NO_WEIGHTS, origin=pretrained.origin, reason=f"from scratch: {pretrained.reason}")


def frozen_stages(config: TrainConfig, recipe: Recipe) -> Decided[int]:
    """Nothing random stays frozen."""
    if config.backbone_frozen_stages is None and not config.pretrained:
        return Decided(value=-1, origin="request", reason="from scratch: a random stage must not stay frozen")
    return asked_or(config.backbone_frozen_stages, recipe.defaults.backbone_frozen_stages, "upstream's choice")


def norm_eval(config: TrainConfig, recipe: Recipe) -> Decided[bool]:
    """Statistics are kept only where there are some."""
    if config.norm_eval is None and not config.pretrained:
        return Decided(value=False, origin="request", reason="from scratch: there are no statistics to keep")
    return asked_or(config.norm_eval, recipe.defaults.norm_eval, "upstream's choice")


def task_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """What this model cannot do, by name."""
    problems = schedule_problems(config, recipe) + _freeze_problems(config, recipe)
    if config.balanced_sampling and config.weak_epochs:
        problems.append("weak_epochs: not with balanced_sampling, whose data set cannot change its pipeline")
    if config.class_weights is not None and not (recipe.class_loss_slots or recipe.class_weight_slots):
        problems.append(f"class_weights: the loss of {recipe.name} takes none - try balanced_sampling")
    if config.balanced_sampling and recipe.task not in (Task.DETECTION, Task.INSTANCE):
        problems.append(f"balanced_sampling: not for {recipe.task.value}")
    if recipe.task is Task.SEMANTIC:
        problems += _semantic_problems(config, recipe)
    if config.early_stopping_min_delta and not config.early_stopping:
        problems.append("early_stopping_min_delta has no effect without early_stopping")
    return problems


def _freeze_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """Parts that the model does not have; whether it has what is named within a part, only the built model knows."""
    problems = []
    for asked in config.freeze or ():
        first, whole, _ = asked.rstrip("*").partition(".")
        if not any(part == first if whole else part.startswith(first) for part in recipe.parts):
            close = difflib.get_close_matches(first, recipe.parts, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"freeze: {recipe.name} has no part {first!r}, only {', '.join(recipe.parts)}{meant}")
    return problems


def _semantic_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    problems = []
    if config.class_weights == "balanced":
        problems.append("class_weights=balanced counts objects, and pixels are none - give {class: weight}")
    if not recipe.freezable and (config.norm_eval or config.backbone_frozen_stages not in (None, -1)):
        problems.append(f"backbone_frozen_stages, norm_eval: the backbone of {recipe.name} has neither - try freeze")
    return problems

"""Which model is trained: the one asked for, or, for MODEL_NAME=auto, the one that the data ask for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, overload

from mmtrain.choices import Decided
from mmtrain.datasets.inspect import Findings
from mmtrain.datasets.recommend import recommend_for
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe, load_recipe
from mmtrain.request_check import check_request, problems_of
from mmtrain.start_checkpoint import obtain_checkpoint
from mmtrain.weights import obtain_weights
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.request.reading import UsablePart
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

AUTO = "auto"


class ChosenModel(NamedTuple):
    """A recipe that can serve the request, with its weights at hand."""

    recipe: Recipe
    weights_file: str | None
    decided: Decided[str]


@overload
def chosen_model(spec: TrainSpec, machine: Machine, settings: Settings, folder: Path) -> ChosenModel | None: ...
@overload
def chosen_model(
    spec: TrainSpec, machine: Machine, settings: Settings, folder: Path, findings: Findings
) -> ChosenModel: ...
def chosen_model(
    spec: TrainSpec, machine: Machine, settings: Settings, folder: Path, findings: Findings | None = None
) -> ChosenModel | None:
    """The model, or None while it is for the data to say and they are not there yet.

    Args:
        folder: where a checkpoint to start from is put, if it has to be fetched.

    Raises:
        ConfigError: unknown model, or values that it cannot be trained with, or no model for the data.
        ResourceError, CheckpointError, NetworkError: a device or weights that cannot be had.
    """
    asked = asked_recipe(spec, machine)
    if asked is not None:
        recipe = asked
        decided = Decided[str](value=recipe.name, origin="request", reason="asked for")
    elif findings is None:
        return None
    else:
        name, task, reason = _recommended(findings, spec.task)
        recipe, decided = load_recipe(name, task), Decided[str](value=name, origin="data", reason=reason)
        check_request(spec.config, recipe, machine, from_checkpoint=bool(spec.checkpoint_path))
    weights = _starting_weights(spec, recipe, settings, folder)
    return ChosenModel(recipe, str(weights) if weights else None, decided)


def asked_recipe(spec: TrainSpec, machine: Machine) -> Recipe | None:
    """The model that was asked for; None while it is for the data to say.

    Raises:
        ConfigError: unknown model, or values that it cannot be trained with.
        ResourceError: a device that cannot be had.
    """
    if spec.model_name.lower() == AUTO:
        return None
    recipe = load_recipe(spec.model_name, spec.task)
    check_request(spec.config, recipe, machine, from_checkpoint=bool(spec.checkpoint_path))
    return recipe


def problems_beside_the_form(asked: UsablePart, machine: Machine) -> list[str]:
    """What model and machine say against a request whose form is refused already: only what stands whatever is
    corrected, so nothing of a CONFIG that could not be read.
    """
    if asked.model_name is None or asked.model_name.lower() == AUTO:
        return []
    try:
        recipe = load_recipe(asked.model_name, asked.task)
    except ConfigError as error:
        return [f"{error.message} - {error.hint}"]
    if asked.config is None:
        return []
    found, lacking = problems_of(asked.config, recipe, machine, from_checkpoint=bool(asked.checkpoint_path))
    return found + ([f"{lacking.message} - {lacking.hint}"] if lacking else [])


def fetches_weights(spec: TrainSpec, recipe: Recipe, settings: Settings) -> bool:
    """Whether published weights have to be brought into the cache."""
    if spec.checkpoint_path or not spec.config.pretrained or recipe.weights is None:
        return False
    places = (settings.weights_dir, settings.weights_cache_dir)
    return not any(place and (place / recipe.weights.file_name).is_file() for place in places)


def _starting_weights(spec: TrainSpec, recipe: Recipe, settings: Settings, folder: Path) -> Path | None:
    if spec.checkpoint_path:
        return obtain_checkpoint(spec.checkpoint_path, settings, folder)
    return obtain_weights(recipe, settings) if spec.config.pretrained and recipe.weights else None


def task_wanted(spec: TrainSpec, model: ChosenModel | None) -> Task | None:
    """None: the data decide that too."""
    return model.recipe.task if model else spec.task


def _recommended(findings: Findings, task: Task | None) -> tuple[str, Task, str]:
    found = recommend_for(task, findings.profile) if task else findings.recommendation
    if found is None or found.model is None:
        wanted = "these labels" if found is None else found.task.value
        raise ConfigError(f"MODEL_NAME=auto: there is no model for {wanted} yet", hint="python -m mmtrain.recipes")
    return found.model, found.task, f"{found.task_reason}; {found.model_reason}"

"""What a checkpoint of ours or of upstream's, and whoever names it, say of its model. Nothing in the file is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.keypoints import KeypointSchema, SchemaError, default_schema, parse_schema
from mmtrain import compat
from mmtrain.config.text import read_values
from mmtrain.engine.order import ModelFacts, ModelSource
from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.start import classes_of
from mmtrain.recipes import Recipe, load_recipe
from trainer_sdk.errors import CheckpointError, ConfigError
from trainer_sdk.tasks import Task

COCO_PERSON = ("person",)


@dataclass(frozen=True)
class Said:
    """Together; what they contradict each other in is refused."""

    file: dict[str, Any]
    description: dict[str, Any]
    recipe: Recipe
    names: tuple[str, ...]
    schema: KeypointSchema | None
    config: dict[str, Any]
    """The configuration in the file."""
    size_wh: tuple[int, int]
    trained_wh: tuple[int, int] | None

    @property
    def class_ids(self) -> tuple[int, ...]:
        ids = _meta(self.description, "dataset").get("original_class_ids") or range(len(self.names))
        return tuple(place if number is None else int(number) for place, number in enumerate(ids))


def said_of(source: ModelSource) -> Said:
    """Raises: as `model_of.load_model`."""
    file = load_checkpoint_safely(source.path, source.name)
    description = _description(file)
    recipe = _recipe(description, source.model_name, source.task, source.name)
    names = _class_names(file, recipe, source.class_names, source.name)
    config = read_values(str(description.get("config", "")))
    trained = description.get("input_size_wh")
    trained_wh = (int(trained[0]), int(trained[1])) if trained else None
    return Said(
        file=file,
        description=description,
        recipe=recipe,
        names=names,
        schema=_keypoints(config, description, source.keypoints, recipe),
        config=config,
        size_wh=source.size_wh or trained_wh or recipe.defaults.imgsz,
        trained_wh=trained_wh,
    )


def facts_of(source: ModelSource) -> ModelFacts:
    """What a checkpoint says of itself; no model is built. Raises: as `model_of.load_model`."""
    compat.apply()
    said = said_of(source)
    epoch = said.description.get("epoch")
    return ModelFacts(
        recipe=said.recipe.name,
        task=said.recipe.task,
        class_names=said.names,
        class_ids=said.class_ids,
        keypoint_names=said.schema.names if said.schema else None,
        size_wh=said.size_wh,
        primary_metric=str(said.description.get("primary_metric") or said.recipe.primary_metric),
        epoch=epoch if isinstance(epoch, int) else None,
        trained_on_sha256=_meta(said.description, "dataset").get("annotations_sha256"),
    )


def _meta(holder: Any, key: str) -> dict[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _description(file: dict[str, Any]) -> dict[str, Any]:
    return _meta(_meta(file, "meta"), "trainer")


def _recipe(description: dict[str, Any], model_name: str | None, task: Task | None, shown: str) -> Recipe:
    said = description.get("recipe")
    if not isinstance(said, str):
        if model_name is None:
            raise CheckpointError(
                f"{shown} does not say which model it is of", hint="set MODEL_NAME (`python -m mmtrain.recipes`)"
            )
        return load_recipe(model_name, task)
    recipe = load_recipe(said, Task(description["task"]))
    if model_name is not None and load_recipe(model_name, recipe.task) != recipe:
        raise CheckpointError(
            f"{shown} is a checkpoint of {said}, MODEL_NAME asks for {model_name}", hint="leave MODEL_NAME out"
        )
    if task not in (None, recipe.task):
        assert task is not None
        hint = "leave TASK_TYPE out"
        raise ConfigError(f"{shown} does {recipe.task.value}, TASK_TYPE asks for {task.value}", hint=hint)
    return recipe


def _class_names(file: dict[str, Any], recipe: Recipe, asked: Sequence[str] | None, shown: str) -> tuple[str, ...]:
    said = classes_of(file)
    if said is not None and asked is not None and len(said) != len(asked):
        raise CheckpointError(
            f"{shown} has {len(said)} classes, class_names has {len(asked)}", hint="leave class_names out"
        )
    names = tuple(asked) if asked is not None else said
    if names is None and recipe.task is Task.POSE:
        return COCO_PERSON
    if names is None:
        raise CheckpointError(f"{shown} does not name its classes", hint="set CONFIG class_names, in the model's order")
    return names


def _keypoints(
    config: dict[str, Any], description: dict[str, Any], asked: dict[str, Any] | None, recipe: Recipe
) -> KeypointSchema | None:
    if recipe.task is not Task.POSE:
        return None
    if asked is not None:
        try:
            return parse_schema(asked)
        except SchemaError as error:
            raise ConfigError(f"CONFIG keypoints: {error}", hint="{names, skeleton, flip_pairs}") from error
    names = description.get("keypoints")
    if not names:
        return default_schema(17)
    layout = _meta(_meta(_meta(config, "val_dataloader"), "dataset"), "metainfo")
    points = list(_meta(layout, "keypoint_info").values())
    number = {name: place for place, name in enumerate(names, start=1)}
    swaps = [(number[p["name"]], number[p["swap"]]) for p in points if p.get("swap") in number]
    links = [link["link"] for link in _meta(layout, "skeleton_info").values()]
    return KeypointSchema(
        tuple(names),
        tuple((number[start], number[end]) for start, end in links),
        tuple(pair for pair in swaps if pair[0] < pair[1]),
    )

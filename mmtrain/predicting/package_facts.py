"""What an exported package says of itself, read without its runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from mmtrain.engine.order import ModelFacts, ModelSource
from mmtrain.recipes import load_recipe
from trainer_sdk.errors import CheckpointError, ConfigError
from trainer_sdk.tasks import TASK_ALIASES

METADATA = "metadata.json"


def package_facts(source: ModelSource) -> ModelFacts:
    """The facts of the package in the folder `source.path`.

    Raises:
        CheckpointError: no package of this trainer, or another model's than asked for.
        ConfigError: another task, or class names beside its own.
    """
    try:
        facts = _facts(orjson.loads((Path(source.path) / METADATA).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source.name} is no exported package of this trainer: {type(error).__name__}: {error}",
            hint=f"name a zip that export.py has written, with its {METADATA}",
        ) from error
    if source.class_names is not None or source.keypoints is not None:
        raise ConfigError("class_names and keypoints: an exported package names its own", hint="leave them out")
    if source.task not in (None, facts.task):
        raise ConfigError(f"{source.name} does {facts.task.value}, TASK_TYPE asks for another", hint="leave it out")
    if source.model_name is not None and load_recipe(source.model_name, facts.task).name != facts.recipe:
        hint = "leave MODEL_NAME out"
        raise CheckpointError(f"{source.name} is of {facts.recipe}, MODEL_NAME asks for {source.model_name}", hint=hint)
    return facts


def _facts(metadata: dict[str, Any]) -> ModelFacts:
    task = TASK_ALIASES[metadata["task_type"]]
    width, height = metadata["preprocessing"]["size_wh"]
    names = metadata["class_names"]
    given = metadata.get("class_ids") or range(len(names))
    return ModelFacts(
        recipe=metadata["model_name"],
        task=task,
        class_names=tuple(names),
        class_ids=tuple(place if number is None else number for place, number in enumerate(given)),
        keypoint_names=tuple(metadata.get("keypoint_names") or ()) or None,
        size_wh=(width, height),
        primary_metric=load_recipe(metadata["model_name"], task).primary_metric,
        trained_on_sha256=(metadata.get("export_info", {}).get("trained_on") or {}).get("annotations_sha256"),
    )

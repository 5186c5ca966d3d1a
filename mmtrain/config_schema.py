"""The form in which the platform's UI asks for CONFIG (contract 3.6), made from the model that reads CONFIG.

Kept in ``schemas/<framework>.json``, as the platform's bucket ``config-schemas`` has it. The fields have the names of
CONFIG's keys. One that no recipe of a framework can honour is left out; a default of null means that recipe, data and
machine decide.
"""

from __future__ import annotations

from typing import Any

from mmtrain.augmentation import augmentation_problems
from mmtrain.capabilities import ALL, FRAMEWORKS, METRICS, recipes_of
from mmtrain.choices import STRONG, task_problems
from mmtrain.recipes import Recipe
from mmtrain.versions import trainer_version
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.tasks import Task

GROUPS: dict[str, tuple[str, ...]] = {
    "Training": ("epochs", "batch", "imgsz", "device", "workers", "pretrained", "seed", "deterministic"),
    "Optimizer": ("optimizer", "lr0", "weight_decay", "momentum", "grad_clip", "accumulate"),
    "Learning rate": (
        "lr_scheduler", "lr_milestones", "lr_gamma", "lr_final_ratio", "lr_power", "warmup_epochs", "warmup_iters",
        "warmup_ratio",
    ),
    "Augmentation": (
        "fliplr", "flipud", "mosaic", "mixup", "copy_paste", "weak_epochs", "random_crop", "scale", "translate",
        "degrees", "hsv_h", "hsv_s", "hsv_v", "albumentations",
    ),
    "Classes": ("class_weights", "balanced_sampling", "keypoints"),
    "Validation and checkpoints": (
        "val_interval", "primary_metric", "primary_metric_mode", "early_stopping", "early_stopping_min_delta",
        "checkpoint_interval", "checkpoint_keep_max",
    ),
    "Model": ("backbone_frozen_stages", "norm_eval", "freeze", "ema", "sync_bn"),
    "Speed": ("amp", "compile", "channels_last"),
    "Data": ("split_config", "data_access", "stream_cache_gb", "inspect_images"),
}  # fmt: skip
BASIC = ("epochs", "batch", "imgsz", "device", "workers", "optimizer", "lr0", "seed", "pretrained")
PRIMARY = ("epochs", "batch", "imgsz", "lr0")
"""What a UI shows first of all."""
STEPS = {
    "lr0": 1e-4, "weight_decay": 1e-4, "warmup_ratio": 1e-3, "early_stopping_min_delta": 1e-3, "momentum": 0.01,
    "lr_final_ratio": 0.01, "hsv_h": 0.005, "lr_power": 0.1, "grad_clip": 0.1, "warmup_epochs": 0.5, "degrees": 1.0,
    "stream_cache_gb": 1.0, "imgsz": 32,
}  # fmt: skip
STEP = 0.05
OFF = "off"
PRESETS: dict[str, dict[str, Any]] = {
    "first look": {"epochs": 5, "val_interval": 1},
    "until it no longer improves": {"epochs": 300, "val_interval": 5, "early_stopping": 6},
    "few images": {"epochs": 100, "ema": True, "val_interval": 5},
}
PROBES: dict[str, Any] = {
    **dict.fromkeys(GROUPS["Augmentation"], 0.5),
    "copy_paste": 1.0,
    "albumentations": ({"type": "Blur"},),
    "class_weights": {"a": 2.0},
    "balanced_sampling": True,
}
"""A value for each field that is not for every model."""


def config_schema(framework: str = ALL) -> dict[str, Any]:
    """The document."""
    recipes = recipes_of(framework)
    properties = TrainConfig.model_json_schema()["properties"]
    metrics = dict.fromkeys(name for task in METRICS for name in METRICS[task] if task in {one.task for one in recipes})
    properties["primary_metric"] |= {"anyOf": [{"type": "string", "enum": [*metrics]}]}
    return {
        "framework": framework,
        "description": f"Training with {FRAMEWORKS[framework][0]}: what is left empty, model, data and machine decide.",
        "version": trainer_version(),
        "fields": [
            _field(name, group, properties[name])
            for group, names in GROUPS.items()
            for name in names
            if any(_is_for(name, recipe) for recipe in recipes)
        ],
        "presets": PRESETS,
    }


def _is_for(name: str, recipe: Recipe) -> bool:
    if name == "keypoints":
        return recipe.task is Task.POSE
    if name in ("backbone_frozen_stages", "norm_eval"):
        return recipe.freezable
    if name == "weak_epochs":
        return any(_is_for(strong, recipe) for strong in STRONG)
    if name not in PROBES:
        return True
    config = TrainConfig.model_validate({name: PROBES[name]})
    problems = task_problems(config, recipe) + augmentation_problems(config, recipe)
    return not any(problem.startswith(name) for problem in problems)


def _field(name: str, group: str, schema: dict[str, Any]) -> dict[str, Any]:
    kind, found = _kind(name, [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"])
    options = [OFF, *found["enum"]] if name == "amp" else found.get("enum")
    default = TrainConfig.model_fields[name].default
    step = STEPS.get(name, {"int": 1, "float": STEP}.get(kind))
    low, high = found.get("minimum"), found.get("maximum")
    if step is not None and low is None and "exclusiveMinimum" in found:
        low = found["exclusiveMinimum"] + step / 100
    if step is not None and high is None and "exclusiveMaximum" in found:
        high = found["exclusiveMaximum"] - step / 100
    return {
        "name": name,
        "type": kind,
        "default": OFF if name == "amp" else default,
        "min": low,
        "max": high,
        "step": step,
        "options": options,
        "description": schema["description"] + (" (JSON)" if kind == "string" and "type" not in found else ""),
        "group": group,
        "required": False,
        "advanced": name not in BASIC,
        "primary": name in PRIMARY,
    }


def _kind(name: str, options: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The UI's type for what may stand there, and the part of pydantic's schema that limits it."""
    by_type = {option["type"]: option for option in options}
    words = by_type.get("string", {})
    if name == "imgsz":
        return "int", by_type["array"]["prefixItems"][0]
    if "boolean" in by_type and "enum" not in words:
        return "bool", {}
    if "enum" in words:
        return "select", words
    for kind, name_of_json in (("int", "integer"), ("float", "number")):
        if name_of_json in by_type:
            return kind, by_type[name_of_json]
    return "string", words if "array" not in by_type and "object" not in by_type else {}

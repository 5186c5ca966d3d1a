"""Every number of a training, decided once: value, who decided, and why. (spec, recipe, data, machine) -> plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from converters.split import check_split_config
from mmtrain import choices
from mmtrain.choices import Decided
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.jobspec import TrainConfig, TrainSpec
from trainer_sdk.tasks import Task


class TrainPlan(BaseModel):
    """``plan.json``."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    task: Task
    class_names: tuple[str, ...]
    pretrained: Decided[bool]
    weights_file: str | None
    device: Decided[str]
    gpus: tuple[int, ...]
    epochs: Decided[int]
    batch: Decided[int]
    imgsz: Decided[tuple[int, int]]
    optimizer: Decided[str]
    lr0: Decided[float]
    weight_decay: Decided[float]
    momentum: Decided[float]
    lr_scheduler: Decided[str]
    lr_final_ratio: Decided[float]
    warmup_iters: Decided[int]
    warmup_ratio: Decided[float]
    iters_per_epoch: Decided[int]
    mosaic: Decided[float]
    mixup: Decided[float]
    fliplr: Decided[float]
    ema: Decided[bool]
    amp: Decided[bool]
    sync_bn: Decided[bool]
    backbone_frozen_stages: Decided[int]
    norm_eval: Decided[bool]
    workers: Decided[int]
    threads: Decided[int]
    val_interval: Decided[int]
    checkpoint_interval: Decided[int]
    checkpoint_keep_max: Decided[int]
    primary_metric: Decided[str]
    primary_metric_mode: Literal["max"] = "max"
    seed: Decided[int]

    def decisions(self) -> list[dict[str, Any]]:
        """One row per decided value, for the report."""
        fields = ((name, getattr(self, name)) for name in type(self).model_fields)
        return [{"name": name, **field.model_dump(mode="json")} for name, field in fields if isinstance(field, Decided)]


def make_plan(
    spec: TrainSpec,
    recipe: Recipe,
    machine: Machine,
    *,
    class_names: tuple[str, ...],
    train_images: int,
    weights_file: str | None,
) -> TrainPlan:
    """Decides every number.

    Raises:
        ConfigError: values that cannot be had together.
        ResourceError: a device that this machine lacks.
    """
    config, defaults = spec.config, recipe.defaults
    device, gpus = choices.choose_device(config, machine)
    devices = max(1, len(gpus))
    batch = choices.batch(config, recipe, train_images, devices)
    iters = math.ceil(train_images / batch.value)
    epochs = choices.asked_or(config.epochs, defaults.epochs, "recipe's fine-tuning length")
    threads = max(1, machine.cores // devices)
    return TrainPlan(
        recipe=recipe.name,
        task=recipe.task,
        class_names=class_names,
        pretrained=choices.stated(config, "pretrained", "published weights learn faster and end better on small sets"),
        weights_file=weights_file,
        device=device,
        gpus=gpus,
        epochs=epochs,
        batch=batch,
        imgsz=choices.asked_or(config.imgsz, defaults.imgsz, "what the published weights were trained at"),
        optimizer=choices.asked_or(config.optimizer, defaults.optimizer, "upstream's choice for this model"),
        lr0=choices.learning_rate(config, recipe, batch.value),
        weight_decay=choices.weight_decay(config, recipe),
        momentum=choices.asked_or(config.momentum, defaults.momentum, "upstream's choice; SGD only"),
        lr_scheduler=choices.asked_or(config.lr_scheduler, defaults.lr_scheduler, "upstream's choice"),
        lr_final_ratio=Decided(value=defaults.lr_final_ratio, origin="recipe", reason="last learning rate / lr0"),
        warmup_iters=choices.warmup(config, recipe, iters, epochs.value),
        warmup_ratio=choices.asked_or(config.warmup_ratio, defaults.warmup_ratio, "upstream's choice"),
        iters_per_epoch=Decided(
            value=iters, origin="data", reason=f"{train_images} training images in batches of {batch.value}"
        ),
        mosaic=choices.asked_or(config.mosaic, defaults.mosaic, "recipe's augmentation"),
        mixup=choices.asked_or(config.mixup, defaults.mixup, "recipe's augmentation"),
        fliplr=choices.asked_or(config.fliplr, defaults.fliplr, "recipe's augmentation"),
        ema=choices.asked_or(config.ema, defaults.ema, "upstream's choice"),
        amp=choices.amp(config, gpus),
        sync_bn=choices.sync_bn(config, devices),
        backbone_frozen_stages=choices.frozen_stages(config, recipe),
        norm_eval=choices.norm_eval(config, recipe),
        workers=choices.workers(config, machine, devices),
        threads=Decided(
            value=threads, origin="machine", reason=f"{machine.cores} usable cores over {devices} training process(es)"
        ),
        val_interval=choices.val_interval(config, epochs.value),
        checkpoint_interval=choices.checkpoint_interval(config, epochs.value),
        checkpoint_keep_max=choices.asked_or(config.checkpoint_keep_max, 1, "the last one; the best is kept besides"),
        primary_metric=choices.primary_metric(config, recipe),
        seed=choices.stated(config, "seed", "the same one for everybody"),
    )


def check_request(config: TrainConfig, recipe: Recipe, machine: Machine) -> None:
    """What can be said against a request before its data are there, all of it.

    Raises:
        ConfigError: values that cannot be had, alone or together.
        ResourceError: a device that this machine lacks.
    """
    problems = choices.size_problems(config, recipe)
    lacking: ResourceError | None = None
    checks: tuple[Callable[[], object], ...] = (
        lambda: choices.primary_metric(config, recipe),
        lambda: check_split_config(config.split_config or {}),
        lambda: choices.amp(config, choices.choose_device(config, machine)[1]),
    )
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(f"{error.message} - {error.hint}")
        except ResourceError as error:
            lacking = error
    if problems:
        raise ConfigError.of_problems("the request cannot be honoured", problems, hint="docs/environment.md")
    if lacking is not None:
        raise lacking

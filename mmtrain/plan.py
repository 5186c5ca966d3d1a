"""Every number of a training, decided once: value, who decided, and why. (spec, recipe, data, machine) -> plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from converters.keypoints import KeypointSchema
from mmtrain import choices
from mmtrain.choices import Decided
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.tasks import Task


class KeypointLayout(BaseModel):
    """The points of a pose, as the converters resolved them; pairs are 0-based indices into `names`."""

    model_config = ConfigDict(frozen=True)

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, schema: KeypointSchema) -> KeypointLayout:
        """From the converters' form, whose pairs count from 1."""
        skeleton, flip_pairs = (
            tuple((first - 1, second - 1) for first, second in pairs) for pairs in (schema.skeleton, schema.flip_pairs)
        )
        return cls(names=schema.names, skeleton=skeleton, flip_pairs=flip_pairs)


class TrainPlan(BaseModel):
    """``plan.json``."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    model: Decided[str]
    task: Task
    class_names: tuple[str, ...]
    keypoints: KeypointLayout | None = None
    pretrained: Decided[bool]
    """Whether it starts from upstream's published weights."""
    weights: Decided[str]
    """What it starts from: the name of the published file, CHECKPOINT_PATH, or "none"."""
    weights_file: str | None
    """Where that is on this machine."""
    device: Decided[str]
    gpus: tuple[int, ...]
    """Of each node."""
    nodes: Decided[int]
    processes: Decided[int]
    """That train, on each node."""
    epochs: Decided[int]
    batch: Decided[int]
    imgsz: Decided[tuple[int, int]]
    optimizer: Decided[str]
    lr0: Decided[float]
    weight_decay: Decided[float]
    momentum: Decided[float]
    lr_scheduler: Decided[str]
    lr_final_ratio: Decided[float]
    lr_milestones: Decided[tuple[int, ...]]
    lr_gamma: Decided[float]
    lr_power: Decided[float]
    warmup_iters: Decided[int]
    warmup_ratio: Decided[float]
    iters_per_epoch: Decided[int]
    drop_last: Decided[bool]
    grad_clip: Decided[float]
    accumulate: Decided[int]
    mosaic: Decided[float]
    mixup: Decided[float]
    hsv_h: Decided[float]
    hsv_s: Decided[float]
    hsv_v: Decided[float]
    degrees: Decided[float]
    translate: Decided[float]
    scale: Decided[float]
    fliplr: Decided[float]
    flipud: Decided[float]
    random_crop: Decided[float]
    copy_paste: Decided[float]
    albumentations: Decided[tuple[dict[str, Any], ...]]
    weak_epochs: Decided[int]
    class_weights: Decided[tuple[float, ...] | None]
    """One per class, in the order of `class_names`."""
    balanced_sampling: Decided[float]
    """Images with a class that fewer than this share of the images have are shown more often; 0: all alike."""
    ema: Decided[bool]
    amp: Decided[Literal["off", "fp16", "bf16"]]
    compile: Decided[bool]
    channels_last: Decided[bool]
    deterministic: Decided[bool]
    sync_bn: Decided[bool]
    freeze: Decided[tuple[str, ...]]
    backbone_frozen_stages: Decided[int]
    norm_eval: Decided[bool]
    workers: Decided[int]
    threads: Decided[int]
    val_interval: Decided[int]
    val_intervals: Decided[tuple[tuple[int, int], ...]]
    """From which epoch (0-based) on which interval; MMEngine's `dynamic_intervals`."""
    early_stopping: Decided[int]
    """Validations without improvement; 0: trains to the end."""
    early_stopping_min_delta: Decided[float]
    checkpoint_interval: Decided[int]
    checkpoint_keep_max: Decided[int]
    primary_metric: Decided[str]
    primary_metric_mode: Literal["max"] = "max"
    seed: Decided[int]

    @property
    def from_scratch(self) -> bool:
        """Starts from no weights, neither published ones nor a checkpoint's."""
        return self.weights.value == choices.NO_WEIGHTS

    @property
    def devices(self) -> int:
        """Processes that train, on all nodes; each has this share of the batch."""
        return self.nodes.value * self.processes.value

    def remarks(self) -> list[str]:
        """What was asked for, is done, and may disappoint."""
        found = []
        if self.from_scratch and (self.freeze.value or self.backbone_frozen_stages.value >= 0):
            parts = ", ".join(self.freeze.value) or "stages of the backbone"
            found.append(f"frozen, and random: the training starts from no weights, and {parts} will learn nothing")
        return found

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
    profile: DatasetProfile,
    weights_file: str | None,
    model: Decided[str] | None = None,
    keypoints: KeypointSchema | None = None,
    shown_images: Callable[[float], int] | None = None,
) -> TrainPlan:
    """Decides every number.

    Args:
        profile: what the data hold.
        shown_images: how many an epoch of balanced sampling shows, by its threshold.
        keypoints: of a pose data set.
        model: who chose the recipe, and why; by default the request.

    Raises:
        ConfigError: values that cannot be had together.
        ResourceError: a device that this machine lacks.
    """
    if recipe.task is Task.POSE:
        _check_pose(recipe, class_names, keypoints)
    pretrained = choices.pretrained(spec.config, recipe, from_checkpoint=bool(spec.checkpoint_path))
    weights = choices.weights(spec, recipe, pretrained)
    # Whether it starts from trained weights, whosever: learning rate and frozen stages depend on it.
    config = spec.config.model_copy(update={"pretrained": weights.value != choices.NO_WEIGHTS})
    defaults = recipe.defaults
    device, gpus = choices.choose_device(config, machine)
    nodes, processes = choices.nodes(machine), choices.processes(machine, gpus)
    devices = nodes.value * processes.value
    samples, kind = choices.training_samples(recipe, profile)
    batch = choices.batch(config, recipe, samples, devices)
    balanced = choices.balanced_sampling(config)
    shown = shown_images(balanced.value) if balanced.value and shown_images else samples
    again = f": {samples} training images, those with rare classes again" if shown > samples else ""
    drop_last = choices.drop_last(recipe, shown, batch.value, devices)
    # Every device is shown as many images as the others: of what does not divide, a few a second time.
    steps = math.ceil(shown / devices) / (batch.value // devices)
    iters = math.floor(steps) if drop_last.value else math.ceil(steps)
    epochs = choices.asked_or(config.epochs, defaults.epochs, "recipe's fine-tuning length")
    threads = max(1, machine.cores // processes.value)
    imgsz = choices.image_size(config, recipe, profile)
    loader_bytes = choices.shm_of_a_loader(batch.value // devices, imgsz.value, recipe.task)
    augmentations: dict[str, Any] = {name: choices.augmentation(config, recipe, name) for name in choices.AUGMENTATIONS}
    return TrainPlan(
        recipe=recipe.name,
        model=model or Decided(value=recipe.name, origin="request", reason="asked for"),
        task=recipe.task,
        class_names=class_names,
        keypoints=KeypointLayout.of(keypoints) if keypoints else None,
        pretrained=pretrained,
        weights=weights,
        weights_file=weights_file,
        device=device,
        gpus=gpus,
        nodes=nodes,
        processes=processes,
        epochs=epochs,
        batch=batch,
        imgsz=imgsz,
        optimizer=choices.asked_or(config.optimizer, defaults.optimizer, "upstream's choice for this model"),
        lr0=choices.learning_rate(config, recipe, batch.value * (config.accumulate or 1)),
        weight_decay=choices.weight_decay(config, recipe),
        momentum=choices.asked_or(config.momentum, defaults.momentum, "upstream's choice; SGD only"),
        lr_scheduler=choices.asked_or(config.lr_scheduler, defaults.lr_scheduler, "upstream's choice"),
        lr_final_ratio=choices.final_ratio(config, recipe),
        lr_milestones=choices.milestones(config, recipe, epochs.value),
        lr_gamma=choices.asked_or(config.lr_gamma, 0.1, "the usual factor of a fall"),
        lr_power=choices.asked_or(config.lr_power, defaults.lr_power, "upstream's choice"),
        warmup_iters=choices.warmup(config, recipe, iters, epochs.value),
        warmup_ratio=choices.warmup_ratio(config, recipe),
        iters_per_epoch=Decided(
            value=iters, origin="data", reason=f"{shown} {kind} in batches of {batch.value}{again}"
        ),
        drop_last=drop_last,
        grad_clip=choices.asked_or(config.grad_clip, defaults.grad_clip, "upstream's choice"),
        accumulate=choices.asked_or(config.accumulate, 1, "every batch is a step"),
        **augmentations,
        albumentations=choices.asked_or(config.albumentations, (), "none unless asked for"),
        weak_epochs=choices.weak_epochs(config, recipe, epochs.value),
        class_weights=choices.class_weights(config, class_names, profile),
        balanced_sampling=balanced,
        ema=choices.asked_or(config.ema, defaults.ema, "upstream's choice"),
        amp=choices.amp(config, gpus),
        compile=choices.compiled(config, machine),
        channels_last=choices.stated(config, "channels_last", "off unless asked for"),
        deterministic=choices.stated(config, "deterministic", "off unless asked for"),
        freeze=choices.asked_or(config.freeze, (), "nothing beyond the frozen stages"),
        sync_bn=choices.sync_bn(config, devices, gpus),
        backbone_frozen_stages=choices.frozen_stages(config, recipe),
        norm_eval=choices.norm_eval(config, recipe),
        workers=choices.workers(config, machine, processes.value, loader_bytes),
        threads=Decided(
            value=threads,
            origin="machine",
            reason=f"{machine.cores} usable cores over {processes.value} training process(es)",
        ),
        val_interval=choices.val_interval(config, epochs.value),
        val_intervals=choices.val_intervals(config),
        early_stopping=choices.asked_or(config.early_stopping, 0, "trains to the end unless asked for"),
        early_stopping_min_delta=choices.asked_or(config.early_stopping_min_delta, 0.0, "any improvement counts"),
        checkpoint_interval=choices.checkpoint_interval(config, epochs.value),
        checkpoint_keep_max=choices.asked_or(config.checkpoint_keep_max, 1, "the last one; the best is kept besides"),
        primary_metric=choices.primary_metric(config, recipe),
        seed=choices.stated(config, "seed", "the same one for everybody"),
    )


def _check_pose(recipe: Recipe, class_names: tuple[str, ...], keypoints: KeypointSchema | None) -> None:
    if keypoints is None:
        raise ConfigError(f"{recipe.name} learns keypoints, and the data set has none", hint="choose another task")
    if recipe.one_stage and len(class_names) > 1:
        raise ConfigError(
            f"{recipe.name} finds the poses of one class, the data set has {len(class_names)}",
            hint="choose a top-down model, such as rtmpose-t, or leave one class in the data set",
        )

"""Every number of a training, decided once: value, who decided, and why. (spec, recipe, data, machine) -> plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from converters.split import check_split_config
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.errors import ConfigError, JobError, ResourceError
from trainer_sdk.jobspec import TrainConfig, TrainSpec
from trainer_sdk.tasks import Task

Origin = Literal["request", "recipe", "data", "machine"]
Value = TypeVar("Value")

PRIMARY_METRICS = {
    "map50": "{kind}_mAP_50", "map@0.5": "{kind}_mAP_50", "bbox_map_50": "bbox_mAP_50",
    "segm_map_50": "segm_mAP_50",
    "map50-95": "{kind}_mAP", "map@0.5:0.95": "{kind}_mAP", "map": "{kind}_mAP", "bbox_map": "bbox_mAP",
    "segm_map": "segm_mAP", "map75": "{kind}_mAP_75", "bbox_map_75": "bbox_mAP_75", "segm_map_75": "segm_mAP_75",
}  # fmt: skip
"""The platform's and MMDetection's names for one metric -> MMDetection's; kind is the task's own box or mask metric."""
NOT_CHOSEN = {("loss", "min"), ("loss", None)}
"""What the platform sends where it has no default (contract 3.1): nobody chose it, and mm* has no such metric."""

STRIDE = 32
WEIGHT_DECAY = {"SGD": 1e-4, "Adam": 0.0, "AdamW": 0.05}
"""Usual values: what is right for AdamW's decoupled decay is far too strong for the L2 of the other two."""
SHM_PER_WORKER_BYTES = 64 * 2**20


class Decided(BaseModel, Generic[Value]):
    """A value with its origin and reason."""

    model_config = ConfigDict(frozen=True)

    value: Value
    origin: Origin
    reason: str = ""


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
    device, gpus = choose_device(config, machine)
    devices = max(1, len(gpus))
    batch = _batch(config, recipe, train_images, devices)
    iters = math.ceil(train_images / batch.value)
    epochs = _asked(config.epochs, defaults.epochs, "recipe's fine-tuning length")
    threads = max(1, machine.cores // devices)
    return TrainPlan(
        recipe=recipe.name,
        task=recipe.task,
        class_names=class_names,
        pretrained=_stated(config, "pretrained", "published weights learn faster and end better on small sets"),
        weights_file=weights_file,
        device=device,
        gpus=gpus,
        epochs=epochs,
        batch=batch,
        imgsz=_asked(config.imgsz, defaults.imgsz, "what the published weights were trained at"),
        optimizer=_asked(config.optimizer, defaults.optimizer, "upstream's choice for this model"),
        lr0=_learning_rate(config, recipe, batch.value),
        weight_decay=_weight_decay(config, recipe),
        momentum=_asked(config.momentum, defaults.momentum, "upstream's choice; SGD only"),
        lr_scheduler=_asked(config.lr_scheduler, defaults.lr_scheduler, "upstream's choice"),
        lr_final_ratio=Decided(value=defaults.lr_final_ratio, origin="recipe", reason="last learning rate / lr0"),
        warmup_iters=_warmup(config, recipe, iters, epochs.value),
        warmup_ratio=_asked(config.warmup_ratio, defaults.warmup_ratio, "upstream's choice"),
        iters_per_epoch=Decided(
            value=iters, origin="data", reason=f"{train_images} training images in batches of {batch.value}"
        ),
        mosaic=_asked(config.mosaic, defaults.mosaic, "recipe's augmentation"),
        mixup=_asked(config.mixup, defaults.mixup, "recipe's augmentation"),
        fliplr=_asked(config.fliplr, defaults.fliplr, "recipe's augmentation"),
        ema=_asked(config.ema, defaults.ema, "upstream's choice"),
        amp=_amp(config, gpus),
        sync_bn=_sync_bn(config, devices),
        backbone_frozen_stages=_frozen_stages(config, recipe),
        norm_eval=_norm_eval(config, recipe),
        workers=_workers(config, machine, devices),
        threads=Decided(
            value=threads, origin="machine", reason=f"{machine.cores} usable cores over {devices} training process(es)"
        ),
        val_interval=_val_interval(config, epochs.value),
        checkpoint_interval=_checkpoint_interval(config, epochs.value),
        checkpoint_keep_max=_asked(config.checkpoint_keep_max, 1, "the last one; the best is kept besides"),
        primary_metric=_primary_metric(config, recipe),
        seed=_stated(config, "seed", "the same one for everybody"),
    )


def check_request(config: TrainConfig, recipe: Recipe, machine: Machine) -> None:
    """What can be said against a request before its data are there, all of it.

    Raises:
        ConfigError: values that cannot be had, alone or together.
        ResourceError: a device that this machine lacks.
    """
    problems = _size_problems(config, recipe)
    checks: list[Callable[[], object]] = [
        lambda: _primary_metric(config, recipe),
        lambda: check_split_config(config.split_config or {}),
        lambda: gpu_numbers(config.device) if config.device not in (None, "cpu") else (),
    ]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(f"{error.message} - {error.hint}")
    if config.amp and (config.device == "cpu" or not machine.gpus):
        problems.append("amp=true needs a GPU, the device is the CPU")
    if problems:
        raise ConfigError.of_problems("the request cannot be honoured", problems, hint="docs/environment.md")
    choose_device(config, machine)


def _size_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """A letterboxed model sees exactly this size, and its strides go up to 32."""
    width, height = config.imgsz or recipe.defaults.imgsz
    problems = []
    if recipe.letterbox and (width % STRIDE or height % STRIDE or min(width, height) < 2 * STRIDE):
        nearest = [max(2 * STRIDE, round(side / STRIDE) * STRIDE) for side in (width, height)]
        problems.append(
            f"imgsz={[width, height]}: {recipe.name} needs multiples of {STRIDE} from 64 on, such as {nearest}"
        )
    if recipe.task is Task.INSTANCE and config.mosaic and width != height:
        problems.append("mosaic of masks needs a square imgsz (MMDetection's swaps their sides)")
    return problems


def _asked(asked: Value | None, default: Value, reason: str) -> Decided[Value]:
    if asked is not None:
        return Decided(value=asked, origin="request", reason="asked for")
    return Decided(value=default, origin="recipe", reason=reason)


def choose_device(config: TrainConfig, machine: Machine) -> tuple[Decided[str], tuple[int, ...]]:
    """The device asked for, or the best one present. A GPU that is not there is an error, never a silent CPU."""
    present = len(machine.gpus)
    if config.device is None:
        found = f"{present} GPU(s): {machine.gpus[0]}" if present else "no GPU here"
        chosen = "0" if present else "cpu"
        return Decided(value=chosen, origin="machine", reason=found), (0,) if present else ()
    if config.device == "cpu":
        return Decided(value="cpu", origin="request", reason="asked for"), ()
    wanted = gpu_numbers(config.device)
    missing = [str(number) for number in wanted if number >= present]
    if missing:
        raise ResourceError(
            f"device {config.device!r} asks for GPU {', '.join(missing)}, this machine has {present or 'none'}",
            hint="start the container with --gpus all, correct CUDA_VISIBLE_DEVICES, or set device to 'cpu'",
        )
    return Decided(value=config.device, origin="request", reason="asked for"), wanted


def gpu_numbers(device: str) -> tuple[int, ...]:
    """``"0,2-3"`` -> (0, 2, 3).

    Raises:
        ConfigError: a range that runs backwards.
    """
    numbers: list[int] = []
    for part in device.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ConfigError(f"device={device!r}: the range {part} runs backwards", hint=f"write {last}-{first}")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(sorted(set(numbers)))


def _batch(config: TrainConfig, recipe: Recipe, train_images: int, devices: int) -> Decided[int]:
    """The total over all devices, never more than there are images: an epoch needs a step."""
    wanted = _asked(config.batch, recipe.defaults.batch, "recipe's fine-tuning batch")
    if wanted.value % devices:
        raise ConfigError(
            f"batch={wanted.value} does not divide over {devices} GPUs",
            hint=f"batch is the total over all GPUs: use {max(1, wanted.value // devices) * devices}",
        )
    most = max(devices, train_images - train_images % devices)
    if wanted.value <= most:
        return wanted
    return Decided(value=most, origin="data", reason=f"{wanted.value} is more than the {train_images} training images")


def _learning_rate(config: TrainConfig, recipe: Recipe, batch: int) -> Decided[float]:
    """Linear scaling with the batch (Goyal et al. 2017, arXiv:1706.02677) from the recipe's batch."""
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


def _weight_decay(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    if config.optimizer is None or config.optimizer == recipe.defaults.optimizer:
        return _asked(config.weight_decay, recipe.defaults.weight_decay, "upstream's choice")
    return _asked(config.weight_decay, WEIGHT_DECAY[config.optimizer], f"usual for {config.optimizer}")


def _warmup(config: TrainConfig, recipe: Recipe, iters_per_epoch: int, epochs: int) -> Decided[int]:
    wanted = _asked(config.warmup_epochs, recipe.defaults.warmup_epochs, "recipe's warm-up epochs, at most a tenth")
    iters = round(wanted.value * iters_per_epoch)
    if wanted.origin == "recipe":
        iters = min(iters, max(1, iters_per_epoch * epochs // 10))
    return Decided(value=min(iters, iters_per_epoch * epochs - 1), origin=wanted.origin, reason=wanted.reason)


def _stated(config: TrainConfig, name: str, reason: str) -> Decided[Any]:
    """A value whose default stands in the request's own model."""
    if name in config.model_fields_set:
        return Decided(value=getattr(config, name), origin="request", reason="asked for")
    return Decided(value=getattr(config, name), origin="recipe", reason=reason)


def _amp(config: TrainConfig, gpus: tuple[int, ...]) -> Decided[bool]:
    if config.amp and not gpus:
        raise ConfigError("amp=true needs a GPU, the device is the CPU", hint="leave amp out, or choose a GPU")
    return _stated(config, "amp", "off unless asked for")


def _sync_bn(config: TrainConfig, devices: int) -> Decided[bool]:
    if config.sync_bn and devices < 2:
        return Decided(value=False, origin="machine", reason="asked for, but one device has nothing to synchronise")
    return _stated(config, "sync_bn", "off unless asked for")


def _frozen_stages(config: TrainConfig, recipe: Recipe) -> Decided[int]:
    if config.backbone_frozen_stages is None and not config.pretrained:
        return Decided(value=-1, origin="request", reason="from scratch: a random stage must not stay frozen")
    return _asked(config.backbone_frozen_stages, recipe.defaults.backbone_frozen_stages, "upstream's choice")


def _norm_eval(config: TrainConfig, recipe: Recipe) -> Decided[bool]:
    if config.norm_eval is None and not config.pretrained:
        return Decided(value=False, origin="request", reason="from scratch: there are no statistics to keep")
    return _asked(config.norm_eval, recipe.defaults.norm_eval, "upstream's choice")


def _workers(config: TrainConfig, machine: Machine, devices: int) -> Decided[int]:
    if config.workers is not None:
        return Decided(value=config.workers, origin="request", reason="asked for")
    by_cores = min(8, max(1, machine.cores // devices))
    by_memory = machine.shm_free_bytes // SHM_PER_WORKER_BYTES // devices
    if by_memory < by_cores:
        found = f"only {machine.shm_free_bytes // 2**20} MiB of shared memory (--shm-size)"
        return Decided(value=int(by_memory), origin="machine", reason=found)
    return Decided(value=by_cores, origin="machine", reason=f"{machine.cores} usable cores")


def _val_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    wanted = _asked(config.val_interval, max(1, epochs // 10), "about ten validations; the last epoch is always one")
    return wanted if wanted.value <= epochs else Decided(value=epochs, origin="request", reason="once, at the end")


def _checkpoint_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    return _asked(config.checkpoint_interval, max(1, epochs // 20), "about twenty; the last epoch is always one")


def _primary_metric(config: TrainConfig, recipe: Recipe) -> Decided[str]:
    """The metric that chooses the best checkpoint, under MMDetection's name (``coco/bbox_mAP``)."""
    asked = config.primary_metric
    if asked is None or (asked, config.primary_metric_mode) in NOT_CHOSEN:
        return Decided(value=recipe.primary_metric, origin="recipe", reason="the task's main metric")
    pattern = PRIMARY_METRICS.get(asked.lower().removeprefix("coco/"))
    kind = "segm" if recipe.task is Task.INSTANCE else "bbox"
    name = pattern.format(kind=kind) if pattern else None
    if name is None or (name.startswith("segm") and kind == "bbox"):
        raise _unknown_metric(asked, recipe)
    if config.primary_metric_mode == "min":
        raise ConfigError(
            f"primary_metric_mode='min' with {asked!r}", hint="an average precision is better when larger"
        )
    return Decided(value=f"coco/{name}", origin="request", reason=f"asked for as {asked!r}")


def _unknown_metric(asked: str, recipe: Recipe) -> JobError:
    return ConfigError(
        f"primary_metric={asked!r} is not measured for {recipe.task.value}",
        hint=f"choose one of mAP50-95, mAP50, mAP75, or leave it out for {recipe.primary_metric}",
    )

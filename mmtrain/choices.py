"""One function for each number of a training that is more than a default: what was asked, or what is right, and why."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.errors import ConfigError, JobError, ResourceError
from trainer_sdk.jobspec import TrainConfig
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


def size_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
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


def asked_or(asked: Value | None, default: Value, reason: str) -> Decided[Value]:
    """What was asked for, else the recipe's."""
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


def batch(config: TrainConfig, recipe: Recipe, train_images: int, devices: int) -> Decided[int]:
    """The total over all devices, never more than there are images: an epoch needs a step."""
    wanted = asked_or(config.batch, recipe.defaults.batch, "recipe's fine-tuning batch")
    if wanted.value % devices:
        raise ConfigError(
            f"batch={wanted.value} does not divide over {devices} GPUs",
            hint=f"batch is the total over all GPUs: use {max(1, wanted.value // devices) * devices}",
        )
    most = max(devices, train_images - train_images % devices)
    if wanted.value <= most:
        return wanted
    return Decided(value=most, origin="data", reason=f"{wanted.value} is more than the {train_images} training images")


def learning_rate(config: TrainConfig, recipe: Recipe, batch: int) -> Decided[float]:
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


def weight_decay(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """Upstream's for upstream's optimizer, else the usual one."""
    if config.optimizer is None or config.optimizer == recipe.defaults.optimizer:
        return asked_or(config.weight_decay, recipe.defaults.weight_decay, "upstream's choice")
    return asked_or(config.weight_decay, WEIGHT_DECAY[config.optimizer], f"usual for {config.optimizer}")


def warmup(config: TrainConfig, recipe: Recipe, iters_per_epoch: int, epochs: int) -> Decided[int]:
    """Iterations; always fewer than the training has."""
    wanted = asked_or(config.warmup_epochs, recipe.defaults.warmup_epochs, "recipe's warm-up epochs, at most a tenth")
    iters = round(wanted.value * iters_per_epoch)
    if wanted.origin == "recipe":
        iters = min(iters, max(1, iters_per_epoch * epochs // 10))
    return Decided(value=min(iters, iters_per_epoch * epochs - 1), origin=wanted.origin, reason=wanted.reason)


def stated(config: TrainConfig, name: str, reason: str) -> Decided[Any]:
    """A value whose default stands in the request's own model."""
    if name in config.model_fields_set:
        return Decided(value=getattr(config, name), origin="request", reason="asked for")
    return Decided(value=getattr(config, name), origin="recipe", reason=reason)


def amp(config: TrainConfig, gpus: tuple[int, ...]) -> Decided[bool]:
    """Raises: ConfigError on a CPU."""
    if config.amp and not gpus:
        raise ConfigError("amp=true needs a GPU, the device is the CPU", hint="leave amp out, or choose a GPU")
    return stated(config, "amp", "off unless asked for")


def sync_bn(config: TrainConfig, devices: int) -> Decided[bool]:
    """Only where there is something to synchronise."""
    if config.sync_bn and devices < 2:
        return Decided(value=False, origin="machine", reason="asked for, but one device has nothing to synchronise")
    return stated(config, "sync_bn", "off unless asked for")


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


def workers(config: TrainConfig, machine: Machine, devices: int) -> Decided[int]:
    """As many as cores, as far as shared memory goes."""
    if config.workers is not None:
        return Decided(value=config.workers, origin="request", reason="asked for")
    by_cores = min(8, max(1, machine.cores // devices))
    by_memory = machine.shm_free_bytes // SHM_PER_WORKER_BYTES // devices
    if by_memory < by_cores:
        found = f"only {machine.shm_free_bytes // 2**20} MiB of shared memory (--shm-size)"
        return Decided(value=int(by_memory), origin="machine", reason=found)
    return Decided(value=by_cores, origin="machine", reason=f"{machine.cores} usable cores")


def val_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    """Never longer than the training."""
    wanted = asked_or(config.val_interval, max(1, epochs // 10), "about ten validations; the last epoch is always one")
    return wanted if wanted.value <= epochs else Decided(value=epochs, origin="request", reason="once, at the end")


def checkpoint_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    """Epochs between checkpoints."""
    return asked_or(config.checkpoint_interval, max(1, epochs // 20), "about twenty; the last epoch is always one")


def primary_metric(config: TrainConfig, recipe: Recipe) -> Decided[str]:
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

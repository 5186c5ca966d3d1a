"""One function for each number of a training that is more than a default: what was asked, or what is right, and why."""

from __future__ import annotations

import math
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from mmtrain.checkpoint_file import shown
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.datasets.recommend import recommend_imgsz
from mmtrain.machine import Machine
from mmtrain.recipes import Recipe
from trainer_sdk.errors import ConfigError, JobError, ResourceError
from trainer_sdk.jobspec import TrainConfig, TrainSpec
from trainer_sdk.tasks import Task

Origin = Literal["request", "recipe", "data", "machine"]
Value = TypeVar("Value")

_BOXES = {
    "map50": "coco/bbox_mAP_50", "map@0.5": "coco/bbox_mAP_50", "bbox_map_50": "coco/bbox_mAP_50",
    "map50-95": "coco/bbox_mAP", "map@0.5:0.95": "coco/bbox_mAP", "map": "coco/bbox_mAP", "bbox_map": "coco/bbox_mAP",
    "map75": "coco/bbox_mAP_75", "map@0.75": "coco/bbox_mAP_75", "bbox_map_75": "coco/bbox_mAP_75",
    "map50(b)": "coco/bbox_mAP_50", "map50-95(b)": "coco/bbox_mAP",
}  # fmt: skip
_MASKS = {
    **{name.replace("bbox", "segm"): metric.replace("bbox", "segm") for name, metric in _BOXES.items()},
    **{name: metric for name, metric in _BOXES.items() if name.startswith("bbox") or name.endswith("(b)")},
    "map50(m)": "coco/segm_mAP_50", "map50-95(m)": "coco/segm_mAP",
    "map@0.5(m)": "coco/segm_mAP_50", "map@0.5:0.95(m)": "coco/segm_mAP", "map@0.75(m)": "coco/segm_mAP_75",
}  # fmt: skip
PRIMARY_METRICS: dict[Task, dict[str, str]] = {
    Task.DETECTION: _BOXES,
    Task.INSTANCE: _MASKS,
    Task.SEMANTIC: {
        "miou": "mIoU", "iou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "accuracy": "aAcc",
        "mdice": "mDice", "dice": "mDice",
    },
    Task.POSE: {
        "map50": "coco/AP .5", "map@0.5": "coco/AP .5", "ap50": "coco/AP .5", "ap .5": "coco/AP .5",
        "map75": "coco/AP .75", "ap75": "coco/AP .75", "ap .75": "coco/AP .75",
        "map": "coco/AP", "map50-95": "coco/AP", "map@0.5:0.95": "coco/AP", "ap": "coco/AP", "oks": "coco/AP",
        "oks-ap": "coco/AP", "oks-ap@0.5": "coco/AP .5", "oks-ap@0.75": "coco/AP .75",
    },
}  # fmt: skip
"""The platform's, the report's and upstream's names for a metric, small -> upstream's."""
NOT_CHOSEN = {("loss", "min"), ("loss", None)}
"""What the platform sends where it has no default (contract 3.1): nobody chose it, and mm* has no such metric."""

AUGMENTATIONS = (
    "mosaic", "mixup", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "random_crop",
    "copy_paste",
)  # fmt: skip
STRIDE = 32
NO_WEIGHTS = "none"
WEIGHT_DECAY = {"SGD": 1e-4, "Adam": 0.0, "AdamW": 0.05}
"""Usual values: what is right for AdamW's decoupled decay is far too strong for the L2 of the other two."""
MOST_CLASS_WEIGHT = 10.0
"""A class of three objects in ten thousand would else rule the loss."""
RARE_BELOW = 0.1
"""LVIS takes 0.001 of its 1,200 classes; with a handful of classes one in ten images is rare."""
SHM_PER_WORKER_BYTES = 64 * 2**20
FALLS = ("step", "multistep")
OF_SCHEDULERS: dict[str, tuple[str, ...]] = {
    "lr_milestones": FALLS,
    "lr_gamma": FALLS,
    "lr_power": ("poly",),
    "lr_final_ratio": ("cosine", "linear", "poly", "onecycle"),
}
"""Which numbers belong to which schedules."""
STRONG = ("mosaic", "mixup", "copy_paste")
"""Augmentations that put several pictures into one: what a model must not end on (arXiv:2107.08430, 2.2)."""
ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25 / 1e4
"""PyTorch's OneCycleLR (arXiv:1708.07120): share of the training, first and last learning rate / highest."""


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
    return problems


def image_size(config: TrainConfig, recipe: Recipe, profile: DatasetProfile) -> Decided[tuple[int, int]]:
    """Width and height: asked for, else what the objects and images of the data need, most often the recipe's."""
    if config.imgsz is not None:
        return Decided(value=config.imgsz, origin="request", reason="asked for")
    size, reason = recommend_imgsz(profile, recipe)
    return Decided(value=size, origin="recipe" if size == recipe.defaults.imgsz else "data", reason=reason)


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


def training_samples(recipe: Recipe, profile: DatasetProfile) -> tuple[int, str]:
    """How many an epoch has and what they are called: images, or what a pose model is shown of them."""
    images = profile.images["train"]
    if recipe.task is not Task.POSE:
        return images, "images"
    if recipe.one_stage:
        return profile.images_with_objects.get("train", images), "images with objects"
    return profile.poses.get("train", images), "objects with labelled points"


def batch(config: TrainConfig, recipe: Recipe, train_images: int, devices: int) -> Decided[int]:
    """The total over all devices, never more than there are images: an epoch needs a step."""
    if config.batch == "auto":
        reason = (
            "auto: the recipe's fine-tuning batch is the most that is tried, half of it where memory ends, and so on"
        )
        wanted: Decided[int] = Decided(value=recipe.defaults.batch, origin="recipe", reason=reason)
    else:
        wanted = asked_or(config.batch, recipe.defaults.batch, "recipe's fine-tuning batch")
    if isinstance(config.batch, int):
        check_divides(config.batch, devices)
    elif wanted.value % devices:
        whole = max(1, wanted.value // devices) * devices
        reason = f"{wanted.reason}; {wanted.value} does not divide over {devices} GPUs"
        wanted = Decided(value=whole, origin="machine", reason=reason)
    most = max(devices, train_images - train_images % devices)
    if wanted.value > most:
        reason = f"{wanted.value} is more than the {train_images} training images"
        wanted = Decided(value=most, origin="data", reason=reason)
    check_least_batch(recipe, wanted.value, devices)
    return wanted


def check_divides(batch: int, devices: int) -> None:
    """Raises: ConfigError for a batch that was asked for and leaves a GPU with fewer images than another."""
    if batch % devices:
        raise ConfigError(
            f"batch={batch} does not divide over {devices} GPUs",
            hint=f"batch is the total over all GPUs: use {max(1, batch // devices) * devices}",
        )


def drop_last(recipe: Recipe, train_images: int, batch: int, devices: int) -> Decided[bool]:
    """Whether the images left over at the end of an epoch are too few for a step; shuffled, they come another time."""
    left = math.ceil(train_images / devices) % (batch // devices)
    if 0 < left < recipe.least_batch:
        reason = f"{recipe.name} cannot learn from the {left} image left over at the end of an epoch"
        return Decided(value=True, origin="data", reason=reason)
    return Decided(value=False, origin="data", reason="every image is shown in every epoch")


def learning_rate(config: TrainConfig, recipe: Recipe, batch: int) -> Decided[float]:
    """Linear scaling (Goyal et al. 2017, arXiv:1706.02677) from the recipe's batch to the images of one step."""
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


def milestones(config: TrainConfig, recipe: Recipe, epochs: int) -> Decided[tuple[int, ...]]:
    """Epochs after which the learning rate falls; one of `step` comes again as often as the training is long.

    Raises:
        ConfigError: falls after the end, or out of order.
    """
    asked, scheduler = config.lr_milestones, config.lr_scheduler or recipe.defaults.lr_scheduler
    if scheduler not in FALLS:
        return Decided(value=(), origin="recipe", reason=f"{scheduler} has none")
    if not asked:
        return Decided(
            value=(), origin="recipe", reason="after 8/12 and 11/12 of the training: MMDetection's 1x schedule"
        )
    if list(asked) != sorted(set(asked)) or asked[-1] >= epochs:
        raise ConfigError(
            f"lr_milestones={list(asked)} must grow and end before the last of {epochs} epochs", hint="correct them"
        )
    if scheduler == "step" and len(asked) == 1:
        again = tuple(range(asked[0], epochs, asked[0]))
        return Decided(value=again, origin="request", reason=f"asked for: every {asked[0]} epochs")
    return Decided(value=asked, origin="request", reason="asked for")


def class_weights(
    config: TrainConfig, class_names: tuple[str, ...], profile: DatasetProfile
) -> Decided[tuple[float, ...] | None]:
    """One weight per class in the loss.

    Balanced is images / (classes x images of the class), as scikit-learn's `compute_class_weight`, counted in objects.

    Raises:
        ConfigError: a class that the data do not have.
    """
    asked = config.class_weights
    if asked is None:
        return Decided(value=None, origin="recipe", reason="all classes alike unless asked for")
    if asked == "balanced":
        counts = [profile.objects_per_class[name]["train"] for name in class_names]
        present = [count for count in counts if count]
        weights = [sum(present) / (len(present) * count) if count else 1.0 for count in counts]
        limited = tuple(round(min(weight, MOST_CLASS_WEIGHT), 4) for weight in weights)
        reason = f"inverse frequency of the training objects, at most {MOST_CLASS_WEIGHT:g}"
        return Decided(value=limited, origin="data", reason=reason)
    unknown = sorted(set(asked) - set(class_names))
    if unknown:
        raise ConfigError(f"class_weights: no class {unknown}", hint=f"the classes are {', '.join(class_names)}")
    given = tuple(asked.get(name, 1.0) for name in class_names)
    if not any(given):
        raise ConfigError("class_weights: every class weighs 0, nothing would be learnt", hint="give one of them more")
    return Decided(value=given, origin="request", reason="asked for")


def balanced_sampling(config: TrainConfig) -> Decided[float]:
    """LVIS's repeat factor sampling (Gupta et al. 2019, arXiv:1908.03195): the share below which a class is rare."""
    asked = config.balanced_sampling
    if asked is None or asked is False:
        return Decided(value=0.0, origin="recipe", reason="all images alike unless asked for")
    threshold = RARE_BELOW if asked is True else float(asked)
    reason = f"asked for: classes in fewer than {threshold:.0%} of the images are shown more often"
    return Decided(value=threshold, origin="request", reason=reason)


def schedule_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """Numbers of a schedule or an optimizer that is not the one in use: they would have no effect."""
    scheduler = config.lr_scheduler or recipe.defaults.lr_scheduler
    optimizer = config.optimizer or recipe.defaults.optimizer
    problems = [
        f"{name}: has no effect with lr_scheduler={scheduler!r}, only with {', '.join(schedulers)}"
        for name, schedulers in OF_SCHEDULERS.items()
        if getattr(config, name) is not None and scheduler not in schedulers
    ]
    if config.warmup_iters is not None and config.warmup_epochs is not None:
        problems.append("warmup_iters and warmup_epochs say the same: give one")
    if config.momentum is not None and optimizer != "SGD":
        problems.append(f"momentum: {optimizer} has none, only SGD")
    return problems


def task_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    """What this model cannot do, by name."""
    problems = schedule_problems(config, recipe)
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


def _semantic_problems(config: TrainConfig, recipe: Recipe) -> list[str]:
    problems = []
    if config.class_weights == "balanced":
        problems.append("class_weights=balanced counts objects, and pixels are none - give {class: weight}")
    if not recipe.freezable and (config.norm_eval or config.backbone_frozen_stages not in (None, -1)):
        problems.append(f"backbone_frozen_stages, norm_eval: the backbone of {recipe.name} has neither - try freeze")
    return problems


def check_least_batch(recipe: Recipe, batch: int, devices: int) -> None:
    """Some heads pool an image to one pixel and normalise over the batch: one image has no variance.

    Raises:
        ConfigError: fewer images per step and device than the model needs.
    """
    if batch // devices < recipe.least_batch:
        each = "" if devices == 1 else f" on each of {devices} devices"
        found = f"batch={batch}: {recipe.name} normalises over the images of a step, and one has no variance"
        raise ConfigError(found, hint=f"at least {recipe.least_batch} images a step{each}, and as many to train on")


def weight_decay(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """Upstream's for upstream's optimizer, else the usual one."""
    if config.optimizer is None or config.optimizer == recipe.defaults.optimizer:
        return asked_or(config.weight_decay, recipe.defaults.weight_decay, "upstream's choice")
    return asked_or(config.weight_decay, WEIGHT_DECAY[config.optimizer], f"usual for {config.optimizer}")


def warmup(config: TrainConfig, recipe: Recipe, iters_per_epoch: int, epochs: int) -> Decided[int]:
    """Iterations; always fewer than the training has."""
    if config.warmup_iters is not None:
        iters = min(config.warmup_iters, iters_per_epoch * epochs - 1)
        return Decided(value=iters, origin="request", reason="asked for; always shorter than the training")
    if config.lr_scheduler == "onecycle" and config.warmup_epochs is None:
        rise = round(ONE_CYCLE_RISE * iters_per_epoch * epochs)
        return Decided(value=rise, origin="request", reason=f"onecycle rises for {ONE_CYCLE_RISE:.0%} of the training")
    wanted = asked_or(config.warmup_epochs, recipe.defaults.warmup_epochs, "recipe's warm-up epochs, at most a tenth")
    iters = round(wanted.value * iters_per_epoch)
    if wanted.origin == "recipe":
        iters = min(iters, max(1, iters_per_epoch * epochs // 10))
    return Decided(value=min(iters, iters_per_epoch * epochs - 1), origin=wanted.origin, reason=wanted.reason)


def warmup_ratio(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """First learning rate / lr0."""
    if config.lr_scheduler == "onecycle" and config.warmup_ratio is None:
        return Decided(value=ONE_CYCLE_START, origin="request", reason="of onecycle, as PyTorch has it")
    return asked_or(config.warmup_ratio, recipe.defaults.warmup_ratio, "upstream's choice")


def final_ratio(config: TrainConfig, recipe: Recipe) -> Decided[float]:
    """Last learning rate / lr0."""
    if config.lr_scheduler == "onecycle" and config.lr_final_ratio is None:
        return Decided(value=ONE_CYCLE_END, origin="request", reason="of onecycle, as PyTorch has it")
    return asked_or(config.lr_final_ratio, recipe.defaults.lr_final_ratio, "upstream's choice")


def weak_epochs(config: TrainConfig, recipe: Recipe, epochs: int) -> Decided[int]:
    """Last epochs on whole pictures; none where no picture is put together of several anyway."""
    strong = [name for name in STRONG if augmentation(config, recipe, name).value]
    if not strong:
        return Decided(value=0, origin="recipe", reason=f"without {', '.join(STRONG)} there is nothing to leave out")
    for name in ("balanced_sampling", "copy_paste"):
        if getattr(config, name):
            return Decided(value=0, origin="request", reason=f"{name}'s data set cannot change its pipeline")
    if config.weak_epochs is not None:
        return Decided(value=min(config.weak_epochs, epochs), origin="request", reason="asked for")
    value = min(recipe.defaults.weak_epochs, epochs // 10)
    return Decided(value=value, origin="recipe", reason=f"without {', '.join(strong)}; at most a tenth of the training")


def stated(config: TrainConfig, name: str, reason: str) -> Decided[Any]:
    """A value whose default stands in the request's own model."""
    if name in config.model_fields_set:
        return Decided(value=getattr(config, name), origin="request", reason="asked for")
    return Decided(value=getattr(config, name), origin="recipe", reason=reason)


def augmentation(config: TrainConfig, recipe: Recipe, name: str) -> Decided[float]:
    """One of `AUGMENTATIONS`."""
    return asked_or(getattr(config, name), getattr(recipe.defaults, name), "recipe's augmentation")


def amp(config: TrainConfig, gpus: tuple[int, ...]) -> Decided[Literal["off", "fp16", "bf16"]]:
    """Raises: ConfigError on a CPU."""
    if config.amp and not gpus:
        raise ConfigError(
            f"amp={config.amp!r} needs a GPU, the device is the CPU",
            hint="leave amp out, or choose a GPU: MMEngine's AmpOptimWrapper refuses CPUs, with bf16 too",
        )
    if "amp" not in config.model_fields_set:
        return Decided(value="off", origin="recipe", reason="off unless asked for")
    precision: Literal["off", "fp16", "bf16"] = "fp16" if config.amp is True else config.amp or "off"
    return Decided(value=precision, origin="request", reason="asked for")


def compiled(config: TrainConfig, machine: Machine) -> Decided[bool]:
    """Raises: ResourceError without a compiler."""
    if config.compile and not machine.compiler:
        raise ResourceError(
            "compile=true needs a C++ compiler, this machine has none",
            hint="leave compile out, or install g++ (the container image holds none, to stay small)",
        )
    return stated(config, "compile", "off unless asked for: it pays off after hundreds of iterations of one shape")


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
    """The first one; never longer than the training."""
    asked = config.val_interval[0][1] if isinstance(config.val_interval, tuple) else config.val_interval
    wanted = asked_or(asked, max(1, epochs // 10), "about ten validations; the last epoch is always one")
    return wanted if wanted.value <= epochs else Decided(value=epochs, origin="request", reason="once, at the end")


def val_intervals(config: TrainConfig) -> Decided[tuple[tuple[int, int], ...]]:
    """From which epoch (0-based) on which interval.

    Raises:
        ConfigError: not from 0 on, or out of order.
    """
    asked = config.val_interval if isinstance(config.val_interval, tuple) else None
    if asked is not None:
        starts = [start for start, _ in asked]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ConfigError(
                f"val_interval={[list(pair) for pair in asked]}: the first must begin at epoch 0, the others later",
                hint="write [[0, 5], [40, 1]] for every fifth epoch, from 40 on every one",
            )
    return asked_or(asked, (), "one interval for the whole training")


def checkpoint_interval(config: TrainConfig, epochs: int) -> Decided[int]:
    """Epochs between checkpoints."""
    return asked_or(config.checkpoint_interval, max(1, epochs // 20), "about twenty; the last epoch is always one")


def primary_metric(config: TrainConfig, recipe: Recipe) -> Decided[str]:
    """The metric that chooses the best checkpoint, under MMDetection's name (``coco/bbox_mAP``)."""
    asked = config.primary_metric
    if asked is None or (asked, config.primary_metric_mode) in NOT_CHOSEN:
        return Decided(value=recipe.primary_metric, origin="recipe", reason="the task's main metric")
    name = PRIMARY_METRICS[recipe.task].get(asked.lower().removeprefix("coco/"))
    if name is None:
        raise _unknown_metric(asked, recipe)
    if config.primary_metric_mode == "min":
        raise ConfigError(f"primary_metric_mode='min' with {asked!r}", hint="it is better when larger")
    return Decided(value=name, origin="request", reason=f"asked for as {asked!r}")


def _unknown_metric(asked: str, recipe: Recipe) -> JobError:
    known = dict.fromkeys(PRIMARY_METRICS[recipe.task].values())
    return ConfigError(
        f"primary_metric={asked!r} is not measured for {recipe.task.value}",
        hint=f"choose one of {', '.join(known)}, or leave it out for {recipe.primary_metric}",
    )

"""What was asked, typed, frozen and without secrets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trainer_sdk.tasks import Task

Size = tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]]
Probability = Annotated[float, Field(ge=0, le=1)]


def _width_height(value: Any) -> Any:
    """One number means a square."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _probability(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


def _optimizer(value: Any) -> Any:
    """The platform writes optimizers small."""
    known = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    return known.get(value.lower(), value) if isinstance(value, str) else value


def _device_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainConfig(Frozen):
    """CONFIG after both dialects were mapped onto one set of names. None: recipe, data and machine decide."""

    epochs: int | None = Field(None, ge=1, le=10_000, description="passes over the training images")
    batch: int | None = Field(None, ge=1, le=4096, description="images per step over all devices")
    lr0: float | None = Field(None, gt=0, lt=10, description="learning rate at that batch size")
    optimizer: Annotated[Literal["SGD", "Adam", "AdamW"] | None, BeforeValidator(_optimizer)] = Field(
        None, description="optimizer"
    )
    device: Annotated[str | None, BeforeValidator(_device_text)] = Field(
        None, pattern=r"^(cpu|\d+(-\d+)?(,\d+(-\d+)?)*)$", description="cpu, or GPU numbers such as 0, 0,1 or 0-3"
    )
    workers: int | None = Field(None, ge=0, le=256, description="data loading processes per device")
    imgsz: Annotated[Size | None, BeforeValidator(_width_height)] = Field(
        None, description="input size in pixels: one number, or [width, height]"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="seed of everything random")
    pretrained: bool = Field(True, description="start from the recipe's published weights")
    lr_scheduler: Literal["step", "cosine", "linear", "constant"] | None = Field(
        None, description="how the learning rate falls after warm-up"
    )
    warmup_epochs: float | None = Field(None, ge=0, le=1000, description="epochs of linear warm-up")
    warmup_ratio: float | None = Field(None, gt=0, le=1, description="first warm-up learning rate / lr0")
    weight_decay: float | None = Field(None, ge=0, le=1, description="weight decay")
    momentum: float | None = Field(None, ge=0, lt=1, description="momentum of SGD")
    mosaic: Annotated[Probability | None, BeforeValidator(_probability)] = Field(
        None, description="probability (or true/false) of mosaic augmentation"
    )
    mixup: Annotated[Probability | None, BeforeValidator(_probability)] = Field(
        None, description="probability (or true/false) of mixup augmentation"
    )
    fliplr: Annotated[Probability | None, BeforeValidator(_probability)] = Field(
        None, description="probability of a left-right flip"
    )
    amp: bool = Field(False, description="mixed precision (GPU)")
    sync_bn: bool = Field(False, description="batch norm statistics over all GPUs")
    ema: bool | None = Field(None, description="keep an exponential moving average of the weights")
    val_interval: int | None = Field(None, ge=1, description="epochs between validations")
    checkpoint_interval: int | None = Field(None, ge=1, description="epochs between checkpoints")
    checkpoint_keep_max: int | None = Field(None, ge=1, description="how many of these are kept")
    backbone_frozen_stages: int | None = Field(None, ge=-1, le=4, description="backbone stages that do not train")
    norm_eval: bool | None = Field(None, description="freeze the backbone's batch norm statistics")
    primary_metric: str | None = Field(None, description="metric that chooses the best checkpoint")
    primary_metric_mode: Literal["max", "min"] | None = Field(None, description="max or min")
    split_config: dict[str, Any] | None = Field(
        None, description="how images are split: {method, ratio, seed, splits, exclude_images}"
    )


class DatasetRef(Frozen):
    """Which data set: a local DICE folder, or a prefix in a bucket (None: the configured data set bucket)."""

    id: str
    path: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    snapshot_id: str | None = None
    version_hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class TrainSpec(Frozen):
    """A train job."""

    kind: Literal["train"] = "train"
    job_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: Task | None
    model_name: str = Field(min_length=1, max_length=100)
    dataset: DatasetRef
    config: TrainConfig
    notes: tuple[str, ...] = ()
    """What was in the request and had no effect, in words."""

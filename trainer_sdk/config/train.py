"""CONFIG of a training, after both dialects were mapped onto one set of names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainer_sdk.config.frozen import Asked, Probability, Size
from trainer_sdk.config.values import (
    DEVICE,
    SWITCH,
    Scheduler,
    as_device,
    as_numbers,
    as_optimizer,
    as_precision,
    as_scheduler,
    as_texts,
    as_width_height,
    not_empty,
)


class TrainConfig(Asked):
    """CONFIG after both dialects were mapped onto one set of names. None: recipe, data and machine decide."""

    epochs: int | None = Field(None, ge=1, le=10_000, description="passes over the training images")
    batch: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] | None = Field(
        None,
        description="images at a time over all devices; auto: what is measured to fit; halved where memory runs out",
    )
    lr0: float | None = Field(None, gt=0, lt=10, description="learning rate at that batch size")
    optimizer: Annotated[Literal["SGD", "Adam", "AdamW"] | None, BeforeValidator(as_optimizer)] = Field(
        None, description="optimizer"
    )
    device: Annotated[str | None, BeforeValidator(as_device)] = Field(
        None, pattern=DEVICE, description="cpu, or GPU numbers such as 0, 0,1 or 0-3; cuda:0 is 0"
    )
    workers: int | None = Field(None, ge=0, le=256, description="data loading processes per device")
    imgsz: Annotated[Size | None, BeforeValidator(as_width_height)] = Field(
        None, description="input size in pixels: one number, or [width, height]"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="seed of everything random")
    pretrained: bool = Field(True, description="start from the recipe's published weights")
    lr_scheduler: Annotated[Scheduler | None, BeforeValidator(as_scheduler)] = Field(
        None, description="how the learning rate falls after warm-up"
    )
    lr_milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, BeforeValidator(as_numbers)] = Field(
        None, description="epochs after which it falls (multistep); step: one number, and again as often"
    )
    lr_gamma: float | None = Field(None, gt=0, lt=1, description="factor of each fall (step, multistep)")
    lr_final_ratio: float | None = Field(
        None, ge=0, le=1, description="last learning rate / lr0 (cosine, linear, poly)"
    )
    lr_power: float | None = Field(None, gt=0, le=10, description="exponent of poly")
    warmup_epochs: float | None = Field(None, ge=0, le=1000, description="epochs of linear warm-up")
    warmup_iters: int | None = Field(None, ge=0, le=10**7, description="its length in iterations, instead of epochs")
    warmup_ratio: float | None = Field(None, gt=0, le=1, description="first warm-up learning rate / lr0")
    weight_decay: float | None = Field(None, ge=0, le=1, description="weight decay")
    momentum: float | None = Field(None, ge=0, lt=1, description="momentum of SGD")
    grad_clip: float | None = Field(None, ge=0, le=1e6, description="largest L2 norm of the gradients; 0: not clipped")
    accumulate: int | None = Field(None, ge=1, le=1024, description="batches whose gradients are added up to one step")
    mosaic: Annotated[Probability | None, SWITCH] = Field(
        None, description="probability (or true/false) of mosaic augmentation"
    )
    mixup: Annotated[Probability | None, SWITCH] = Field(
        None, description="probability (or true/false) of mixup augmentation"
    )
    fliplr: Annotated[Probability | None, SWITCH] = Field(None, description="probability of a left-right flip")
    flipud: Annotated[Probability | None, SWITCH] = Field(None, description="probability of an up-down flip")
    hsv_h: Probability | None = Field(None, description="largest shift of hue, as a share of the colour circle")
    hsv_s: Probability | None = Field(None, description="largest change of saturation, as a share")
    hsv_v: Probability | None = Field(None, description="largest change of brightness, as a share")
    degrees: float | None = Field(None, ge=0, le=180, description="largest rotation, in degrees")
    translate: Probability | None = Field(None, description="largest shift, as a share of the side")
    scale: float | None = Field(None, ge=0, lt=1, description="largest change of size: 0.5 is half to one and a half")
    random_crop: Annotated[Probability | None, SWITCH] = Field(
        None, description="probability (or true/false) of a random crop, of at least half of each side"
    )
    copy_paste: Annotated[Probability | None, SWITCH] = Field(
        None, description="paste objects of another image (instance segmentation): 1 or 0, or true/false"
    )
    albumentations: tuple[dict[str, Any], ...] | None = Field(
        None, description='transforms of the albumentations package by name, such as [{"type": "Blur", "p": 0.1}]'
    )
    weak_epochs: int | None = Field(
        None,
        ge=0,
        description="last epochs without mosaic and mix-up, to end on real images; not with copy_paste or "
        "balanced_sampling",
    )
    amp: Annotated[bool | Literal["fp16", "bf16"], BeforeValidator(as_precision)] = Field(
        False, description="mixed precision, on a GPU: fp16 (or true) or bf16"
    )
    compile: bool = Field(False, description="torch.compile the model")
    channels_last: bool = Field(False, description="memory format of the model, which its images follow")
    deterministic: bool = Field(
        False,
        description="the same numbers in every run on the same machine, on a GPU where its operators can; slower. "
        "Mosaic and mix-up then begin each epoch with nothing to mix: a resumed training has the same numbers too",
    )
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Annotated[float, Field(ge=0, le=1000)]] | None, BeforeValidator(not_empty)
    ] = Field(
        None,
        description="weight of each class in the loss: balanced (not for semantic), or {name: weight}; "
        "not every loss takes any",
    )
    balanced_sampling: bool | Probability | None = Field(
        None,
        description="show images with rare classes more often (detection and instance segmentation, without "
        "copy_paste); a number: the share from which a class is not rare",
    )
    early_stopping: int | None = Field(
        None, ge=0, description="validations without improvement after which the training ends; 0: to the end"
    )
    early_stopping_min_delta: float | None = Field(
        None, ge=0, le=1, description="what counts as an improvement, as a share of 1"
    )
    freeze: Annotated[tuple[Annotated[str, Field(pattern=r"^[\w.]+\*?$")], ...] | None, BeforeValidator(as_texts)] = (
        Field(
            None,
            description="parts that do not train, by the beginning of their parameters' names, such as backbone.stem",
        )
    )
    sync_bn: bool = Field(False, description="batch norm statistics over all GPUs")
    ema: bool | None = Field(None, description="keep an exponential moving average of the weights")
    val_interval: Annotated[int, Field(ge=1)] | tuple[tuple[int, Annotated[int, Field(ge=1)]], ...] | None = Field(
        None,
        description="epochs between validations; or [[from_epoch, interval], ...] from epoch 0 on, rare first, "
        "then often",
    )
    checkpoint_interval: int | None = Field(None, ge=1, description="epochs between checkpoints")
    checkpoint_keep_max: int | None = Field(None, ge=1, description="how many of these are kept")
    backbone_frozen_stages: int | None = Field(None, ge=-1, le=4, description="backbone stages that do not train")
    norm_eval: bool | None = Field(None, description="freeze the backbone's batch norm statistics")
    primary_metric: str | None = Field(None, description="metric that chooses the best checkpoint")
    primary_metric_mode: Literal["max", "min"] | None = Field(None, description="max or min")
    data_access: Literal["copy", "stream"] = Field(
        "copy", description="bring the images here first, or read them from their bucket while training"
    )
    stream_cache_gb: float | None = Field(
        None, ge=0, le=1_000_000, description="disk for streamed images in GB; else half of what is free, at most 50"
    )
    inspect_images: Literal["all"] | Annotated[int, Field(ge=1)] | None = Field(
        None, description="pictures to open before training: all, or a number; else a sample from 20,000 on"
    )
    keypoints: dict[str, Any] | None = Field(
        None, description="keypoints where the data set names none: {names, skeleton, flip_pairs}"
    )
    split_config: dict[str, Any] | None = Field(
        None, description="how images are split: {method, ratio, seed, stratify, group_by, splits, exclude_images}"
    )

"""How many samples a step has, and on what they are counted."""

from __future__ import annotations

import itertools
import math

from mmtrain.choices.decided import Decided, asked_or
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

MOST_TIMES = 4
"""The recipe's batch: the learning rate grows with the batch, and what holds for four times it is not known for ten."""
LEAST_ITERS = 10
"""In an epoch, when there are more images at a time than the recipe's: fewer steps learn less."""
MOST_SHARE = 0.8
"""Of the memory. The rest is for other pictures and sizes than those measured, and for data loading."""


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
        reason = "auto, not measured: the recipe's fine-tuning batch"
        wanted: Decided[int] = Decided(value=recipe.defaults.batch, origin="recipe", reason=reason)
    else:
        wanted = asked_or(config.batch, recipe.defaults.batch, "recipe's fine-tuning batch")
    if isinstance(config.batch, int):
        check_divides(config.batch, devices)
    elif wanted.value % devices:
        whole = max(1, wanted.value // devices) * devices
        reason = f"{wanted.reason}; {wanted.value} does not divide over {devices} devices"
        wanted = Decided(value=whole, origin="machine", reason=reason)
    most = max(devices, train_images - train_images % devices)
    if wanted.value > most:
        reason = f"{wanted.value} is more than the {train_images} training images"
        wanted = Decided(value=most, origin="data", reason=reason)
    check_least_batch(recipe, wanted.value, devices)
    if devices > 1:
        each = f"the total over all {devices} devices, {wanted.value // devices} on each"
        wanted = wanted.model_copy(update={"reason": f"{wanted.reason}; {each}"})
    return wanted


def batches_to_try(usual: int, least: int, iters_per_epoch: int, *, gpu: bool) -> tuple[int, ...]:
    """Images at a time on one device whose memory is worth measuring, growing.

    A GPU begins with half of what is usual, as it is done in a second. A CPU begins with two images, which most often
    are enough to be sure of the usual number.

    Args:
        usual: the recipe's, on one device.
        least: the model's.
        iters_per_epoch: with the usual batch.
        gpu: more than usual is faster; on a CPU it is not.
    """
    half = max(least, usual // 2)
    if not gpu:
        return tuple(sorted({min(half, max(least, 2)), half, usual}))
    times = [2**power for power in range(1, MOST_TIMES.bit_length()) if iters_per_epoch >= 2**power * LEAST_ITERS]
    return tuple(sorted({half, usual, *(usual * time for time in times)}))


def smaller_batches(below: int, least: int) -> tuple[int, ...]:
    """What is tried when the smallest of `batches_to_try` was too much, growing."""
    return tuple(itertools.takewhile(lambda batch: batch < below, (least * 2**power for power in itertools.count())))


def check_divides(batch: int, devices: int) -> None:
    """Raises: ConfigError for a batch that was asked for and leaves a device with fewer images than another."""
    if batch % devices:
        raise ConfigError(
            f"batch={batch} does not divide over {devices} devices",
            hint=f"batch is the total over all devices of all nodes: use {max(1, batch // devices) * devices}",
        )


def check_least_batch(recipe: Recipe, batch: int, devices: int) -> None:
    """Some heads pool an image to one pixel and normalise over the batch: one image has no variance.

    Raises:
        ConfigError: fewer images per step and device than the model needs.
    """
    if batch // devices < recipe.least_batch:
        each = "" if devices == 1 else f" on each of {devices} devices"
        found = f"batch={batch}: {recipe.name} normalises over the images of a step, and one has no variance"
        raise ConfigError(found, hint=f"at least {recipe.least_batch} images a step{each}, and as many to train on")


def drop_last(recipe: Recipe, train_images: int, batch: int, devices: int) -> Decided[bool]:
    """Whether the images left over at the end of an epoch are too few for a step; shuffled, they come another time."""
    left = math.ceil(train_images / devices) % (batch // devices)
    if 0 < left < recipe.least_batch:
        reason = f"{recipe.name} cannot learn from the {left} image left over at the end of an epoch"
        return Decided(value=True, origin="data", reason=reason)
    return Decided(value=False, origin="data", reason="every image is shown in every epoch")

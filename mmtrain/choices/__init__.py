"""One function for each number of a training that is more than a default: what was asked, or what is right, and why."""

from mmtrain.choices.batches import batch, check_divides, check_least_batch, drop_last, training_samples
from mmtrain.choices.data import (
    AUGMENTATIONS,
    STRONG,
    augmentation,
    balanced_sampling,
    class_weights,
    image_size,
    size_problems,
    weak_epochs,
)
from mmtrain.choices.decided import Decided, asked_or, stated
from mmtrain.choices.machine import amp, choose_device, compiled, gpu_numbers, sync_bn, workers
from mmtrain.choices.metric import PRIMARY_METRICS, primary_metric
from mmtrain.choices.model import NO_WEIGHTS, frozen_stages, norm_eval, pretrained, task_problems, weights
from mmtrain.choices.schedule import (
    checkpoint_interval,
    final_ratio,
    learning_rate,
    milestones,
    val_interval,
    val_intervals,
    warmup,
    warmup_ratio,
    weight_decay,
)

__all__ = [
    "AUGMENTATIONS",
    "NO_WEIGHTS",
    "PRIMARY_METRICS",
    "STRONG",
    "Decided",
    "amp",
    "asked_or",
    "augmentation",
    "balanced_sampling",
    "batch",
    "check_divides",
    "check_least_batch",
    "checkpoint_interval",
    "choose_device",
    "class_weights",
    "compiled",
    "drop_last",
    "final_ratio",
    "frozen_stages",
    "gpu_numbers",
    "image_size",
    "learning_rate",
    "milestones",
    "norm_eval",
    "pretrained",
    "primary_metric",
    "size_problems",
    "stated",
    "sync_bn",
    "task_problems",
    "training_samples",
    "val_interval",
    "val_intervals",
    "warmup",
    "warmup_ratio",
    "weak_epochs",
    "weight_decay",
    "weights",
    "workers",
]

"""How much disk, shared memory and GPU memory a training needs at least, from what is decided about it.

Lower bounds: what is refused by them cannot work. What the layers keep of an image is not among them; that is measured
(`batch: auto`), or learnt when it runs out.
"""

from __future__ import annotations

from mmtrain.choices import shm_of_a_loader
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig

FLOAT_BYTES = 4
OPTIMIZER_STATES = {"SGD": 1, "Adam": 2, "AdamW": 2}
"""Numbers that an optimizer keeps of each parameter; SGD without momentum none."""
REPORT_BYTES = 10 * 10**6
"""Report, contact sheet, logs, curves and the converted annotations of a small data set."""
CUDA_BYTES = 300 * 10**6
"""What CUDA and its libraries take of a GPU before the first tensor; it is more on most."""


def parameters_of(recipe: Recipe) -> int:
    """As published: the classes of the data set change little of it."""
    return round(recipe.published.params_m * 1e6)


def disk_needs(recipe: Recipe, config: TrainConfig) -> dict[str, int]:
    """Bytes below the work folder, by what they are for."""
    keep = config.checkpoint_keep_max or 1
    states = 1 + _averages(recipe, config)  # without the optimizer's
    weights = parameters_of(recipe) * FLOAT_BYTES
    whole = weights * (states + _optimizer_states(recipe, config))
    return {
        f"{keep + 1} checkpoints to go on from": whole * (keep + 1),  # the last of them again, in out/
        "2 best ones": weights * (states + 1),
        "report": REPORT_BYTES,
    }


def gpu_bytes(recipe: Recipe, config: TrainConfig) -> int:
    """Weights, gradients, the optimizer's states and the average; no image."""
    copies = 2 + _averages(recipe, config) + _optimizer_states(recipe, config)
    return CUDA_BYTES + parameters_of(recipe) * FLOAT_BYTES * copies


def shm_bytes(plan: TrainPlan) -> int:
    """Of /dev/shm, when every loading process of this machine has its batches ready."""
    images = plan.batch.value // plan.devices
    return plan.processes.value * plan.workers.value * shm_of_a_loader(images, plan.imgsz.value, plan.task)


def _averages(recipe: Recipe, config: TrainConfig) -> int:
    return int(recipe.defaults.ema if config.ema is None else config.ema)


def _optimizer_states(recipe: Recipe, config: TrainConfig) -> int:
    if config.freeze:  # only what learns has any, and how much that is the model alone knows
        return 0
    momentum = recipe.defaults.momentum if config.momentum is None else config.momentum
    name = config.optimizer or recipe.defaults.optimizer
    return 0 if name == "SGD" and momentum == 0 else OPTIMIZER_STATES[name]

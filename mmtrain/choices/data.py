"""Sizes, augmentations and weights of what a model is shown."""

from __future__ import annotations

from mmtrain.choices.decided import Decided, asked_or
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.datasets.recommend import recommend_imgsz
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError

AUGMENTATIONS = (
    "mosaic", "mixup", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "random_crop",
    "copy_paste",
)  # fmt: skip
STRONG = ("mosaic", "mixup", "copy_paste")
"""Augmentations that put several pictures into one: what a model must not end on (arXiv:2107.08430, 2.2)."""
STRIDE = 32
MOST_CLASS_WEIGHT = 10.0
"""A class of three objects in ten thousand would else rule the loss."""
RARE_BELOW = 0.1
"""LVIS takes 0.001 of its 1,200 classes; with a handful of classes one in ten images is rare."""


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


def augmentation(config: TrainConfig, recipe: Recipe, name: str) -> Decided[float]:
    """One of `AUGMENTATIONS`."""
    return asked_or(getattr(config, name), getattr(recipe.defaults, name), "recipe's augmentation")


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

"""The models one can ask for: one YAML file each under ``configs/``. ``python -m mmtrain.recipes`` lists them."""

from __future__ import annotations

import argparse
import difflib
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field

from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

Scheduler = Literal["step", "multistep", "cosine", "linear", "poly", "onecycle", "constant"]
ExportFormat = Literal["onnx", "torchscript", "openvino", "tensorrt"]

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Frozen):
    """Published weights; upstream puts the first 8 hex digits of the sha256 into the file name."""

    url: str
    sha256: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    license: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


class Defaults(_Frozen):
    """What we choose for a fine-tuning on a small set when the request says nothing."""

    epochs: int
    batch: int
    imgsz: tuple[int, int]
    optimizer: Literal["SGD", "Adam", "AdamW"]
    lr0: float
    lr0_from_scratch: float
    weight_decay: float
    momentum: float
    lr_scheduler: Scheduler
    lr_final_ratio: float
    lr_power: float = 0.9
    """Exponent of the poly schedule; upstream mmseg's."""
    warmup_epochs: float
    warmup_ratio: float
    grad_clip: float = 0.0
    """Largest L2 norm of all gradients together; 0: as they come."""
    mosaic: float = 0.0
    mixup: float = 0.0
    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    fliplr: float = 0.5
    flipud: float = 0.0
    random_crop: float = 0.0
    copy_paste: float = 0.0
    weak_epochs: int = 0
    """Last epochs without mosaic, mix-up and copy-paste; counted from upstream's ratio, at most a tenth of all."""
    ema: bool = False
    backbone_frozen_stages: int = -1
    norm_eval: bool = False


class Published(_Frozen):
    """Upstream's numbers, in points, and the size with that data set's classes."""

    dataset: Literal["COCO", "Cityscapes", "ADE20K"] = "COCO"
    box_ap: float | None = None
    mask_ap: float | None = None
    keypoint_ap: float | None = None
    miou: float | None = None
    params_m: float

    @property
    def score(self) -> tuple[str, float] | None:
        """The number that this kind of model is compared by, with its name; None where upstream has none."""
        names = {"mask_ap": "mask AP", "keypoint_ap": "AP", "miou": "mIoU", "box_ap": "box AP"}
        found = ((title, getattr(self, name)) for name, title in names.items())
        return next(((title, value) for title, value in found if value is not None), None)


class Recipe(_Frozen):
    """One model: where its upstream configuration lies and what of it depends on the data."""

    name: str
    summary: str
    task: Task
    base: str = Field(pattern=r"^mm(det|seg|pose)::.+\.py$")
    aliases: tuple[str, ...]
    parts: tuple[str, ...]
    """What the model consists of: the first words of its parameters' names."""
    class_slots: tuple[str, ...]
    """Dotted paths in the configuration that hold the number of classes: every one, or boxes vanish silently."""
    class_weight_slots: tuple[str, ...] = ()
    """Paths of loss weights, one per class and a last one for "no object": Mask2Former's."""
    class_loss_slots: tuple[str, ...] = ()
    """Paths of losses that take one weight per class: softmax cross entropy, not focal losses or distributions."""
    keypoint_slots: tuple[str, ...] = ()
    """Paths that hold the number of keypoints."""
    one_stage: bool = False
    """Of poses: finds the objects by itself, of one class; the others see crops of boxes that are given."""
    primary_metric: str
    letterbox: bool = False
    """Every image is padded to exactly the input size."""
    size_multiple: int = 32
    """Input sides are multiples of it, where the model sees exactly the input size."""
    least_batch: int = 1
    """Images per device and step. Some heads pool an image to one pixel and normalise over the batch."""
    freezable: bool = True
    """Whether the backbone has stages that can be frozen, and statistics that can be kept: ResNets."""
    idle_without_objects: bool = False
    """Parts of it learn nothing from a batch without objects; several processes have to be told to look for them."""
    edges: bool = False
    """Learns the outlines of the classes too: PIDNet."""
    exports: tuple[ExportFormat, ...] = ("onnx", "torchscript", "openvino", "tensorrt")
    weights: Weights | None
    """None: upstream publishes none for this model, and it trains from scratch or from a checkpoint."""
    defaults: Defaults
    published: Published
    source: str


def load_recipe(model_name: str, task: Task | None = None) -> Recipe:
    """The recipe of a model name in any of its spellings.

    A name may stand for one model in several tasks (mask2former-r50): then the task decides, and is not guessed.

    Raises:
        ConfigError: unknown model, a model for another task than the one asked for, or for several and none asked for.
    """
    named = [recipe for recipe in all_recipes() if _plain(model_name) in spellings_of(recipe)]
    if not named:
        raise _unknown(model_name, [recipe for recipe in all_recipes() if task in (None, recipe.task)])
    fitting = [recipe for recipe in named if task in (None, recipe.task)]
    if len(fitting) == 1:
        return fitting[0]
    tasks = " and ".join(recipe.task.value for recipe in named)
    if fitting:
        choices = " or ".join(recipe.task.value for recipe in fitting)
        raise ConfigError(f"MODEL_NAME={model_name!r} does {tasks}", hint=f"set TASK_TYPE to {choices}")
    assert task is not None
    others = _names(recipe for recipe in all_recipes() if recipe.task is task) or "none yet"
    raise ConfigError(
        f"MODEL_NAME={model_name!r} does {tasks}, TASK_TYPE asks for {task.value}",
        hint=f"models for {task.value}: {others}",
    )


def _unknown(model_name: str, candidates: list[Recipe]) -> ConfigError:
    spellings = {spelling: recipe.name for recipe in candidates for spelling in spellings_of(recipe)}
    close = difflib.get_close_matches(_plain(model_name), spellings, n=1, cutoff=0.5)
    suggestion = f"; did you mean {spellings[close[0]]!r}?" if close else ""
    return ConfigError(
        f"MODEL_NAME={model_name!r} is unknown{suggestion}", hint=f"known models: {_names(candidates) or 'none yet'}"
    )


def _names(recipes: Iterable[Recipe]) -> str:
    return ", ".join(dict.fromkeys(recipe.name for recipe in recipes))


def spellings_of(recipe: Recipe) -> set[str]:
    """Its name and aliases, as `_plain` writes them."""
    return {_plain(name) for name in (recipe.name, *recipe.aliases)}


@functools.cache
def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe, in the order of task folders and file names."""
    return tuple(_read(path) for path in sorted(CONFIGS.glob("*/*.yaml")))


def _read(path: Path) -> Recipe:
    text = path.read_text()
    summary = text.partition("\n")[0].removeprefix("#").strip()
    return Recipe(name=path.stem, summary=summary, **yaml.safe_load(text))


def _plain(name: str) -> str:
    """``faster-rcnn_r50_fpn``, ``faster-rcnn-r50-fpn`` and ``Faster_RCNN_R50_FPN`` are one name."""
    return name.strip().lower().replace("_", "-")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Lists the models.")
    parser.add_argument("--json", action="store_true", help="for machines")
    if parser.parse_args().json:
        rows = [recipe.model_dump(mode="json") for recipe in all_recipes()]
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    _print_table()


def _print_table() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Recipes", caption="scores: upstream's, on the data set named", box=box.SIMPLE, padding=(0, 1))
    for heading in ("model", "task", "published", "params", "input", "weights"):
        table.add_column(heading, no_wrap=True)
    for recipe in all_recipes():
        score, size = recipe.published.score, "x".join(map(str, recipe.defaults.imgsz))
        published = f"{score[1]:.1f} {score[0]} {recipe.published.dataset}" if score else "-"
        params, licence = f"{recipe.published.params_m} M", recipe.weights.license if recipe.weights else "none"
        table.add_row(recipe.name, recipe.task.value, published, params, size, licence)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

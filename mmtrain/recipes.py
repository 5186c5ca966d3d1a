"""The models one can ask for: one YAML file each under ``configs/``. ``python -m mmtrain.recipes`` lists them."""

from __future__ import annotations

import argparse
import difflib
import functools
from pathlib import Path
from typing import Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field

from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

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
    lr_scheduler: Literal["step", "cosine", "linear", "constant"]
    lr_final_ratio: float
    warmup_epochs: float
    warmup_ratio: float
    mosaic: float
    mixup: float
    fliplr: float
    ema: bool
    backbone_frozen_stages: int
    norm_eval: bool


class Published(_Frozen):
    """Upstream's numbers on COCO val2017, in points, and the size with 80 classes."""

    box_ap: float
    mask_ap: float | None = None
    params_m: float


class Recipe(_Frozen):
    """One model: where its upstream configuration lies and what of it depends on the data."""

    name: str
    summary: str
    task: Task
    base: str = Field(pattern=r"^mm(det|seg|pose)::.+\.py$")
    aliases: tuple[str, ...]
    class_slots: tuple[str, ...]
    """Dotted paths in the configuration that hold the number of classes: every one, or boxes vanish silently."""
    primary_metric: str
    letterbox: bool
    weights: Weights
    defaults: Defaults
    published: Published
    source: str


def load_recipe(model_name: str, task: Task | None = None) -> Recipe:
    """The recipe of a model name in any of its spellings.

    Raises:
        ConfigError: unknown model, or a model for another task than the one asked for.
    """
    spellings = {spelling: recipe for recipe in all_recipes() for spelling in spellings_of(recipe)}
    recipe = spellings.get(_plain(model_name))
    if recipe is None:
        close = difflib.get_close_matches(_plain(model_name), spellings, n=1, cutoff=0.5)
        suggestion = f"; did you mean {spellings[close[0]].name!r}?" if close else ""
        known = ", ".join(recipe.name for recipe in all_recipes())
        raise ConfigError(f"MODEL_NAME={model_name!r} is unknown{suggestion}", hint=f"known models: {known}")
    if task is not None and task is not recipe.task:
        fitting = ", ".join(other.name for other in all_recipes() if other.task is task) or "none yet"
        raise ConfigError(
            f"MODEL_NAME={model_name!r} does {recipe.task.value}, TASK_TYPE asks for {task.value}",
            hint=f"models for {task.value}: {fitting}",
        )
    return recipe


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

    table = Table(title="Recipes", caption="AP: upstream's numbers on COCO val2017", box=box.SIMPLE, padding=(0, 1))
    for heading in ("model", "task", "box AP", "mask AP", "params", "input", "licence"):
        table.add_column(heading, no_wrap=True)
    for recipe in all_recipes():
        published, size = recipe.published, "x".join(map(str, recipe.defaults.imgsz))
        mask_ap = "" if published.mask_ap is None else f"{published.mask_ap}"
        task, params = recipe.task.value.removeprefix("object_"), f"{published.params_m} M"
        table.add_row(recipe.name, task, f"{published.box_ap}", mask_ap, params, size, recipe.weights.license)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

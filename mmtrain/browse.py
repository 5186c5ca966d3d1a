"""``python -m mmtrain.browse <job folder or data set> --count 24``: what the model really sees, before it trains.

Pictures after the recipe's augmentation with boxes, masks, keypoints and names: browse.png to glance at, browse.html
to look closely.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from converters import annotation_file_names, write_conversion
from mmtrain.choices import AUGMENTATIONS
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.fetch import fetch
from mmtrain.datasets.preflight import preflight
from mmtrain.display import Display
from mmtrain.machine import look_at_machine
from mmtrain.plan import make_plan
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from mmtrain.request_check import check_request
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import TOOL_ERRORS, ConfigError, DatasetError, tell
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import TASK_ALIASES, Task

OVERRIDES = ("imgsz", *AUGMENTATIONS)


class Source(NamedTuple):
    """Whose pictures: a complete configuration, or the file that holds it, and what to call it."""

    config: dict[str, Any] | Path
    model: str
    data: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws, says where it is, and returns the exit code: 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        sheet, page = browse(options)
    except TOOL_ERRORS as error:
        return tell(error)
    print(f"{sheet}\n{page}")
    return 0


def browse(options: argparse.Namespace) -> tuple[Path, Path]:
    """Returns the paths of browse.png and browse.html.

    Raises:
        ConfigError, DatasetError: nothing that could be trained on.
    """
    from mmtrain.reports.browse import write_browse

    with tempfile.TemporaryDirectory() as scratch:
        is_job = (options.source / "plan.json").exists()
        source = of_job(options) if is_job else of_dataset(options, Path(scratch))
        out = options.out or (options.source / "browse" if is_job else Path(f"browse-{source.data}"))
        pictures = Path(scratch) / "pictures"
        shown = _show(source, pictures, options)
        augmented = options.augment and options.split == "train"
        how = "after augmentation" if augmented else "without augmentation"
        return write_browse(
            shown, pictures, out, title=f"{source.model} on {source.data}", subtitle=f"{options.split} split, {how}"
        )


def of_job(options: argparse.Namespace) -> Source:
    """A job's own config.py: what it trained with, also after an edit by hand.

    Raises:
        ConfigError: the job ended before its configuration was built, or options that only a data set can have.
    """
    folder, asked = (
        options.source,
        [name for name in ("model", "task", *OVERRIDES) if getattr(options, name) is not None],
    )
    if asked:
        raise ConfigError(
            f"{folder} is a job and has decided already: --{', --'.join(asked)}", hint="give its data set instead"
        )
    if not (folder / "config.py").exists():
        raise ConfigError(f"{folder} has no config.py: it never came to its training", hint="give its data set instead")
    plan, job = (orjson.loads((folder / name).read_bytes()) for name in ("plan.json", "job.json"))
    return Source(folder / "config.py", plan["recipe"], job["dataset"]["id"])


def of_dataset(options: argparse.Namespace, scratch: Path) -> Source:
    """A DICE folder, taken the way that a training takes it.

    Raises:
        ConfigError, DatasetError: as a training would.
    """
    recipe = choose_recipe(options.source, options.model, TASK_ALIASES.get(options.task))
    config = _request(options)
    ref = DatasetRef(id=options.source.resolve().name, path=str(options.source), version_hash=None)
    spec = TrainSpec(job_id="browse", task=recipe.task, model_name=recipe.name, dataset=ref, config=config)
    machine = look_at_machine({"CUDA_VISIBLE_DEVICES": ""})
    check_request(config, recipe, machine)
    with Display("checking", unit="images") as display:
        fetched = fetch(ref, recipe.task, Settings.from_env(os.environ), display)
        conversion, findings = preflight(fetched, recipe.task, display)
    findings.raise_if_blocked()
    write_conversion(conversion, scratch)
    plan = make_plan(
        spec,
        recipe,
        machine,
        class_names=conversion.class_names,
        profile=findings.profile,
        weights_file=None,
        keypoints=conversion.keypoints,
    )
    from mmtrain.engine.fit import upstream_config  # the heavy half, only now: what is wrong is said at once

    files = DatasetFiles(images=fetched.root, train=scratch / "train.json", val=scratch / "val.json", test=None)
    return Source(build_config(upstream_config(recipe), recipe, plan, files, scratch), recipe.name, ref.id)


def _request(options: argparse.Namespace) -> TrainConfig:
    values = {name: getattr(options, name) for name in OVERRIDES if getattr(options, name) is not None}
    try:
        return TrainConfig(**values, seed=options.seed, device="cpu", pretrained=False)
    except ValidationError as error:
        problems = [f"--{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ConfigError.of_problems("the options cannot be honoured", problems) from error


def choose_recipe(folder: Path, model: str | None, task: Task | None) -> Recipe:
    """The one asked for, else the smallest for the task; the task is what the folder's annotations are for.

    Raises:
        ConfigError: unknown model, or none for the task.
        DatasetError: annotations for no task that has a model.
    """
    if model is not None:
        return load_recipe(model, task)
    tasks = [known for known in Task if task in (None, known) and any(r.task is known for r in all_recipes())]
    if not tasks:
        raise ConfigError(f"no model does {task}", hint="python -m mmtrain.recipes lists them")
    for known in tasks:
        if any((folder / name).is_file() for name in annotation_file_names(known.value)):
            return min((r for r in all_recipes() if r.task is known), key=lambda recipe: recipe.published.params_m)
    raise DatasetError(
        f"{folder} is neither a job (no plan.json) nor a data set for {' or '.join(known.value for known in tasks)}",
        hint="give a job's folder, or a folder with annotations_detection.json or the like; "
        "COCO files become one by `python -m converters FOLDER FOLDER --to dice`",
    )


def _show(source: Source, pictures: Path, options: argparse.Namespace) -> Any:
    from mmtrain import compat

    compat.apply()
    from mmengine.config import Config

    from mmtrain.engine.browse import show_config
    from mmtrain.engine.stream import reach_images

    config = Config.fromfile(source.config) if isinstance(source.config, Path) else Config(source.config)
    reach_images(config, Settings.from_env(os.environ), pictures.with_name("stream_cache"))
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools talks while it reads
        return show_config(
            config, pictures, split=options.split, augment=options.augment, count=options.count, seed=options.seed
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmtrain.browse", description="Shows what the model sees: pictures after augmentation."
    )
    parser.add_argument("source", type=Path, help="job folder, or a data set in DICE")
    parser.add_argument("--count", type=_positive, default=24, help="pictures (default: 24)")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="val is never augmented")
    parser.add_argument("--no-augment", dest="augment", action="store_false", help="the pipeline of evaluation")
    parser.add_argument("--seed", type=int, default=42, help="which pictures, and what happens to them")
    parser.add_argument("--out", type=Path, help="folder for browse.png and browse.html")
    only = parser.add_argument_group("a data set only", "a job has its own")
    only.add_argument("--model", help="recipe (default: the smallest for the task)")
    only.add_argument("--task", choices=TASK_ALIASES, help="default: what the annotations are for")
    only.add_argument("--imgsz", type=_size, help="input size: 640, or 1333,800 (width, height)")
    for name in OVERRIDES[1:]:
        only.add_argument(f"--{name}", type=float, help="as in CONFIG (default: the recipe's)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _size(text: str) -> tuple[int, int]:
    sides = [int(part) for part in text.split(",")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor width,height")
    return sides[0], sides[-1]


if __name__ == "__main__":
    sys.exit(main())

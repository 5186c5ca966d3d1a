"""A model out of a checkpoint of ours or of upstream's, ready to look at pictures. Nothing in the file is run.

The architecture is the recipe's, built by the code of this repository for the checkpoint's classes and size. Of the
configuration in the file only numbers are taken, and every tensor of the model must come from the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from pydantic import BaseModel, ConfigDict
from torch import nn

from converters.keypoints import KeypointSchema, SchemaError, default_schema, parse_schema
from converters.pose_files import write_layout
from mmtrain import compat
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.config.text import read_values, with_numbers_of
from mmtrain.datasets.profile import nothing_known
from mmtrain.engine.order import ModelFacts, ModelSource
from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.start import classes_of, fitting
from mmtrain.machine import Machine
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import Recipe, load_recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import CheckpointError, ConfigError
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.tasks import Task

SHOWN_NAMES = 5
COCO_PERSON = ("person",)


class Preprocessing(BaseModel):
    """How a picture becomes the model's input, for who does it elsewhere. Sizes are (width, height) in pixels."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    """On the 0..255 scale, in the order of `colour_order`; subtracted."""
    std: tuple[float, ...]
    """Divided by."""
    colour_order: Literal["RGB", "BGR"]
    """That the network sees."""
    size_wh: tuple[int, int]
    resize: Literal["letterbox", "fit", "centred_letterbox", "crop"]
    """letterbox: as large as fits, padded to the size on the right and below. fit: as large as fits, both sides padded
    to multiples. centred_letterbox: warped, with equal borders (RTMO). crop: each given box, warped (top-down)."""
    pad_value: tuple[float, ...]
    """Of the pixels beside the picture, before normalisation."""
    size_multiple: int
    """To which both sides are padded after normalisation, with zeros; 1: not at all."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and what is known of it."""

    model: nn.Module
    cfg: Config
    """A whole MMEngine configuration; `cfg.test_dataloader.dataset.pipeline` is what it was validated with."""
    plan: TrainPlan
    """As if it were trained now; of its numbers only those about model and input mean anything."""
    recipe: Recipe
    task: Task
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    """Of each class in the data set it was trained on; 0, 1, 2... where the file does not say."""
    keypoints: KeypointSchema | None
    """Pairs count from 1."""
    size_wh: tuple[int, int]
    preprocessing: Preprocessing
    description: dict[str, Any]
    """The trainer's own, of a checkpoint of ours; else empty."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def load_source(source: ModelSource) -> LoadedModel:
    """`load_model` as an order asks for it. Raises: as there."""
    return load_model(source.path, **source.model_dump(exclude={"path"}))


def load_model(
    checkpoint: Path,
    *,
    device: str | torch.device = "cpu",
    name: str = "",
    model_name: str | None = None,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    keypoints: dict[str, Any] | None = None,
    size_wh: tuple[int, int] | None = None,
) -> LoadedModel:
    """The model of a checkpoint.

    Args:
        device: torch's word, or our own (``cpu``, ``0``).
        name: what to call the file in messages; by default its path.
        model_name: the recipe of a checkpoint that does not say it; one of ours has to be of the same.
        task: as `model_name`.
        class_names: in the model's order, for a checkpoint that does not say them.
        keypoints: {names, skeleton, flip_pairs} of a pose model, likewise.
        size_wh: another input size than the one it was trained with.

    Raises:
        CheckpointError: no checkpoint, another model's, or one that does not say enough.
        ConfigError: a model or a size that there is not.
    """
    compat.apply()
    asked = ModelSource(
        path=checkpoint,
        name=name or str(checkpoint),
        device="",
        model_name=model_name,
        task=task,
        class_names=None if class_names is None else tuple(class_names),
        keypoints=keypoints,
        size_wh=size_wh,
    )
    read = _read(asked)
    recipe, said, schema = read.recipe, read.said, read.schema
    compat.import_framework(recipe.base.partition("::")[0])
    plan = _plan(recipe, read.names, schema, read.size_wh)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        cfg = _config(recipe, plan, schema, Path(folder))
        if said and read.size_wh == read.trained_wh:
            cfg = Config(with_numbers_of(cfg.to_dict(), {"model": said.get("model", {})}), format_python_code=False)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
    _load(read.file, model, asked.name, recipe, read.names)
    model.cfg = cfg  # mmdeploy and mm*'s own tools look for it there
    model.dataset_meta = {"classes": read.names}
    return LoadedModel(
        model=model.to(_device(device)).eval(),
        cfg=cfg,
        plan=plan,
        recipe=recipe,
        task=recipe.task,
        class_names=read.names,
        class_ids=read.class_ids,
        keypoints=schema,
        size_wh=plan.imgsz.value,
        preprocessing=_preprocessing(cfg, recipe, plan.imgsz.value),
        description={key: value for key, value in read.description.items() if key != "config"},
    )


def facts_of(source: ModelSource) -> ModelFacts:
    """What a checkpoint says of itself; no model is built. Raises: as `load_model`."""
    compat.apply()
    read = _read(source)
    epoch = read.description.get("epoch")
    return ModelFacts(
        recipe=read.recipe.name,
        task=read.recipe.task,
        class_names=read.names,
        class_ids=read.class_ids,
        keypoint_names=read.schema.names if read.schema else None,
        size_wh=read.size_wh,
        primary_metric=str(read.description.get("primary_metric") or read.recipe.primary_metric),
        epoch=epoch if isinstance(epoch, int) else None,
        trained_on_sha256=_meta(read.description, "dataset").get("annotations_sha256"),
    )


@dataclass(frozen=True)
class _Read:
    """What a checkpoint and whoever names it say together."""

    file: dict[str, Any]
    description: dict[str, Any]
    recipe: Recipe
    names: tuple[str, ...]
    schema: KeypointSchema | None
    said: dict[str, Any]
    """The configuration in the file."""
    size_wh: tuple[int, int]
    trained_wh: tuple[int, int] | None

    @property
    def class_ids(self) -> tuple[int, ...]:
        ids = _meta(self.description, "dataset").get("original_class_ids") or range(len(self.names))
        return tuple(place if number is None else int(number) for place, number in enumerate(ids))


def _read(source: ModelSource) -> _Read:
    file = load_checkpoint_safely(source.path, source.name)
    description = _description(file)
    recipe = _recipe(description, source.model_name, source.task, source.name)
    names = _class_names(file, recipe, source.class_names, source.name)
    said = read_values(str(description.get("config", "")))
    trained = description.get("input_size_wh")
    trained_wh = (int(trained[0]), int(trained[1])) if trained else None
    return _Read(
        file=file,
        description=description,
        recipe=recipe,
        names=names,
        schema=_keypoints(said, description, source.keypoints, recipe),
        said=said,
        size_wh=source.size_wh or trained_wh or recipe.defaults.imgsz,
        trained_wh=trained_wh,
    )


def _device(device: str | torch.device) -> torch.device:
    return torch.device(f"cuda:{device}" if isinstance(device, str) and device.isdigit() else device)


def _meta(holder: Any, key: str) -> dict[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _description(file: dict[str, Any]) -> dict[str, Any]:
    return _meta(_meta(file, "meta"), "trainer")


def _recipe(description: dict[str, Any], model_name: str | None, task: Task | None, shown: str) -> Recipe:
    said = description.get("recipe")
    if not isinstance(said, str):
        if model_name is None:
            raise CheckpointError(
                f"{shown} does not say which model it is of", hint="set MODEL_NAME (`python -m mmtrain.recipes`)"
            )
        return load_recipe(model_name, task)
    recipe = load_recipe(said, Task(description["task"]))
    if model_name is not None and load_recipe(model_name, recipe.task) != recipe:
        raise CheckpointError(
            f"{shown} is a checkpoint of {said}, MODEL_NAME asks for {model_name}", hint="leave MODEL_NAME out"
        )
    if task not in (None, recipe.task):
        assert task is not None
        hint = "leave TASK_TYPE out"
        raise ConfigError(f"{shown} does {recipe.task.value}, TASK_TYPE asks for {task.value}", hint=hint)
    return recipe


def _class_names(file: dict[str, Any], recipe: Recipe, asked: Sequence[str] | None, shown: str) -> tuple[str, ...]:
    said = classes_of(file)
    if said is not None and asked is not None and len(said) != len(asked):
        raise CheckpointError(
            f"{shown} has {len(said)} classes, class_names has {len(asked)}", hint="leave class_names out"
        )
    names = tuple(asked) if asked is not None else said
    if names is None and recipe.task is Task.POSE:
        return COCO_PERSON
    if names is None:
        raise CheckpointError(f"{shown} does not name its classes", hint="set CONFIG class_names, in the model's order")
    return names


def _keypoints(
    said: dict[str, Any], description: dict[str, Any], asked: dict[str, Any] | None, recipe: Recipe
) -> KeypointSchema | None:
    if recipe.task is not Task.POSE:
        return None
    if asked is not None:
        try:
            return parse_schema(asked)
        except SchemaError as error:
            raise ConfigError(f"CONFIG keypoints: {error}", hint="{names, skeleton, flip_pairs}") from error
    names = description.get("keypoints")
    if not names:
        return default_schema(17)
    layout = _meta(_meta(_meta(said, "val_dataloader"), "dataset"), "metainfo")
    points = list(_meta(layout, "keypoint_info").values())
    number = {name: place for place, name in enumerate(names, start=1)}
    swaps = [(number[p["name"]], number[p["swap"]]) for p in points if p.get("swap") in number]
    links = [link["link"] for link in _meta(layout, "skeleton_info").values()]
    return KeypointSchema(
        tuple(names),
        tuple((number[start], number[end]) for start, end in links),
        tuple(pair for pair in swaps if pair[0] < pair[1]),
    )


def _plan(recipe: Recipe, names: tuple[str, ...], schema: KeypointSchema | None, size: tuple[int, int]) -> TrainPlan:
    spec = TrainSpec(
        job_id="model",
        task=recipe.task,
        model_name=recipe.name,
        dataset=DatasetRef(id="none"),
        config=TrainConfig(pretrained=False, imgsz=size, device="cpu", workers=0),
    )
    return make_plan(
        spec,
        recipe,
        Machine(cores=1, gpus=(), shm_free_bytes=0),
        class_names=names,
        profile=nothing_known(len(names)),
        weights_file=None,
        keypoints=schema,
    )


def _config(recipe: Recipe, plan: TrainPlan, schema: KeypointSchema | None, folder: Path) -> Config:
    from mmtrain.engine.fit import runnable, upstream_config

    files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "val.json", test=None)
    if schema is not None:
        write_layout(plan.class_names[0], schema, folder)
    return runnable(build_config(upstream_config(recipe), recipe, plan, files, folder))


def _load(file: dict[str, Any], model: nn.Module, shown: str, recipe: Recipe, names: tuple[str, ...]) -> None:
    start = fitting(file, model, name=shown, recipe=recipe.name, class_names=names, shapes_with_one_more=lambda: {})
    lacking = [*start.told.reinitialised, *start.told.missing]
    if lacking:
        first = ", ".join(lacking[:SHOWN_NAMES])
        raise CheckpointError(
            f"{len(lacking)} of the {start.told.total} tensors of {recipe.name} for {len(names)} classes are not in "
            f"{shown}, or have another shape there: {first}",
            hint="class_names must have as many names as the model has classes, in its order",
        )
    model.load_state_dict(start.state, strict=False)


def _preprocessing(cfg: Config, recipe: Recipe, size: tuple[int, int]) -> Preprocessing:
    facts = cfg.model.data_preprocessor
    mean = tuple(float(value) for value in facts.get("mean") or (0.0, 0.0, 0.0))
    std = tuple(float(value) for value in facts.get("std") or (1.0, 1.0, 1.0))
    resize, grey, multiple = "fit", (0.0, 0.0, 0.0), int(facts.get("pad_size_divisor") or 1)
    kinds = {step["type"]: step for step in cfg.test_dataloader.dataset.pipeline}
    if "TopdownAffine" in kinds:
        resize = "crop"
    elif "BottomupResize" in kinds:
        resize, grey = "centred_letterbox", tuple(map(float, kinds["BottomupResize"]["pad_val"]))
    elif recipe.letterbox:
        resize = "letterbox"
        grey = tuple(map(float, (kinds.get("Pad") or kinds["FixShapeResize"])["pad_val"]["img"]))
    if recipe.task is Task.SEMANTIC:
        multiple = int(facts["test_cfg"]["size_divisor"])
    return Preprocessing(
        mean=mean,
        std=std,
        colour_order="RGB" if facts.get("bgr_to_rgb") else "BGR",
        size_wh=size,
        resize=resize,
        pad_value=grey,
        size_multiple=multiple,
    )

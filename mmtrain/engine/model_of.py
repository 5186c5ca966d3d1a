"""A model out of a checkpoint of ours or of upstream's, ready to look at pictures. Nothing in the file is run.

The architecture is the recipe's, built by the code of this repository for the checkpoint's classes and size. Of the
configuration in the file only numbers are taken, and every tensor of the model must come from the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from converters.keypoints import KeypointSchema
from converters.pose_files import write_layout
from mmtrain import compat
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.config.text import with_numbers_of
from mmtrain.datasets.profile import nothing_known
from mmtrain.engine.order import ModelSource
from mmtrain.engine.said import said_of
from mmtrain.engine.start import fitting
from mmtrain.machine import Machine
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import Recipe
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import CheckpointError
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.tasks import Task

SHOWN_NAMES = 5


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
    said = said_of(asked)
    recipe, schema = said.recipe, said.schema
    compat.import_framework(recipe.base.partition("::")[0])
    plan = _plan(recipe, said.names, schema, said.size_wh)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        cfg = _config(recipe, plan, schema, Path(folder))
        if said.config and said.size_wh == said.trained_wh:
            numbers = {"model": said.config.get("model", {})}
            cfg = Config(with_numbers_of(cfg.to_dict(), numbers), format_python_code=False)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
    _load(said.file, model, asked.name, recipe, said.names)
    model.cfg = cfg  # mmdeploy and mm*'s own tools look for it there
    model.dataset_meta = {"classes": said.names}
    return LoadedModel(
        model=model.to(_device(device)).eval(),
        cfg=cfg,
        plan=plan,
        recipe=recipe,
        task=recipe.task,
        class_names=said.names,
        class_ids=said.class_ids,
        keypoints=schema,
        size_wh=plan.imgsz.value,
        description={key: value for key, value in said.description.items() if key != "config"},
    )


def _device(device: str | torch.device) -> torch.device:
    return torch.device(f"cuda:{device}" if isinstance(device, str) and device.isdigit() else device)


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

"""Every recipe on tiny drawn data, through the code that jobs use: builds, trains, learns, saves, loads, predicts."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from mmtrain import compat
from mmtrain.config.build import build_config
from mmtrain.config.slots import parts
from mmtrain.engine.checkpoints import describe, publish_weights
from mmtrain.engine.fit import Fitted, fit, runnable, upstream_config
from mmtrain.engine.infer import load_weights
from mmtrain.engine.stopping import StopRequest
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import Recipe, all_recipes
from tests.matrix.heads import BY_CLASSES, BY_POINTS, Outputs, class_layers, expected_outputs, outputs_of
from tests.matrix.rows import NEGATIVES, POSITIVES, ROWS, Drawn, prepare
from tests.unit.test_plan import CPU
from tests.unit.test_recipes import COUNTS
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.tasks import Task

REQUEST: dict[str, Any] = {"epochs": 1, "batch": 2, "pretrained": False, "workers": 0, "device": "cpu", "mosaic": 0}
RECIPES = all_recipes()


class Learning(NamedTuple):
    """How a model is taught one batch: the loss of the last step is to be lower than in any of the first ones."""

    lr: float
    steps: int
    first: int


LEARNING = (
    # Upstream weights RTMDet's losses by how well its boxes fit already. The boxes of the small ones (exp_on_reg false)
    # fit nothing at first: their losses rise from zero before they fall.
    ("rtmdet-tiny", Learning(1e-3, 24, 12)),
    ("rtmdet-s", Learning(1e-3, 24, 12)),
    ("rtmdet-ins-*", Learning(1e-3, 8, 1)),
    ("rtmdet-*", Learning(1e-3, 5, 1)),
    ("yolox-*", Learning(1e-3, 8, 1)),
    # Which points answer for which pose is decided anew in each step: the loss jumps by a tenth on its way down.
    ("rtmo-*", Learning(4e-3, 16, 1)),
    ("*", Learning(1e-4, 4, 1)),
)
LIGHT = {"nms_pre": 50, "max_per_img": 50, "num_queries": 50, "num_dn_queries": 5}


class Trained(NamedTuple):
    recipe: Recipe
    plan: TrainPlan
    config: Config
    fitted: Fitted
    folder: Path


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    compat.apply()
    for package in sorted({recipe.base.partition("::")[0] for recipe in RECIPES}):
        compat.import_framework(package)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Drawn]:
    return {task: prepare(tmp_path_factory.mktemp(task.value), task) for task in ROWS}


def plan_of(recipe: Recipe, drawn: Drawn) -> TrainPlan:
    config = TrainConfig(**REQUEST, imgsz=ROWS[recipe.task].imgsz)
    dataset = DatasetRef(id="d", path="/d")
    spec = TrainSpec(job_id="1", task=recipe.task, model_name=recipe.name, dataset=dataset, config=config)
    return make_plan(
        spec,
        recipe,
        CPU,
        class_names=drawn.conversion.class_names,
        profile=drawn.findings.profile,
        weights_file=None,
        keypoints=drawn.conversion.keypoints,
    )


def config_of(recipe: Recipe, plan: TrainPlan, drawn: Drawn, folder: Path) -> Config:
    base = upstream_config(recipe)
    make_light(base["model"])
    return runnable(build_config(base, recipe, plan, drawn.files, folder / "work"))


def make_light(model: dict[str, Any]) -> None:
    """Fewer regions and queries for the same layers; and an untrained model, sure of nothing, says something."""
    for part in parts(model):
        if "score_thr" in part:
            part["score_thr"] = 0.0
        if "min_bbox_size" in part:
            part["min_bbox_size"] = -1  # the first boxes are empty
        for key, most in LIGHT.items():
            if key in part:
                part[key] = min(part[key], most)
        if part.get("type") == "RandomSampler":
            part["num"] = min(part["num"], 16)


def ident(recipe: Recipe) -> str:
    return f"{recipe.task.value}-{recipe.name}"


@pytest.fixture(scope="module", params=RECIPES, ids=ident)
def trained(
    request: pytest.FixtureRequest, drawn: dict[Task, Drawn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    """Two iterations of training by the code that jobs use; kept for the tests of this recipe only."""
    recipe: Recipe = request.param
    folder = tmp_path_factory.mktemp(recipe.name)
    plan = plan_of(recipe, drawn[recipe.task])
    config = config_of(recipe, plan, drawn[recipe.task], folder)
    description = describe(plan, config.pretty_text, {}, "matrix")
    fitted = fit(config, plan, description, writer=None, stop=StopRequest(folder / "stop", os.getpid()))
    yield Trained(recipe, plan, config, fitted, folder)
    del fitted
    for file in (folder / "work").rglob("*.pth"):
        file.unlink()
    gc.collect()


def test_the_matrix_has_every_recipe() -> None:
    assert len(RECIPES) == sum(COUNTS.values()) == 44
    assert {recipe.task for recipe in RECIPES} == set(ROWS)


def test_two_iterations_have_finite_losses(trained: Trained) -> None:
    losses = {
        name: history.data[0]
        for name, history in trained.fitted.runner.message_hub.log_scalars.items()
        if name.startswith("train/") and "loss" in name
    }
    assert trained.fitted.runner.iter == trained.plan.iters_per_epoch.value == 2
    assert "train/loss" in losses
    assert all(len(values) == 2 and all(map(math.isfinite, values)) for values in losses.values()), losses


def test_the_recipe_names_the_parts_of_its_model(trained: Trained) -> None:
    names = dict.fromkeys(name.partition(".")[0] for name, _ in trained.fitted.runner.model.named_parameters())
    assert trained.recipe.parts == tuple(names)


def test_every_head_has_the_right_number_of_outputs(trained: Trained, drawn: dict[Task, Drawn]) -> None:
    plan, model = trained.plan, trained.fitted.runner.model
    more, count, table = one_more(plan)
    config = config_of(trained.recipe, more, drawn[trained.recipe.task], trained.folder)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        larger = MODELS.build(config.model)
    layers = class_layers(model, larger)
    expected = {name: expected_outputs(name, table, count) for name in layers}
    assert layers
    assert {name: outputs_of(model.get_submodule(name)) for name in layers} == expected


def one_more(plan: TrainPlan) -> tuple[TrainPlan, int, dict[str, Outputs]]:
    """The plan with a class more, of a pose with a point more; how many it has; the layers that know."""
    if plan.keypoints is None:
        more = plan.model_copy(update={"class_names": (*plan.class_names, "one more")})
        return more, len(plan.class_names), BY_CLASSES
    names = plan.keypoints.names
    points = plan.keypoints.model_copy(update={"names": (*names, "one more")})
    return plan.model_copy(update={"keypoints": points}), len(names), BY_POINTS


def test_the_loss_falls_on_one_batch(trained: Trained) -> None:
    runner = trained.fitted.runner
    dataset = runner.train_dataloader.dataset
    batch = pseudo_collate([dataset[index] for index in range(POSITIVES)])
    learning = next(found for pattern, found in LEARNING if fnmatchcase(trained.recipe.name, pattern))
    losses = repeated(runner, batch, learning.lr, learning.steps)
    assert all(map(math.isfinite, losses))
    assert losses[-1] < max(losses[: learning.first]), losses
    assert all(weight.grad is not None for weight in runner.model.parameters() if weight.requires_grad)


def test_a_batch_without_objects_has_a_finite_loss(trained: Trained) -> None:
    if not ROWS[trained.recipe.task].negatives:
        return
    runner = trained.fitted.runner
    dataset = runner.train_dataloader.dataset
    batch = pseudo_collate([dataset[index] for index in range(POSITIVES, POSITIVES + NEGATIVES)])
    assert not any(len(sample.gt_instances) for sample in batch["data_samples"])
    [loss] = repeated(runner, batch, 1e-4, 1)
    assert math.isfinite(loss)
    idle = [name for name, weight in runner.model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert bool(idle) == trained.recipe.idle_without_objects, idle


def repeated(runner: Runner, batch: Any, lr: float, steps: int) -> list[float]:
    """Losses of as many steps on one batch, with the same random samples of anchors, regions and points in each."""
    runner.model.train()
    optimizer = torch.optim.AdamW(runner.model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        torch.manual_seed(0)
        data = runner.model.data_preprocessor(batch, training=True)
        loss, _ = runner.model.parse_losses(runner.model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_what_was_saved_loads_strictly_and_predicts_within_its_classes(trained: Trained) -> None:
    fitted, plan = trained.fitted, trained.plan
    best = trained.folder / "best.pth"
    publish_weights(
        fitted.best, best, describe(plan, trained.config.pretty_text, {}, "matrix"), {"epoch": fitted.best_epoch}
    )
    model = load_weights(fitted.runner, best)
    row = ROWS[plan.task]
    found = row.predict(fitted.runner, model, trained.config.val_dataloader, trained.folder / "found")
    best.unlink()
    row.check(found, plan)

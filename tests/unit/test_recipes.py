"""Every recipe file, without naming any: what holds for one holds for all."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmtrain import recipes
from mmtrain.recipes import CONFIGS, Recipe, all_recipes, load_recipe, spellings_of
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

RECIPES = all_recipes()
EVERY = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.task.value}-{recipe.name}")
COUNTS = {Task.DETECTION: 18, Task.INSTANCE: 8, Task.SEMANTIC: 12, Task.POSE: 6}
FOLDERS = {"detection": Task.DETECTION, "instance": Task.INSTANCE, "semantic": Task.SEMANTIC, "pose": Task.POSE}
PLATFORM_NAMES = {
    Task.DETECTION: (
        "faster-rcnn_r50_fpn", "faster-rcnn_r101_fpn", "retinanet_r50_fpn", "atss_r50_fpn", "cascade-rcnn_r50_fpn",
        "detr_r50", "dino-4scale_r50", "fcos_r50_fpn", "centernet_r18", "rtmdet_tiny", "rtmdet_s", "rtmdet_m",
        "rtmdet_l", "rtmdet_x", "faster-rcnn-r50", "faster-rcnn-r101", "retinanet-r50", "fcos-r50", "yolox-s",
        "yolox-m", "yolox-l", "rtmdet-s", "rtmdet-m", "rtmdet-l",
    ),
    Task.INSTANCE: ("mask-rcnn-r50", "mask-rcnn-r101", "mask2former_r50"),
    Task.SEMANTIC: (
        "fcn_r50-d8", "deeplabv3plus_r50-d8", "deeplabv3plus_r101-d8", "pspnet_r50-d8", "upernet_r50",
        "segformer_mit-b0", "segformer_mit-b2", "mask2former_r50", "bisenetv2", "ddrnet_23-slim",
    ),
    Task.POSE: ("rtmpose_t", "rtmpose_s", "rtmpose_m", "td-hm_hrnet-w32", "simplebaseline_r50", "rtmo_s"),
}  # fmt: skip
"""Of the models there are recipes for: the platform's capability lists and the mission's own (contract 3.5)."""


def test_every_file_is_a_recipe_of_its_folders_task() -> None:
    files = list(CONFIGS.rglob("*.yaml"))
    assert len(RECIPES) == len(files) == sum(COUNTS.values())
    assert {task: sum(recipe.task is task for recipe in RECIPES) for task in COUNTS} == COUNTS
    for file in files:
        assert load_recipe(file.stem, FOLDERS[file.parent.name]).name == file.stem


@EVERY
def test_the_weights_carry_their_hash_in_their_name(recipe: Recipe) -> None:
    if recipe.weights is not None:
        name = re.sub(r"_\d{8}(?=\.pth$)", "", recipe.weights.file_name)  # MMPose's newer ones end in their date
        assert name.endswith(f"-{recipe.weights.sha256[:8]}.pth")


@functools.cache
def upstream_models(folder: Path) -> list[dict[str, Any]]:
    """What upstream's model index says about the configurations of a folder."""
    texts = [path.read_text() for path in (*folder.glob("*.yml"), *folder.glob("*.yaml"))]
    return [model for text in texts for model in yaml.load(text, yaml.CSafeLoader)["Models"]]


@EVERY
def test_weights_and_score_are_upstreams(recipe: Recipe) -> None:
    package, _, relative = recipe.base.partition("::")
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    base = Path(found.origin).parent / ".mim" / "configs" / relative
    assert base.is_file()
    entries = [model for model in upstream_models(base.parent) if Path(model["Config"]).name == base.name]
    if recipe.weights is None:
        assert not any(model.get("Weights") for model in entries)
        assert recipe.published.score is None
        return
    entry = next(model for model in entries if model.get("Weights") == recipe.weights.url)
    results = entry["Results"] if isinstance(entry["Results"], list) else [entry["Results"]]
    published = {name: value for result in results for name, value in result["Metrics"].items()}
    assert recipe.published.miou == published.get("mIoU")
    if recipe.task is Task.SEMANTIC:
        assert recipe.published.dataset == results[0]["Dataset"]
    if recipe.task is Task.POSE:
        assert [result["Dataset"] for result in results] == [recipe.published.dataset]
        assert recipe.published.keypoint_ap == pytest.approx(100 * published["AP"])  # a share there, points here
    if "box AP" in published:
        assert recipe.published.box_ap == published["box AP"]
        assert recipe.published.mask_ap == (published.get("mask AP") if recipe.task is Task.INSTANCE else None)


@EVERY
def test_every_spelling_finds_the_recipe(recipe: Recipe) -> None:
    for name in (recipe.name, recipe.name.replace("-", "_"), recipe.name.upper(), *recipe.aliases):
        assert load_recipe(name, recipe.task) is recipe


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in PLATFORM_NAMES.items() for name in names])
def test_the_platforms_names_are_known(task: Task, name: str) -> None:
    assert load_recipe(name, task).task is task


@EVERY
def test_a_recipe_has_a_summary(recipe: Recipe) -> None:
    assert len(recipe.summary) > 20


@EVERY
def test_defaults_are_for_fine_tuning(recipe: Recipe) -> None:
    """Smaller steps than from scratch, and a warm-up; sizes that the model can take."""
    defaults = recipe.defaults
    assert defaults.lr0 <= defaults.lr0_from_scratch
    assert defaults.warmup_epochs > 0
    if recipe.letterbox:
        assert all(side % recipe.size_multiple == 0 for side in defaults.imgsz)


@pytest.mark.parametrize("task", list(Task))
def test_no_two_recipes_of_a_task_share_a_spelling(task: Task) -> None:
    spellings = [spelling for recipe in RECIPES if recipe.task is task for spelling in spellings_of(recipe)]
    assert len(spellings) == len(set(spellings))


def test_an_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rtmdet-tiny'") as caught:
        load_recipe("rtmdet-tinny")
    assert "faster-rcnn-r50" in caught.value.hint
    with pytest.raises(ConfigError, match="did you mean 'mask-rcnn-r50'") as caught:
        load_recipe("mask-rcnn-r5", Task.INSTANCE)
    assert "rtmdet-tiny" not in caught.value.hint


def test_a_model_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match="does object_detection, TASK_TYPE asks for instance_segmentation") as caught:
        load_recipe("rtmdet-tiny", Task.INSTANCE)
    assert "mask-rcnn-r50" in caught.value.hint


def test_one_name_for_two_tasks_is_resolved_by_the_task_and_never_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = load_recipe("mask2former-r50", Task.INSTANCE)
    semantic = instance.model_copy(update={"task": Task.SEMANTIC})
    monkeypatch.setattr(recipes, "all_recipes", lambda: (instance, semantic))
    assert load_recipe("mask2former_r50", Task.INSTANCE) is instance
    assert load_recipe("mask2former_r50", Task.SEMANTIC) is semantic
    with pytest.raises(ConfigError, match="instance_segmentation and semantic_segmentation") as caught:
        load_recipe("mask2former-r50")
    assert "TASK_TYPE" in caught.value.hint
    with pytest.raises(ConfigError, match="TASK_TYPE asks for object_detection"):
        load_recipe("mask2former-r50", Task.DETECTION)


def test_the_listing_for_machines_is_json_with_every_recipe() -> None:
    done = subprocess.run([sys.executable, "-m", "mmtrain.recipes", "--json"], capture_output=True, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == [recipe.name for recipe in RECIPES]


def test_the_listing_for_people_has_task_size_score_and_licence() -> None:
    done = subprocess.run([sys.executable, "-m", "mmtrain.recipes"], capture_output=True, check=True, text=True)
    line = next(line.split() for line in done.stdout.splitlines() if "mask-rcnn-r50" in line.split())
    assert line == [
        "mask-rcnn-r50",
        "instance_segmentation",
        "34.7",
        "mask",
        "AP",
        "COCO",
        "44.4",
        "M",
        "1333x800",
        "Apache-2.0",
    ]

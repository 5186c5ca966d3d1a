"""The configuration: plain dicts, one image size everywhere, nothing of ours named in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmtrain.config.build import DatasetFiles, build_config, set_slot
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from tests.unit.test_plan import FOUR_GPUS, plan_of

FILES = DatasetFiles(images=Path("/d"), train=Path("/j/train.json"), val=Path("/j/val.json"), test=None)
SIZES = {"scale", "size", "crop_size", "img_scale"}
BACKBONE = {"init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}, "norm_cfg": {"type": "SyncBN"}}


def base_of(recipe: Recipe) -> dict[str, Any]:
    """What upstream's configuration holds as far as we read it, with every class slot of the recipe at 80."""
    base: dict[str, Any] = {
        "default_scope": "mmdet",
        "visualizer": {"type": "DetLocalVisualizer"},
        "model": {"backbone": dict(BACKBONE), "neck": [{"norm_cfg": {"type": "SyncBN"}}]},
        "train_dataloader": {"batch_sampler": {"type": "AspectRatioBatchSampler"}},
        "optim_wrapper": {"optimizer": {"type": "X"}, "paramwise_cfg": {"norm_decay_mult": 0}, "clip_grad": None},
    }
    for slot in recipe.class_slots:
        *parents, last = slot.split(".")
        node = base
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = 80
    return base


def config_of(model: str = "rtmdet-tiny", **request: Any) -> dict[str, Any]:
    recipe = load_recipe(model)
    return build_config(base_of(recipe), recipe, plan_of(model, **request), FILES, Path("/j/work"))


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from walk(value)


RECIPES = pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)


@RECIPES
def test_one_image_size_reaches_every_transform(recipe: Recipe) -> None:
    config = config_of(recipe.name, imgsz=(320, 192), mosaic=0.5, mixup=0.5)
    pipelines = [config[f"{split}_dataloader"]["dataset"]["pipeline"] for split in ("train", "val", "test")]
    sizes = [step[key] for pipeline in pipelines for step in pipeline for key in SIZES & step.keys()]
    assert len(sizes) >= 5
    assert {tuple(sorted(size)) for size in sizes} == {(192, 320)}


@RECIPES
def test_every_class_slot_and_every_data_set_knows_the_classes(recipe: Recipe) -> None:
    config = config_of(recipe.name)
    for node in walk(config):
        assert node.get("num_classes", 2) == 2
        if "ann_file" in node and "pipeline" in node:
            assert node["metainfo"] == {"classes": ("a", "b")}


@RECIPES
def test_nothing_is_downloaded_and_nothing_of_ours_is_named(recipe: Recipe) -> None:
    text = repr(config_of(recipe.name))
    assert "torchvision://" not in text
    assert "mmtrain" not in text
    assert "trainer_sdk" not in text


def test_negative_images_stay_in_training() -> None:
    assert config_of()["train_dataloader"]["dataset"]["filter_cfg"] == {"filter_empty_gt": False, "min_size": 0}


def test_sync_bn_only_where_there_is_something_to_synchronise() -> None:
    assert "SyncBN" not in repr(config_of(sync_bn=True))
    assert "SyncBN" in repr(config_of(machine=FOUR_GPUS, device="0-3", batch=16, sync_bn=True))


def test_without_a_test_split_the_test_loop_reads_val() -> None:
    config = config_of()
    assert config["test_evaluator"]["ann_file"] == config["val_evaluator"]["ann_file"] == "/j/val.json"


@pytest.mark.parametrize("schedule", ["step", "cosine", "linear", "constant"])
def test_schedules_cover_the_training_and_nothing_after_it(schedule: str) -> None:
    plan = plan_of(epochs=10, lr_scheduler=schedule)
    total = plan.iters_per_epoch.value * 10
    warmup, *falls = config_of(epochs=10, lr_scheduler=schedule)["param_scheduler"]
    assert (warmup["begin"], warmup["end"]) == (0, plan.warmup_iters.value)
    assert len(falls) == (schedule != "constant")
    for fall in falls:
        assert fall.get("end", total) == total
        assert all(0 < milestone < total for milestone in fall.get("milestones", []))


def test_the_optimizer_keeps_upstreams_rules_per_parameter() -> None:
    wrapper = config_of(optimizer="SGD", lr0=0.1, momentum=0.8)["optim_wrapper"]
    assert wrapper["optimizer"] == {"type": "SGD", "lr": 0.1, "weight_decay": 1e-4, "momentum": 0.8}
    assert wrapper["paramwise_cfg"] == {"norm_decay_mult": 0}
    assert "clip_grad" not in wrapper


def test_ema_is_there_when_asked_for_and_not_otherwise() -> None:
    assert [hook["type"] for hook in config_of(ema=True)["custom_hooks"]] == ["EMAHook"]
    assert config_of(ema=False)["custom_hooks"] == []


def test_a_slot_that_does_not_exist_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(KeyError, match="no slot"):
        set_slot({"head": {"num_classes": 80}}, "head.num_class", 2)

"""The configuration of semantic segmentation: one size, one class count, what a batch needs, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.stream import StreamedImages
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from mmtrain.request_check import check_request
from tests.unit.test_config import FILES, base_of, every, walk
from tests.unit.test_plan import CPU, FOUR_GPUS, plan_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

SEMANTIC = every(Task.SEMANTIC)
POOLING = [recipe for recipe in all_recipes() if recipe.least_batch > 1]


def recipe_of(name: str) -> Recipe:
    return load_recipe(name, Task.SEMANTIC)


def config_of(recipe: Recipe, files: DatasetFiles = FILES, **request: Any) -> dict[str, Any]:
    return build_config(base_of(recipe), recipe, plan_of(recipe, **request), files, Path("/j/work"))


def pipeline(config: dict[str, Any], split: str = "train") -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = config[f"{split}_dataloader"]["dataset"]["pipeline"]
    return steps


@SEMANTIC
def test_one_size_for_resize_crop_padding_and_evaluation(recipe: Recipe) -> None:
    config = config_of(recipe, imgsz=(320, 200), scale=0.25)
    resize, crop = pipeline(config)[2:4]
    assert (resize["type"], resize["scale"], resize["ratio_range"]) == ("RandomResize", (320, 200), (0.75, 1.25))
    assert (crop["type"], crop["crop_size"]) == ("RandomCrop", (200, 320))  # height first
    for split in ("val", "test"):
        assert pipeline(config, split)[1] == {"type": "Resize", "scale": (320, 200), "keep_ratio": True}
    preprocessor = config["model"]["data_preprocessor"]
    assert preprocessor["size"] == (224, 320)  # whole cells of 32 pixels
    assert preprocessor["test_cfg"] == {"size_divisor": 32}
    assert (preprocessor["pad_val"], preprocessor["seg_pad_val"]) == (0, 255)


@SEMANTIC
def test_truth_stays_in_the_original_pictures_pixels_when_measured(recipe: Recipe) -> None:
    steps = [step["type"] for step in pipeline(config_of(recipe), "test")]
    assert steps == ["LoadImageFromFile", "Resize", "LoadAnnotations", "PackSegInputs"]
    assert config_of(recipe)["model"]["test_cfg"] == {"mode": "whole"}


@SEMANTIC
def test_weights_of_classes_follow_the_classes_or_go(recipe: Recipe) -> None:
    none_of_object = bool(recipe.class_weight_slots)
    default = [node["class_weight"] for node in walk(config_of(recipe)["model"]) if "class_weight" in node]
    assert all(weights == ([1.0, 1.0, 0.1] if none_of_object else None) for weights in default)
    asked = config_of(recipe, class_weights={"b": 3.0})["model"]
    weights = [node["class_weight"] for node in walk(asked) if "class_weight" in node]
    assert weights
    assert all(each == ([1.0, 3.0, 0.1] if none_of_object else [1.0, 3.0]) for each in weights)


def test_flips_and_no_change_of_size() -> None:
    config = config_of(recipe_of("segformer-b0"), fliplr=0.5, flipud=0.25, scale=0)
    assert pipeline(config)[2] == {"type": "Resize", "scale": (512, 512), "keep_ratio": True}
    flips = [(step["prob"], step["direction"]) for step in pipeline(config) if step["type"] == "RandomFlip"]
    assert flips == [(0.5, "horizontal"), (0.25, "vertical")]


def test_edges_are_drawn_from_what_the_model_sees_and_only_for_who_learns_them() -> None:
    steps = [step["type"] for step in pipeline(config_of(recipe_of("pidnet-s")))]
    assert steps[-2:] == ["GenerateEdge", "PackSegInputs"]
    with_edges = [recipe.name for recipe in all_recipes() if "GenerateEdge" in repr(config_of_any(recipe))]
    assert with_edges == ["pidnet-s"]


def config_of_any(recipe: Recipe) -> list[dict[str, Any]]:
    return pipeline(config_of(recipe)) if recipe.task is Task.SEMANTIC else []


def test_pictures_may_be_in_a_bucket_masks_are_here() -> None:
    images = StreamedImages(uri="s3://b/datasets/d", cache_dir=Path("/c"), cache_bytes=1)
    dataset = config_of(recipe_of("fcn-r50"), FILES.model_copy(update={"images": images}))["val_dataloader"]["dataset"]
    assert dataset["data_prefix"] == {"img_path": "s3://b/datasets/d", "seg_map_path": "/j/masks"}
    assert dataset["ann_file"] == "/j/masks/val.json"
    assert dataset["metainfo"] == {"classes": ("a", "b")}


def test_without_a_test_split_the_test_loop_reads_val() -> None:
    dataset = config_of(recipe_of("fcn-r50"))["test_dataloader"]["dataset"]
    assert dataset["ann_file"] == "/j/masks/val.json"


def test_only_resnets_are_told_to_freeze() -> None:
    assert config_of(recipe_of("upernet-r50"), backbone_frozen_stages=1)["model"]["backbone"]["frozen_stages"] == 1
    assert "frozen_stages" not in config_of(recipe_of("segformer-b0"))["model"]["backbone"]


@pytest.mark.parametrize("recipe", POOLING, ids=lambda recipe: recipe.name)
def test_a_batch_of_one_is_refused_where_statistics_come_from_the_batch(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=f"batch=1: {recipe.name} normalises"):
        check_request(TrainConfig(batch=1), recipe, CPU)
    with pytest.raises(ConfigError, match="batch=4") as caught:
        check_request(TrainConfig(batch=4, device="0-3"), recipe, FOUR_GPUS)
    assert "at least 2 images a step on each of 4 devices" in str(caught.value)
    with pytest.raises(ConfigError, match="batch=1"):
        plan_of(recipe, train_images=1)
    check_request(TrainConfig(batch=2), recipe, CPU)


def test_a_batch_of_one_is_taken_where_it_can_be_learnt_from() -> None:
    assert plan_of(recipe_of("segformer-b0"), batch=1).batch.value == 1


def test_a_single_image_left_over_is_left_out_and_steps_are_counted_without_it() -> None:
    recipe = recipe_of("pspnet-r50")
    odd, even = (plan_of(recipe, batch=4, train_images=images) for images in (9, 10))
    assert (odd.drop_last.value, odd.iters_per_epoch.value) == (True, 2)
    assert (even.drop_last.value, even.iters_per_epoch.value) == (False, 3)
    assert config_of(recipe, batch=4, train_images=9)["train_dataloader"]["drop_last"]
    assert not plan_of(recipe_of("segformer-b0"), batch=4, train_images=9).drop_last.value


def test_what_class_maps_cannot_do_is_refused_by_name() -> None:
    asked = TrainConfig(
        mosaic=0.5, copy_paste=1.0, class_weights="balanced", balanced_sampling=True, backbone_frozen_stages=0
    )
    with pytest.raises(ConfigError) as caught:
        check_request(asked, recipe_of("segformer-b0"), CPU)
    for name in ("mosaic", "copy_paste", "class_weights=balanced", "balanced_sampling", "backbone_frozen_stages"):
        assert name in str(caught.value)


@pytest.mark.parametrize(("asked", "name"), [("mIoU", "mIoU"), ("miou", "mIoU"), ("mAcc", "mAcc"), (None, "mIoU")])
def test_the_best_checkpoint_is_chosen_by_the_tasks_metric(asked: str | None, name: str) -> None:
    config = config_of(recipe_of("fcn-r50"), primary_metric=asked)
    checkpoint = config["default_hooks"]["checkpoint"]
    assert (checkpoint["save_best"], checkpoint["rule"]) == (name, "greater")
    assert config["val_evaluator"] == {"type": "IoUMetric", "iou_metrics": ["mIoU", "mDice"]}

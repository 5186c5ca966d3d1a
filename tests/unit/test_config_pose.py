"""Configurations of poses: any number of points in every place that holds it, at any size, left and right in order.

The bases are upstream's own files, so that what is changed in them is what a training would find there.
"""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import pytest

from converters.keypoints import COCO_NAMES, KeypointSchema, default_schema
from converters.pose_files import COCO_SIGMAS, USUAL_SIGMA, sigmas_of
from mmtrain.choices import training_samples
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.config.slots import parts
from mmtrain.config.words import pipeline_in_words
from mmtrain.datasets.recommend import recommend_imgsz
from mmtrain.plan import KeypointLayout, TrainPlan, make_plan
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from mmtrain.request_check import check_request
from tests.unit.test_plan import CPU, plan_of, profile_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.tasks import Task

FILES = DatasetFiles(images=Path("/d"), train=Path("/j/train.json"), val=Path("/j/val.json"), test=None)
POSES = [recipe for recipe in all_recipes() if recipe.task is Task.POSE]
EVERY = pytest.mark.parametrize("recipe", POSES, ids=lambda recipe: recipe.name)
TOP_DOWN = pytest.mark.parametrize("recipe", [r for r in POSES if not r.one_stage], ids=lambda recipe: recipe.name)
ARROW = KeypointSchema(("tip", "left_wing", "tail", "right_wing"), ((1, 2), (2, 3)), ((2, 4),))


def upstream(recipe: Recipe) -> dict[str, Any]:
    package, _, relative = recipe.base.partition("::")
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    base = runpy.run_path(str(Path(found.origin).parent / ".mim" / "configs" / relative))
    return {**base, "default_scope": "mmpose", "visualizer": {"type": "PoseLocalVisualizer"}}


def arrow_plan(recipe: Recipe, **request: Any) -> TrainPlan:
    return plan_of(recipe, **request).model_copy(update={"keypoints": KeypointLayout.of(ARROW)})


def config_of(recipe: Recipe, plan: TrainPlan) -> dict[str, Any]:
    return build_config(upstream(recipe), recipe, plan, FILES, Path("/j/work"))


def steps(config: dict[str, Any], split: str) -> list[dict[str, Any]]:
    pipeline: list[dict[str, Any]] = config[f"{split}_dataloader"]["dataset"]["pipeline"]
    return pipeline


@EVERY
@pytest.mark.parametrize("points", [4, 17])
def test_no_place_is_left_with_another_number_of_points(recipe: Recipe, points: int) -> None:
    plan = plan_of(recipe, points=points)
    config = config_of(recipe, plan)
    found = {part.get(key, points) for part in parts(config["model"]) for key in ("out_channels", "num_keypoints")}
    head = config["model"]["head"]
    assert head.get("out_channels", points) == head.get("num_keypoints", points) == points
    assert found <= {points, 256}  # 256: the channels of RTMO's neck
    for split in ("train", "val", "test"):
        info = config[f"{split}_dataloader"]["dataset"]["metainfo"]
        assert {len(info[key]) for key in ("keypoint_info", "joint_weights", "sigmas")} == {points}


@TOP_DOWN
def test_at_upstreams_size_the_codec_is_upstreams(recipe: Recipe) -> None:
    base = upstream(recipe)
    config = config_of(recipe, plan_of(recipe, imgsz=(192, 256)))
    assert config["model"]["head"]["decoder"] == base["codec"]
    kept = {key: value for key, value in base["model"]["head"].items() if key != "decoder"}
    assert {key: value for key, value in config["model"]["head"].items() if key in kept} == kept


@TOP_DOWN
def test_the_larger_size_has_upstreams_wider_spots(recipe: Recipe) -> None:
    decoder = config_of(recipe, plan_of(recipe, imgsz=(288, 384)))["model"]["head"]["decoder"]
    assert decoder["sigma"] == ((6.0, 6.93) if decoder["type"] == "SimCCLabel" else 3)


@EVERY
def test_one_size_reaches_every_transform_and_the_head(recipe: Recipe) -> None:
    config = config_of(recipe, plan_of(recipe, imgsz=(96, 64)))
    sizes = [part["input_size"] for part in parts(config) if "input_size" in part]
    assert len(sizes) >= 5
    assert set(sizes) == (
        {(96, 64), (64, 96)} if recipe.one_stage else {(96, 64)}
    )  # RTMO's test_cfg has the height first
    head = config["model"]["head"]
    assert head.get("in_featuremap_size", (3, 2)) == (3, 2)
    assert head.get("decoder", {}).get("heatmap_size", (24, 16)) == (24, 16)
    encoder = next(step["encoder"] for step in steps(config, "train") if step["type"] == "GenerateTarget")
    assert encoder == head.get("decoder", encoder)


@EVERY
def test_points_are_described_in_upstreams_form(recipe: Recipe) -> None:
    info = config_of(recipe, arrow_plan(recipe))["val_dataloader"]["dataset"]["metainfo"]
    assert [point["name"] for point in info["keypoint_info"].values()] == [*ARROW.names]
    assert [point["swap"] for point in info["keypoint_info"].values()] == ["", "right_wing", "", "left_wing"]
    assert [link["link"] for link in info["skeleton_info"].values()] == [("tip", "left_wing"), ("left_wing", "tail")]
    assert info["dataset_name"] == "a"


def test_sigmas_are_cocos_where_the_points_are() -> None:
    assert sigmas_of(COCO_NAMES) == tuple(COCO_SIGMAS.values())
    assert sigmas_of(("left_hip", "nose")) == (0.107, 0.026)
    assert sigmas_of(ARROW.names) == (USUAL_SIGMA,) * 4
    assert sigmas_of(("nose", "muzzle")) == (USUAL_SIGMA,) * 2


def test_rtmo_reads_sigmas_from_the_data_and_classes_from_one() -> None:
    config = config_of(load_recipe("rtmo-s"), plan_of("rtmo-s", points=4))
    files = [part["metainfo"] for part in parts(config["model"]) if "metainfo" in part]
    assert files == ["/j/keypoints.py"] * 2  # loss and assigner
    assert config["train_dataloader"]["dataset"]["ann_file"] == "/j/train_from_1.json"
    assert (
        config["test_evaluator"][0]["ann_file"]
        == config["val_dataloader"]["dataset"]["ann_file"]
        == "/j/val_from_1.json"
    )
    assert "category_id" not in steps(config, "val")[-1]["meta_keys"]


def test_rtmo_goes_on_where_its_weights_were_and_from_scratch_begins_at_the_beginning() -> None:
    for pretrained, weights in ((True, (5.0, 10.0)), (False, (1.0, 30.0))):
        head = config_of(load_recipe("rtmo-s"), plan_of("rtmo-s", pretrained=pretrained))["model"]["head"]
        assert (head["loss_mle"]["loss_weight"], head["loss_oks"]["loss_weight"]) == weights
        assert head.get("proxy_target_cc", False) is pretrained


@EVERY
def test_a_flip_exchanges_left_and_right_in_both_directions_and_is_off_at_chance_0(recipe: Recipe) -> None:
    flips = [
        step
        for step in steps(config_of(recipe, plan_of(recipe, fliplr=0.5, flipud=1)), "train")
        if "Flip" in step["type"]
    ]
    assert [(step["direction"], step["prob"]) for step in flips] == [("horizontal", 0.5), ("vertical", 1.0)]
    assert all(isinstance(step["prob"], float) for step in flips)  # MMPose knows no other number
    assert "Flip" not in repr(steps(config_of(recipe, plan_of(recipe, fliplr=0)), "train"))


@EVERY
def test_every_key_of_augmentation_has_its_place(recipe: Recipe) -> None:
    blur = {"type": "Blur", "p": 0.1}
    asked = {"degrees": 20, "translate": 0.1, "scale": 0.3, "hsv_h": 0.1, "hsv_s": 0.2, "hsv_v": 0.4}
    config = config_of(recipe, plan_of(recipe, **asked, albumentations=[blur]))
    affine = next(step for step in steps(config, "train") if "rotate_factor" in step)
    assert (affine["rotate_factor"], affine["shift_factor"], affine["scale_factor"]) == (20, 0.1, (0.7, 1.3))
    colours, asked_for = (step for step in steps(config, "train") if step["type"] == "Albumentation")
    assert [colours["transforms"][0][key] for key in ("hue", "saturation", "brightness")] == [
        (-0.1, 0.1), (0.8, 1.2), (0.6, 1.4),
    ]  # fmt: skip
    assert asked_for["transforms"] == [blur]
    assert not {"RandomFlip", "RandomBBoxTransform", "GenerateTarget"} & {step["type"] for step in steps(config, "val")}


@EVERY
def test_nothing_is_downloaded_and_upstreams_data_are_gone(recipe: Recipe) -> None:
    config = config_of(recipe, plan_of(recipe, pretrained=False))
    text = repr(config)
    assert "https://" not in text and "torchvision://" not in text
    assert (
        "coco/annotations" not in text and "Aic" not in text and "Combined" not in text and "batch_augments" not in text
    )
    assert "mmtrain" not in text
    assert config["model"]["test_cfg"].get("flip_test", False) is False


def test_an_epoch_counts_what_the_model_is_shown() -> None:
    profile = profile_of(100, poses={"train": 250}, images_with_objects={"train": 90})
    assert training_samples(load_recipe("rtmpose-t"), profile)[0] == 250
    assert training_samples(load_recipe("rtmo-s"), profile)[0] == 90
    assert training_samples(load_recipe("rtmdet-tiny"), profile)[0] == 100


def test_the_size_of_a_crop_has_nothing_to_do_with_that_of_the_images() -> None:
    shape = dict.fromkeys(("min", "p10", "p25", "p50", "p75", "p90", "max"), 0.01)
    profile = profile_of(100).model_copy(update={"object_to_long_side": shape, "image_long_side_px": shape})
    assert recommend_imgsz(profile, load_recipe("rtmpose-t"))[0] == (192, 256)


def test_several_classes_share_their_points_but_not_with_rtmo() -> None:
    def plan_for(model: str, **arguments: Any) -> TrainPlan:
        recipe, ref = load_recipe(model), DatasetRef(id="d", path="/d")
        spec = TrainSpec(job_id="1", task=recipe.task, model_name=model, dataset=ref, config=TrainConfig())
        given = {"class_names": ("a", "b"), "keypoints": default_schema(4), "profile": profile_of(9), **arguments}
        return make_plan(spec, recipe, CPU, weights_file=None, **given)

    assert plan_for("rtmpose-t").class_names == ("a", "b")
    with pytest.raises(ConfigError, match="finds the poses of one class, the data set has 2"):
        plan_for("rtmo-s")
    with pytest.raises(ConfigError, match="learns keypoints, and the data set has none"):
        plan_for("rtmpose-t", keypoints=None)


@pytest.mark.parametrize("name", ["mosaic", "mixup", "random_crop", "copy_paste"])
def test_what_upstream_cannot_do_to_points_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: not for pose_estimation"):
        check_request(TrainConfig(**{name: True}), load_recipe("rtmpose-t"), CPU)


def test_albumentations_that_would_leave_points_behind_are_refused() -> None:
    with pytest.raises(ConfigError, match="HorizontalFlip would move the picture and not its keypoints"):
        check_request(TrainConfig(albumentations=[{"type": "HorizontalFlip"}]), load_recipe("rtmpose-t"), CPU)
    check_request(TrainConfig(albumentations=[{"type": "CoarseDropout"}]), load_recipe("rtmpose-t"), CPU)


def test_the_pipelines_can_be_said_in_words() -> None:
    crops, whole = (
        " / ".join(pipeline_in_words(steps(config_of(load_recipe(name), plan_of(name, flipud=0.2)), "train")))
        for name in ("rtmpose-t", "rtmo-s")
    )
    assert "take one object with a quarter of its size around it" in crops
    assert "cut it out and resize it to 192 × 256" in crops
    assert "flip up-down (20% of the pictures)" in crops
    assert "{'" not in crops + whole

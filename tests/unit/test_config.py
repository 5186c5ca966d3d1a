"""The configuration: plain dicts, one image size everywhere, nothing of ours named in it."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmtrain.config import detection
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.config.slots import set_slot
from mmtrain.datasets.stream import StreamedImages
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from tests.unit.test_plan import FOUR_GPUS, plan_of
from trainer_sdk.tasks import Task

FILES = DatasetFiles(images=Path("/d"), train=Path("/j/train.json"), val=Path("/j/val.json"), test=None)
SIZES = {"scale", "size", "crop_size", "img_scale"}
BACKBONE = {"init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}, "norm_cfg": {"type": "SyncBN"}}


def base_of(recipe: Recipe) -> dict[str, Any]:
    """What upstream's configuration holds as far as we read it, with every class slot of the recipe at 80."""
    base: dict[str, Any] = {
        "default_scope": "mmdet",
        "visualizer": {"type": "DetLocalVisualizer"},
        "model": {
            "type": "Detector",
            "data_preprocessor": {"type": "DetDataPreprocessor", "batch_augments": [{"type": "X", "size": (9, 9)}]},
            "backbone": copy.deepcopy(BACKBONE),
            "neck": [{"norm_cfg": {"type": "SyncBN"}}],
        },
        "train_dataloader": {"batch_sampler": {"type": "AspectRatioBatchSampler"}},
        "optim_wrapper": {"optimizer": {"type": "X"}, "paramwise_cfg": {"norm_decay_mult": 0}, "clip_grad": None},
    }
    for slot in recipe.class_slots:
        write(base, slot, 80)
    for slot in recipe.class_weight_slots:
        write(base, slot, [1.0] * 80 + [0.1])
    for slot in recipe.class_loss_slots:
        write(base, slot, {"class_weight": [1.0] * 80} if recipe.task is Task.SEMANTIC else {})
    return base


def write(node: Any, slot: str, value: Any) -> None:
    """Makes the way to a slot; a number in it is a place in a list."""
    *parents, last = slot.split(".")
    for part, following in zip(parents, [*parents[1:], last], strict=True):
        empty: Any = [{} for _ in range(4)] if following.isdigit() else {}
        node = node[int(part)] if part.isdigit() else node.setdefault(part, empty)
    node[int(last) if last.isdigit() else last] = value


def config_of(model: str | Recipe = "rtmdet-tiny", **request: Any) -> dict[str, Any]:
    recipe = load_recipe(model) if isinstance(model, str) else model
    return build_config(base_of(recipe), recipe, plan_of(recipe, **request), FILES, Path("/j/work"))


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from walk(value)


def every(*tasks: Task) -> pytest.MarkDecorator:
    """Every recipe of some tasks."""
    fitting = [recipe for recipe in all_recipes() if recipe.task in tasks]
    return pytest.mark.parametrize("recipe", fitting, ids=lambda recipe: f"{recipe.task.value}-{recipe.name}")


RECIPES = every(Task.DETECTION, Task.INSTANCE, Task.SEMANTIC)  # poses: test_config_pose.py


@every(Task.DETECTION, Task.INSTANCE)
def test_one_image_size_reaches_every_transform(recipe: Recipe) -> None:
    config = config_of(recipe, imgsz=(320, 192), mosaic=0.5, mixup=0.5)
    pipelines = [config[f"{split}_dataloader"]["dataset"]["pipeline"] for split in ("train", "val", "test")]
    steps = [step for step in walk(pipelines) if "type" in step]
    letterboxed = [
        {**step, "scale": (step["width"], step["height"])} for step in steps if step["type"] == "FixShapeResize"
    ]
    steps = [step for step in steps if step.get("crop_type") != "relative_range"] + letterboxed
    sizes = [step[key] for step in steps for key in SIZES & step.keys() if step["type"] != "RandomResize"]
    assert len(sizes) >= 4
    masks = recipe.task is Task.INSTANCE  # whose mosaic is a square, before it is cut to size
    assert {tuple(sorted(size)) for size in sizes} == {(192, 320), *([(320, 320)] if masks else [])}
    twice = [step["scale"] for step in steps if step["type"] == "RandomResize"]
    assert (640, 640 if masks else 384) in twice  # four pictures in one
    kinds = ("Resize", "RandomResize", "FixShapeResize")
    whole = [step for step in steps if step["type"] in kinds and tuple(step.get("scale", ())) == (320, 192)]
    # In a letterbox that lies, a part of a picture is seen larger, or all of it smaller.
    assert len(whole) == (5 if recipe.letterbox and recipe.defaults.scale else 3)


@pytest.mark.parametrize("model", ["rtmdet-tiny", "rtmdet-ins-tiny", "yolox-s", "centernet-r18"])
def test_a_letterbox_is_padded_by_what_fits_the_picture_where_its_sides_differ(model: str) -> None:
    for imgsz, fit, other in (((320, 192), "FixShapeResize", "Resize"), ((320, 320), "Resize", "FixShapeResize")):
        config = config_of(model, imgsz=imgsz, mosaic=0, scale=0)
        for split in ("train", "val", "test"):
            kinds = [step["type"] for step in config[f"{split}_dataloader"]["dataset"]["pipeline"]]
            assert fit in kinds and other not in kinds and "Pad" in kinds


@RECIPES
def test_every_class_slot_and_every_data_set_knows_the_classes(recipe: Recipe) -> None:
    config = config_of(recipe)
    for node in walk(config):
        assert node.get("num_classes", 2) == node.get("num_things_classes", 2) == 2
        assert len(node.get("class_weight") or (1.0, 1.0, 0.1)) == 3
        if "ann_file" in node and "pipeline" in node:
            assert node["metainfo"] == {"classes": ("a", "b")}


@RECIPES
def test_nothing_is_downloaded_and_nothing_of_ours_is_named(recipe: Recipe) -> None:
    text = repr(config_of(recipe))
    assert "torchvision://" not in text
    assert "mmtrain" not in text
    assert "trainer_sdk" not in text


def test_streamed_images_change_the_path_and_nothing_else() -> None:
    recipe, plan = load_recipe("rtmdet-tiny"), plan_of()
    images = StreamedImages(uri="s3://b/datasets/d", cache_dir=Path("/c"), cache_bytes=1)
    streamed = build_config(base_of(recipe), recipe, plan, FILES.model_copy(update={"images": images}), Path("/j/work"))
    assert streamed["train_dataloader"]["dataset"]["data_prefix"] == {"img": "s3://b/datasets/d"}
    local = config_of()
    for split in ("train", "val", "test"):
        streamed[f"{split}_dataloader"]["dataset"]["data_prefix"] = {"img": "/d"}
    assert streamed == local


def test_where_the_images_are_survives_the_way_to_the_worker() -> None:
    images = StreamedImages(uri="s3://b/datasets/d", cache_dir=Path("/c"), cache_bytes=1)
    for files in (FILES, FILES.model_copy(update={"images": images})):
        assert DatasetFiles.model_validate_json(files.model_dump_json()) == files


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


def test_a_checkpoint_of_ones_own_is_not_from_scratch() -> None:
    plan = plan_of("detr-r50", checkpoint="/checkpoints/best.pth")
    assert not plan.pretrained.value
    assert not plan.from_scratch


@pytest.mark.parametrize("pretrained", [True, False])
def test_only_a_backbone_that_knows_something_takes_smaller_steps(pretrained: bool) -> None:
    base = base_of(recipe := load_recipe("detr-r50"))
    keys = {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}, "query_embed": {"lr_mult": 0.5}}
    base["optim_wrapper"]["paramwise_cfg"] = {"custom_keys": keys}
    config = build_config(base, recipe, plan_of("detr-r50", pretrained=pretrained), FILES, Path("/j/work"))
    found = config["optim_wrapper"]["paramwise_cfg"]["custom_keys"]
    assert found["backbone"] == ({"lr_mult": 0.1, "decay_mult": 1.0} if pretrained else {"decay_mult": 1.0})
    assert found["query_embed"] == {"lr_mult": 0.5}


def test_ema_is_there_when_asked_for_and_not_otherwise() -> None:
    assert [hook["type"] for hook in config_of(ema=True, weak_epochs=0)["custom_hooks"]] == ["EMAHook"]
    assert config_of(ema=False, weak_epochs=0)["custom_hooks"] == []


def test_a_slot_that_does_not_exist_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(KeyError, match="no slot"):
        set_slot({"head": {"num_classes": 80}}, "head.num_class", 2)


def test_weights_of_a_loss_follow_the_classes_and_end_in_that_of_no_object() -> None:
    recipe = load_recipe("mask2former-r50", Task.INSTANCE)
    slot = config_of(recipe)["model"]["panoptic_head"]["loss_cls"]["class_weight"]
    assert slot == [1.0, 1.0, 0.1]


@pytest.mark.parametrize(
    ("imgsz", "multiple"), [((1333, 800), 96), ((640, 640), 128), ((320, 320), 224), ((64, 64), 224)]
)
def test_there_are_positions_for_every_query_of_dino(imgsz: tuple[int, int], multiple: int) -> None:
    """On every picture one side of which is at least half of the smaller side."""
    assert detection.padding_for_queries(900, imgsz) == multiple
    for longer, other in itertools.product(range(min(imgsz) // 2, 700, 50), range(1, 700, 50)):
        sides = [math.ceil(side / multiple) * multiple for side in (longer, other)]
        assert sum(math.prod(math.ceil(side / stride) for side in sides) for stride in (8, 16, 32, 64)) >= 900


def test_from_scratch_nothing_random_is_kept_fixed() -> None:
    base = base_of(recipe := load_recipe("detr-r50"))
    base["model"]["backbone"]["norm_cfg"] = {"type": "BN", "requires_grad": False}
    for pretrained in (True, False):
        plan = plan_of("detr-r50", pretrained=pretrained)
        backbone = build_config(base, recipe, plan, FILES, Path("/j/work"))["model"]["backbone"]
        assert backbone["norm_cfg"]["requires_grad"] is not pretrained
        assert backbone["norm_eval"] is pretrained
        assert backbone["frozen_stages"] == (1 if pretrained else -1)


def test_the_head_of_centernet_gets_its_border_from_a_picture_that_stays_whole() -> None:
    pipeline = config_of("centernet-r18")["test_dataloader"]["dataset"]["pipeline"]
    kinds = [step["type"] for step in pipeline]
    assert kinds.index("Pad") < kinds.index("RandomCenterCropPad") < kinds.index("LoadAnnotations")
    assert pipeline[kinds.index("RandomCenterCropPad")]["test_pad_mode"] == ("size_divisor", 1)
    assert pipeline[0]["to_float32"] is True  # it takes no others
    assert "border" in pipeline[-1]["meta_keys"]


@pytest.mark.parametrize("model", ["rtmdet-tiny", "pspnet-r50"])
def test_on_several_devices_results_are_sent_and_each_has_its_share(model: str) -> None:
    """Not left in a folder that all nodes would have to share, as is MMEngine's habit."""
    two_nodes = FOUR_GPUS.model_copy(update={"nodes": 2, "gpus": (), "processes": 2})
    config = config_of(model, machine=two_nodes, batch=8)
    assert config["launcher"] == "pytorch"
    assert config["model_wrapper_cfg"]["device_ids"] is None
    assert config["train_dataloader"]["batch_size"] == 2
    assert config["val_evaluator"]["collect_device"] == "gpu"
    assert not {"model_wrapper_cfg", "collect_device"} & config_of(model, batch=8).keys()


@pytest.mark.parametrize(("model", "idle"), [("rtmdet-tiny", False), ("rtmdet-ins-tiny", True)])
def test_several_processes_look_for_parts_that_a_batch_without_objects_leaves_idle(model: str, idle: bool) -> None:
    """Without it, DistributedDataParallel waits for their gradients and the training ends at the next step."""
    on_cpu = config_of(model, machine=FOUR_GPUS.model_copy(update={"gpus": (), "processes": 2}), batch=8)
    assert on_cpu["model_wrapper_cfg"]["find_unused_parameters"] is idle
    assert config_of(model, machine=FOUR_GPUS, batch=8, device="0-3")["find_unused_parameters"] is idle

"""The plan: every number has one value, an origin and a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from converters.keypoints import default_schema
from mmtrain.choices import Decided, choose_device, gpu_numbers
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.datasets.recommend import recommend_for
from mmtrain.jobs.report import headline_split
from mmtrain.machine import Machine
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import Recipe, load_recipe
from mmtrain.request_check import check_request
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.tasks import Task

GIB = 2**30
CPU = Machine(cores=2, gpus=(), shm_free_bytes=8 * GIB)
FOUR_GPUS = Machine(cores=16, gpus=("H200",) * 4, shm_free_bytes=8 * GIB)


def profile_of(train_images: int, **fields: Any) -> DatasetProfile:
    """Of a data set about whose objects nothing is known, unless ``fields`` say it."""
    unknown = dict.fromkeys(
        name for name, field in DatasetProfile.model_fields.items() if "None" in str(field.annotation)
    )
    known = {"has_boxes": True, "has_masks": False, "has_keypoints": False, "has_mask_files": False, "num_classes": 2}
    counts = {"train": train_images, "val": 2, "test": 0}
    return DatasetProfile(**unknown, **known, images=counts, objects=counts, objects_per_class={}, **fields)


def plan_of(
    model: str | Recipe = "rtmdet-tiny",
    *,
    machine: Machine = CPU,
    train_images: int = 100,
    checkpoint: str | None = None,
    points: int = 17,
    shown_images: Callable[[float], int] | None = None,
    **config: Any,
) -> TrainPlan:
    recipe = load_recipe(model) if isinstance(model, str) else model
    spec = TrainSpec(
        job_id="1",
        task=recipe.task,
        model_name=recipe.name,
        dataset=DatasetRef(id="d", path="/d"),
        config=TrainConfig(**config),
        checkpoint_path=checkpoint,
    )
    return make_plan(
        spec,
        recipe,
        machine,
        class_names=("a",) if recipe.one_stage else ("a", "b"),
        profile=profile_of(train_images),
        weights_file=None,
        shown_images=shown_images,
        keypoints=default_schema(points) if recipe.task is Task.POSE else None,
    )


def test_a_request_is_honoured_and_says_so() -> None:
    plan = plan_of(epochs=7, batch=4, lr0=0.01, imgsz=320, optimizer="SGD", workers=0, val_interval=3)
    assert (plan.epochs.value, plan.batch.value, plan.lr0.value) == (7, 4, 0.01)
    assert plan.imgsz.value == (320, 320)
    assert plan.optimizer.value == "SGD"
    assert {plan.epochs.origin, plan.batch.origin, plan.lr0.origin, plan.imgsz.origin} == {"request"}


def test_every_decision_has_an_origin_and_a_reason() -> None:
    rows = plan_of().decisions()
    assert len(rows) == sum(isinstance(value, Decided) for value in dict(plan_of()).values()) > 20
    assert all(row["origin"] and row["reason"] for row in rows), [row for row in rows if not row["reason"]]


def test_the_learning_rate_follows_the_batch_linearly() -> None:
    assert plan_of(batch=32).lr0.value == pytest.approx(2 * plan_of(batch=16).lr0.value)


def test_from_scratch_learns_faster_and_freezes_nothing() -> None:
    tuned, scratch = plan_of("mask-rcnn-r50"), plan_of("mask-rcnn-r50", pretrained=False)
    assert (tuned.backbone_frozen_stages.value, tuned.norm_eval.value) == (1, True)
    assert (scratch.backbone_frozen_stages.value, scratch.norm_eval.value) == (-1, False)
    assert plan_of(pretrained=False).lr0.value > plan_of().lr0.value


def test_a_model_without_published_weights_trains_from_scratch_and_says_so() -> None:
    plan = plan_of("yolox-m")
    assert (plan.pretrained.value, plan.pretrained.origin) == (False, "recipe")
    assert plan.lr0.value == load_recipe("yolox-m").defaults.lr0_from_scratch
    with pytest.raises(ConfigError, match="upstream publishes no weights of yolox-m"):
        check_request(TrainConfig(pretrained=True), load_recipe("yolox-m"), CPU)
    check_request(TrainConfig(), load_recipe("yolox-m"), CPU)


def test_the_plan_says_what_it_starts_from() -> None:
    published = plan_of()
    assert (published.weights.value, published.weights.origin) == (
        "rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth",
        "recipe",
    )
    scratch = plan_of(pretrained=False)
    assert (scratch.weights.value, scratch.weights.origin) == ("none", "request")


@pytest.mark.parametrize("model", ["mask-rcnn-r50", "yolox-m"])
@pytest.mark.parametrize("config", [{}, {"pretrained": False}, {"pretrained": True}])
def test_a_checkpoint_takes_the_place_of_the_published_weights(model: str, config: dict[str, Any]) -> None:
    check_request(TrainConfig(**config), load_recipe(model), CPU, from_checkpoint=True)
    plan = plan_of(model, checkpoint="https://host/best.pt?signature=secret", **config)
    assert (plan.weights.value, plan.weights.origin) == ("https://host/best.pt", "request")
    assert not plan.pretrained.value
    defaults = load_recipe(model).defaults
    assert plan.lr0.value == pytest.approx(defaults.lr0 * plan.batch.value / defaults.batch)
    assert plan.backbone_frozen_stages.value == defaults.backbone_frozen_stages


def test_the_batch_is_never_larger_than_the_data() -> None:
    plan = plan_of(batch=64, train_images=10)
    assert (plan.batch.value, plan.batch.origin) == (10, "data")


def test_the_batch_is_the_total_over_all_gpus() -> None:
    assert plan_of(machine=FOUR_GPUS, device="0-3", batch=16).gpus == (0, 1, 2, 3)
    with pytest.raises(ConfigError, match="batch=6 does not divide over 4 devices"):
        plan_of(machine=FOUR_GPUS, device="0-3", batch=6)


def test_no_device_means_the_best_one_present() -> None:
    assert plan_of().device.value == "cpu"
    assert plan_of(machine=FOUR_GPUS).gpus == (0,)


@pytest.mark.parametrize("device", ["0", "0,1", "0-3"])
def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_cpu(device: str) -> None:
    with pytest.raises(ResourceError, match="this machine has none") as caught:
        choose_device(TrainConfig(device=device), CPU)
    assert "--gpus" in caught.value.hint


def test_gpu_numbers() -> None:
    assert gpu_numbers("0,2-3") == (0, 2, 3)
    with pytest.raises(ConfigError, match="backwards"):
        gpu_numbers("3-1")


def test_mixed_precision_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="amp"):
        plan_of(amp=True)


def test_little_shared_memory_means_fewer_workers() -> None:
    tight = CPU.model_copy(update={"shm_free_bytes": 64 * 2**20, "cores": 8})
    plan = plan_of(machine=tight)
    assert plan.workers.value == 1
    assert "--shm-size" in plan.workers.reason


def test_threads_are_shared_between_the_processes() -> None:
    assert plan_of(machine=FOUR_GPUS, device="0-3", batch=16).threads.value == 4


@pytest.mark.parametrize(
    ("model", "asked", "mode", "metric"),
    [
        ("rtmdet-tiny", None, None, "coco/bbox_mAP"),
        ("rtmdet-tiny", "loss", "min", "coco/bbox_mAP"),
        ("rtmdet-tiny", "mAP50", "max", "coco/bbox_mAP_50"),
        ("rtmdet-tiny", "coco/bbox_mAP_75", None, "coco/bbox_mAP_75"),
        ("rtmdet-tiny", "mAP50-95", "max", "coco/bbox_mAP"),
        ("mask-rcnn-r50", "mAP50", "max", "coco/segm_mAP_50"),
        ("mask-rcnn-r50", "bbox_mAP", "max", "coco/bbox_mAP"),
        ("rtmpose-t", "AR", "max", "coco/AR"),
        ("rtmo-s", "OKS-AR", None, "coco/AR"),
    ],
)
def test_primary_metric_names(model: str, asked: str | None, mode: str | None, metric: str) -> None:
    assert plan_of(model, primary_metric=asked, primary_metric_mode=mode).primary_metric.value == metric


@pytest.mark.parametrize(("asked", "mode"), [("accuracy", "max"), ("segm_mAP", "max"), ("mAP50", "min")])
def test_a_metric_that_is_not_measured_is_refused(asked: str, mode: str) -> None:
    with pytest.raises(ConfigError):
        plan_of(primary_metric=asked, primary_metric_mode=mode)


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 300])
def test_warm_up_ends_before_the_training(epochs: int) -> None:
    plan = plan_of(epochs=epochs, train_images=5)
    assert 0 <= plan.warmup_iters.value < plan.iters_per_epoch.value * epochs


def test_there_is_always_a_validation() -> None:
    assert plan_of(epochs=3, val_interval=10).val_interval.value == 3
    assert plan_of(epochs=1).val_interval.value == 1


def test_another_optimizer_brings_its_own_weight_decay() -> None:
    assert plan_of().weight_decay.value == 0.05
    assert plan_of(optimizer="SGD").weight_decay.value == 1e-4
    assert plan_of(optimizer="SGD", weight_decay=0.01).weight_decay.value == 0.01


@pytest.mark.parametrize("size", [33, 100, 32, [64, 100]])
def test_sizes_that_a_model_cannot_see_are_refused_before_the_data(size: Any) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        check_request(TrainConfig(imgsz=size), load_recipe("rtmdet-tiny"), CPU)
    check_request(TrainConfig(imgsz=[160, 96]), load_recipe("rtmdet-tiny"), CPU)
    check_request(TrainConfig(imgsz=[1333, 800]), load_recipe("faster-rcnn-r50"), CPU)


def test_everything_that_can_be_said_against_a_request_is_said_at_once() -> None:
    config = TrainConfig(
        imgsz=[160, 96],
        copy_paste=1,
        amp=True,
        primary_metric="accuracy",
        split_config={"method": "auto", "ration": [0.5, 0.5]},
    )
    with pytest.raises(ConfigError) as caught:
        check_request(config, load_recipe("faster-rcnn-r50"), CPU)
    for part in ("4 problems", "copy_paste", "amp", "accuracy", "'ration'"):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("images", "headline"),
    [
        ({"val": 10, "test": 10}, "test"),
        ({"val": 10, "test": 5}, "test"),
        ({"val": 72, "test": 1}, "val"),
        ({"val": 1, "test": 1}, "val"),
        ({"val": 5, "test": 0}, "val"),
    ],
)
def test_a_left_over_picture_is_not_the_result(images: dict[str, int], headline: str) -> None:
    assert headline_split(images) == headline


@pytest.mark.parametrize(("task", "model"), [(Task.DETECTION, "rtmdet-tiny"), (Task.INSTANCE, "rtmdet-ins-tiny")])
def test_auto_chooses_a_model_for_the_task_that_was_asked_for(task: Task, model: str) -> None:
    assert recommend_for(task, profile_of(100)).model == model


@pytest.mark.parametrize("asked", [{"freeze": ["backbone.stem"]}, {"backbone_frozen_stages": 1}])
def test_random_parts_that_stay_frozen_are_remarked_on(asked: dict[str, Any]) -> None:
    recipe = load_recipe("faster-rcnn-r50")
    [remark] = plan_of(recipe, pretrained=False, **asked).remarks()
    assert "random" in remark and "learn nothing" in remark
    assert plan_of(recipe, pretrained=True, **asked).remarks() == []
    assert plan_of(recipe, pretrained=False).remarks() == []

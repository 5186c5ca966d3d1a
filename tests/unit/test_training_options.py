"""CONFIG keys that shape the training: each reaches the configuration, or is refused by name before the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.coco import ObjectTable
from mmtrain.choices import PRIMARY_METRICS, class_weights, primary_metric
from mmtrain.config.build import beyond_config
from mmtrain.datasets.balance import images_shown
from mmtrain.datasets.columns import SplitColumns
from mmtrain.metrics import mm_metric_names, report_name
from mmtrain.recipes import all_recipes, load_recipe
from mmtrain.request_check import check_request
from tests.unit.test_config import config_of
from tests.unit.test_plan import CPU, FOUR_GPUS, plan_of, profile_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.tasks import Task

COUNTS = {"a": {"train": 30, "val": 5}, "b": {"train": 10, "val": 5}}


def fall_of(**request: Any) -> dict[str, Any]:
    """The scheduler after warm-up, of 10 epochs of 7 iterations."""
    fall: dict[str, Any] = config_of(epochs=10, **request)["param_scheduler"][-1]
    return fall


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"lr_scheduler": "poly", "lr_power": 0.5}, {"type": "PolyLR", "power": 0.5}),
        (
            {"lr_scheduler": "multistep", "lr_milestones": [3, 6], "lr_gamma": 0.5},
            {"milestones": [21, 42], "gamma": 0.5},
        ),
        ({"lr_scheduler": "step", "lr_milestones": [3]}, {"milestones": [21, 42, 63], "gamma": 0.1}),
        ({"lr_scheduler": "step", "lr_milestones": [3, 5]}, {"milestones": [21, 35], "gamma": 0.1}),
        ({"lr_scheduler": "step"}, {"type": "MultiStepLR", "milestones": [46, 64]}),
        ({"lr_scheduler": "linear", "lr_final_ratio": 0.2}, {"type": "LinearLR", "end_factor": 0.2, "end": 70}),
        ({"lr_scheduler": "multistep"}, {"type": "MultiStepLR", "milestones": [46, 64]}),
        ({"lr_scheduler": "cosine", "lr_final_ratio": 0.2}, {"eta_min_ratio": 0.2}),
    ],
)
def test_schedules(request_: dict[str, Any], expected: dict[str, Any]) -> None:
    fall = fall_of(**request_)
    assert fall["by_epoch"] is False
    assert {key: fall[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("request_", "where", "value"),
    [
        ({"epochs": 7}, "train_cfg.max_epochs", 7),
        ({"batch": 4}, "train_dataloader.batch_size", 4),
        ({"batch": 16, "device": "0-3", "machine": FOUR_GPUS}, "train_dataloader.batch_size", 4),
        ({"workers": 3}, "train_dataloader.num_workers", 3),
        ({"workers": 3}, "val_dataloader.num_workers", 3),
        ({"seed": 7}, "randomness.seed", 7),
        ({"optimizer": "Adam"}, "optim_wrapper.optimizer.type", "Adam"),
        ({"lr0": 0.02}, "optim_wrapper.optimizer.lr", 0.02),
        ({"weight_decay": 0.02}, "optim_wrapper.optimizer.weight_decay", 0.02),
        ({"optimizer": "SGD", "momentum": 0.7}, "optim_wrapper.optimizer.momentum", 0.7),
        ({"warmup_epochs": 2}, "param_scheduler.0.end", 14),
        ({"warmup_ratio": 0.2}, "param_scheduler.0.start_factor", 0.2),
        ({"val_interval": 3}, "train_cfg.val_interval", 3),
        ({"checkpoint_interval": 3}, "default_hooks.checkpoint.interval", 3),
        ({"checkpoint_keep_max": 3}, "default_hooks.checkpoint.max_keep_ckpts", 3),
        ({"primary_metric": "mAP50"}, "default_hooks.checkpoint.save_best", "coco/bbox_mAP_50"),
        ({"backbone_frozen_stages": 2}, "model.backbone.frozen_stages", 2),
        ({"norm_eval": True}, "model.backbone.norm_eval", True),
        ({"early_stopping": 4}, "custom_hooks.1.patience", 4),
        ({"ema": True}, "custom_hooks.0.type", "EMAHook"),
    ],
)
def test_a_key_reaches_its_place(request_: dict[str, Any], where: str, value: Any) -> None:
    found: Any = config_of(**request_)
    for part in where.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == value


def test_one_cycle_rises_for_three_tenths_and_falls_to_nothing() -> None:
    rise, fall = config_of(epochs=10, lr_scheduler="onecycle")["param_scheduler"]
    assert (rise["begin"], rise["end"], rise["start_factor"]) == (0, 21, 1 / 25)
    assert (fall["type"], fall["begin"], fall["end"]) == ("CosineAnnealingLR", 21, 70)
    assert fall["eta_min_ratio"] == pytest.approx(4e-6)
    rise, fall = config_of(epochs=10, lr_scheduler="onecycle", warmup_epochs=2, warmup_ratio=0.1, lr_final_ratio=0.5)[
        "param_scheduler"
    ]
    assert (rise["end"], rise["start_factor"], fall["eta_min_ratio"]) == (14, 0.1, 0.5)


def test_gradients_are_clipped_and_added_up_as_asked() -> None:
    wrapper = config_of(grad_clip=2.5, accumulate=4)["optim_wrapper"]
    assert wrapper["clip_grad"] == {"max_norm": 2.5, "norm_type": 2}
    assert wrapper["accumulative_counts"] == 4
    assert "accumulative_counts" not in config_of()["optim_wrapper"]
    assert "clip_grad" not in config_of(grad_clip=0)["optim_wrapper"]


def test_the_learning_rate_follows_the_images_of_a_step() -> None:
    assert plan_of(batch=8, accumulate=2).lr0.value == plan_of(batch=16).lr0.value


def test_validations_are_rare_first_then_often() -> None:
    loop = config_of(epochs=50, val_interval=[[0, 5], [40, 1]])["train_cfg"]
    assert (loop["val_interval"], loop["dynamic_intervals"]) == (5, [(42, 1)])
    assert "dynamic_intervals" not in config_of(epochs=50, val_interval=5)["train_cfg"]


def test_a_milestone_needs_no_schedule_where_the_recipe_has_one() -> None:
    assert plan_of("faster-rcnn-r50", lr_milestones=[8, 11], epochs=12).lr_milestones.value == (8, 11)


def test_the_last_epochs_show_whole_pictures() -> None:
    request = {"mosaic": 1.0, "mixup": 1.0, "ema": False, "epochs": 20}
    config = config_of(weak_epochs=4, **request)
    (hook,) = config["custom_hooks"]
    assert (hook["type"], hook["switch_epoch"]) == ("mmdet.PipelineSwitchHook", 16)
    kinds, weak = (
        [step["type"] for step in pipeline]
        for pipeline in (config["train_dataloader"]["dataset"]["pipeline"], hook["switch_pipeline"])
    )
    assert {"CachedMosaic", "CachedMixUp"} <= {*kinds}
    assert not {"CachedMosaic", "CachedMixUp"} & {*weak}
    assert weak[0] == kinds[0] and weak[-1] == kinds[-1]
    assert config_of(weak_epochs=0, **request)["custom_hooks"] == []


def test_without_mosaic_there_is_nothing_to_leave_out() -> None:
    plan = plan_of(weak_epochs=4, mosaic=0, mixup=0)
    assert (plan.weak_epochs.value, plan.weak_epochs.origin) == (0, "recipe")
    assert plan_of(weak_epochs=99, mosaic=1, epochs=20).weak_epochs.value == 20
    assert plan_of(balanced_sampling=True, mosaic=1).weak_epochs.value == 0


def test_an_epoch_is_longer_where_rare_classes_are_shown_again() -> None:
    """Of ten images, one holds class 1: it is shown sqrt(0.4 / 0.1) = 2 times, the others once."""
    ids, ones = np.arange(10, dtype=np.int32), np.ones((10, 4))
    classes = np.array([0] * 9 + [1], dtype=np.int32)
    objects = ObjectTable(ids.astype(np.int64), ids, classes, ones, ones[:, 0], ones[:, 0] < 1, np.zeros((10, 0, 3)))
    split = SplitColumns(tuple("abcdefghij"), ids, ones[:, :2], objects)
    assert [images_shown(split, threshold) for threshold in (0.1, 0.4, 0.5)] == [10, 11, 12]


def test_warm_up_in_iterations() -> None:
    assert plan_of(warmup_iters=5).warmup_iters.value == 5
    plan = plan_of(warmup_iters=500, epochs=2, train_images=32)
    assert (plan.warmup_iters.value, plan.iters_per_epoch.value) == (3, 2)
    with pytest.raises(ConfigError, match="give one"):
        check_request(TrainConfig(warmup_iters=5, warmup_epochs=1), load_recipe("rtmdet-tiny"), CPU)


def test_a_schedule_is_as_long_as_what_is_shown() -> None:
    plan = plan_of(train_images=40, batch=4, balanced_sampling=0.3, shown_images=lambda share: round(40 / share))
    assert plan.iters_per_epoch.value == 34
    assert "133 images in batches of 4: 40 training images" in plan.iters_per_epoch.reason
    assert plan_of(train_images=40, batch=4, shown_images=lambda share: 400).iters_per_epoch.value == 10


def test_early_stopping_watches_the_primary_metric() -> None:
    hooks = config_of(early_stopping=3, early_stopping_min_delta=0.01, ema=False, weak_epochs=0)["custom_hooks"]
    assert [hook["type"] for hook in hooks] == ["EarlyStoppingHook"]
    assert (hooks[0]["monitor"], hooks[0]["rule"], hooks[0]["patience"], hooks[0]["min_delta"]) == (
        "coco/bbox_mAP", "greater", 3, 0.01,
    )  # fmt: skip


def test_switches_reach_mmengine() -> None:
    config = config_of(deterministic=True, compile=True, machine=FOUR_GPUS)
    assert config["randomness"] == {"seed": 42, "deterministic": True}
    assert config["compile"] is True
    assert config["env_cfg"]["cudnn_benchmark"] is False
    other = config_of(machine=FOUR_GPUS)
    assert "compile" not in other
    assert (other["env_cfg"]["cudnn_benchmark"], other["randomness"]["deterministic"]) == (True, False)


def test_config_py_says_what_the_trainer_did_besides() -> None:
    said = beyond_config(plan_of(freeze=["backbone.stem"], channels_last=True), config_of())
    assert said.startswith("# ") and said.endswith("\n")
    assert "freeze=['backbone.stem'], channels_last=True" in said
    assert beyond_config(plan_of(), config_of(hsv_h=0, hsv_s=0, hsv_v=0)) == ""


@pytest.mark.parametrize(
    ("part", "said"),
    [({"type": "OhemCrossEntropy"}, "0 instead of NaN"), ({"type": "mmdet.Albu"}, "drawn from the seed")],
)
def test_config_py_says_what_was_mended(part: dict[str, Any], said: str) -> None:
    assert said in beyond_config(plan_of(), {"somewhere": [part]})
    assert "drawn from the seed" in beyond_config(plan_of(), config_of(hsv_h=0.1))


def test_compiling_needs_a_compiler() -> None:
    bare = CPU.model_copy(update={"compiler": False})
    with pytest.raises(ResourceError, match="needs a C\\+\\+ compiler"):
        check_request(TrainConfig(compile=True), load_recipe("rtmdet-tiny"), bare)
    check_request(TrainConfig(compile=True), load_recipe("rtmdet-tiny"), CPU)
    check_request(TrainConfig(), load_recipe("rtmdet-tiny"), bare)


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16"), (True, "float16")])
def test_mixed_precision_is_mmengines(asked: str | bool, dtype: str) -> None:
    wrapper = config_of(amp=asked, machine=FOUR_GPUS)["optim_wrapper"]
    assert (wrapper["type"], wrapper["dtype"]) == ("AmpOptimWrapper", dtype)


def test_rare_classes_are_shown_more_often() -> None:
    dataset = config_of(balanced_sampling=True)["train_dataloader"]["dataset"]
    assert (dataset["type"], dataset["oversample_thr"]) == ("ClassBalancedDataset", 0.1)
    assert dataset["dataset"]["type"] == "CocoDataset"
    assert config_of(balanced_sampling=False)["train_dataloader"]["dataset"]["type"] == "CocoDataset"


def test_balanced_class_weights_are_inverse_frequencies() -> None:
    profile = profile_of(40).model_copy(update={"objects_per_class": COUNTS})
    chosen = class_weights(TrainConfig(class_weights="balanced"), ("a", "b"), profile)
    assert chosen.value == (pytest.approx(40 / (2 * 30), abs=1e-4), 2.0)
    assert chosen.origin == "data"


def test_class_weights_by_name() -> None:
    chosen = class_weights(TrainConfig(class_weights={"b": 3}), ("a", "b"), profile_of(40))
    assert chosen.value == (1.0, 3.0)
    with pytest.raises(ConfigError, match="no class"):
        class_weights(TrainConfig(class_weights={"c": 3}), ("a", "b"), profile_of(40))


@pytest.mark.parametrize(
    ("model", "request_", "said"),
    [
        ("rtmdet-tiny", {"class_weights": "balanced"}, "class_weights: the loss of rtmdet-tiny takes none"),
        ("rtmdet-tiny", {"lr_milestones": [3]}, "lr_milestones: has no effect with lr_scheduler='cosine'"),
        ("rtmdet-tiny", {"lr_gamma": 0.1}, "lr_gamma: has no effect with lr_scheduler='cosine', only with step, multi"),
        ("faster-rcnn-r50", {"lr_power": 2}, "lr_power: has no effect with lr_scheduler='step', only with poly"),
        ("faster-rcnn-r50", {"lr_final_ratio": 0.1}, "lr_final_ratio: has no effect"),
        ("rtmdet-tiny", {"momentum": 0.8}, "momentum: AdamW has none"),
        ("rtmdet-tiny", {"balanced_sampling": True, "weak_epochs": 3}, "weak_epochs: not with balanced_sampling"),
        ("retinanet-r50", {"class_weights": {"a": 2}}, "class_weights: the loss of retinanet-r50 takes none"),
        ("rtmdet-tiny", {"lr_scheduler": "step", "lr_milestones": [3, 60], "epochs": 50}, "before the last of 50"),
        ("rtmdet-tiny", {"val_interval": [[3, 1]]}, "the first must begin at epoch 0"),
        ("rtmdet-tiny", {"early_stopping_min_delta": 0.1}, "without early_stopping"),
        ("rtmdet-tiny", {"amp": "bf16"}, "needs a GPU"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_data(model: str, request_: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_request(TrainConfig(**request_), load_recipe(model), CPU)


@pytest.mark.parametrize("task", list(PRIMARY_METRICS))
def test_a_metric_is_chosen_by_the_name_that_the_report_gives_it(task: Task) -> None:
    recipe = next(recipe for recipe in all_recipes() if recipe.task is task)
    # Of an instance model, the plain name chooses the masks: of two geometries the harder one.
    ours = {name for name in mm_metric_names(task) if task is not Task.INSTANCE or "segm" in name}
    for name in ours & {*PRIMARY_METRICS[task].values()}:
        assert primary_metric(TrainConfig(primary_metric=report_name(name)), recipe).value == name


def test_a_recipes_batch_is_fitted_to_the_gpus_an_asked_one_is_refused_before_the_data() -> None:
    plan = plan_of("faster-rcnn-r50", device="0-3", machine=FOUR_GPUS)
    assert (plan.batch.value, plan.batch.origin) == (4, "machine")
    assert "does not divide over 4 devices" in plan.batch.reason
    with pytest.raises(ConfigError, match="batch=7 does not divide over 4 devices"):
        check_request(TrainConfig(batch=7, device="0-3"), load_recipe("faster-rcnn-r50"), FOUR_GPUS)


def test_weights_that_would_teach_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="every class weighs 0"):
        class_weights(TrainConfig(class_weights={"a": 0, "b": 0}), ("a", "b"), profile_of(8))


@pytest.mark.parametrize(
    ("model", "freeze", "said"),
    [
        (
            "rtmdet-tiny",
            ["bakbone"],
            "freeze: rtmdet-tiny has no part 'bakbone', only backbone, neck, bbox_head; did you",
        ),
        ("rtmdet-tiny", ["backbone.stem", "head.cls"], "has no part 'head'"),
        ("rtmdet-tiny", ["back.stem"], "did you mean 'backbone'?"),
        ("rtmpose-t", ["neck*"], "rtmpose-t has no part 'neck'"),
    ],
)
def test_a_part_that_the_model_does_not_have_is_told_before_the_data(model: str, freeze: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_request(TrainConfig(freeze=freeze), load_recipe(model), CPU)
    assert said in caught.value.message


@pytest.mark.parametrize("freeze", ["backbone", "back*", "backbone.stem.*", "neck", "bbox_head.cls_convs"])
def test_a_part_may_be_named_by_its_beginning(freeze: str) -> None:
    check_request(TrainConfig(freeze=freeze), load_recipe("rtmdet-tiny"), CPU)

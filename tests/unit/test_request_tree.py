"""The platform's generic tree: its defaults are nobody's wishes, what differs from them is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.request_forms import TREE_DEFAULTS, problem, read, tree
from trainer_sdk.config.platform_tree import wishes
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError

AUGMENTATIONS = (
    "mosaic", "mixup", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "random_crop",
    "copy_paste",
)  # fmt: skip


def test_the_generic_trees_defaults_count_for_nothing() -> None:
    spec = read({"epochs": 5, "learning_rate": 0.01, "imgsz": 640, "advanced_config": TREE_DEFAULTS})
    assert spec.config == TrainConfig(epochs=5, lr0=0.01, imgsz=640)
    assert spec.notes == ()


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ({"optimizer__type": "sgd"}, {"optimizer": "SGD"}),
        ({"optimizer__weight_decay": 0.05}, {"weight_decay": 0.05}),
        ({"optimizer__momentum": 0.8}, {"momentum": 0.8}),
        ({"scheduler__type": "cosine"}, {"lr_scheduler": "cosine"}),
        ({"preprocessing__image_size": [512, 256]}, {"imgsz": (512, 256)}),
        ({"mixed_precision": True}, {"amp": True}),
        ({"checkpoint_interval": 2}, {"checkpoint_interval": 2}),
        ({"keep_n_checkpoints": 1}, {"checkpoint_keep_max": 1}),
        ({"scheduler__type": "one_cycle"}, {"lr_scheduler": "onecycle"}),
        ({"scheduler__type": "step", "scheduler__step_size": 8}, {"lr_scheduler": "step", "lr_milestones": 8}),
        (
            {"scheduler__type": "multistep", "scheduler__milestones": [8, 11], "scheduler__gamma": 0.2},
            {"lr_scheduler": "multistep", "lr_milestones": [8, 11], "lr_gamma": 0.2},
        ),
        ({"scheduler__step_size": 8, "scheduler__gamma": 0.2}, {}),
        ({"scheduler__warmup_epochs": 3}, {"warmup_epochs": 3}),
        ({"augmentation__random_flip": False}, {"fliplr": 0}),
        ({"augmentation__random_flip_prob": 0.3}, {"fliplr": 0.3}),
        ({"augmentation__mixup": True}, {"mixup": 1}),
        ({"validation__val_interval": 2}, {"val_interval": 2}),
        ({"validation__early_stopping": True, "validation__early_stopping_patience": 4}, {"early_stopping": 4}),
        ({"validation__early_stopping": True}, {"early_stopping": 10}),
        ({"validation__early_stopping": False, "validation__early_stopping_patience": 4}, {}),
        (
            {"validation__save_best_metric": "mAP50", "validation__save_best_mode": "max"},
            {"primary_metric": "mAP50", "primary_metric_mode": "max"},
        ),
        ({"gradient_clip_value": 1.5}, {"grad_clip": 1.5}),
        ({"gradient_accumulation_steps": 4}, {"accumulate": 4}),
    ],
)
def test_a_changed_leaf_of_the_generic_tree_is_a_wish(leaf: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read({"advanced_config": tree(**leaf)}).config == TrainConfig(**expected)


def test_a_wish_that_cannot_be_granted_is_noted() -> None:
    (note,) = read({"advanced_config": tree(log_interval=5)}).notes
    assert note == "CONFIG.advanced_config.log_interval=5 has no effect in this trainer"


def test_what_belongs_to_a_switch_counts_with_it() -> None:
    branch = {"hue": 0.1, "saturation": 0.2, "brightness": 0.3, "rotation_degrees": 10, "crop_scale": [0.8, 1]}
    chosen, _ = wishes({"augmentation": branch}, "")
    assert chosen == {}
    switched = {"color_jitter": True, "random_rotation": True, "random_crop": True}
    chosen, _ = wishes({"augmentation": branch | switched}, "")
    values = {name: value for name, (_, value) in chosen.items()}
    assert values == {"hsv_h": 0.1, "hsv_s": 0.2, "hsv_v": 0.3, "degrees": 10, "random_crop": 1.0}
    off, _ = wishes({"augmentation": branch | switched | {"enabled": False}}, "")
    assert {value for _, value in off.values()} == {0.0}
    assert {*AUGMENTATIONS} == {*off}


def test_a_switch_for_what_we_do_not_do_is_noted() -> None:
    notes = read({"advanced_config": tree(augmentation__cutmix=True, optimizer__nesterov=True)}).notes
    assert [note.partition("=")[0] for note in notes] == [
        "CONFIG.advanced_config.optimizer.nesterov", "CONFIG.advanced_config.augmentation.cutmix",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ({"optimizer__type": "rmsprop"}, "CONFIG.advanced_config.optimizer.type='rmsprop'"),
        ({"optimizer__learning_rate": "fast"}, "CONFIG.advanced_config.optimizer.learning_rate='fast'"),
        ({"scheduler__type": ["step"]}, "CONFIG.advanced_config.scheduler.type=['step']"),
        ({"checkpoint_interval": "often"}, "CONFIG.advanced_config.checkpoint_interval='often'"),
    ],
)
def test_a_leaf_that_cannot_be_read_is_named(leaf: dict[str, Any], said: str) -> None:
    assert said in problem({"advanced_config": tree(**leaf)})


def test_a_tree_without_augmentation_says_nothing_of_what_is_not_there_anyway() -> None:
    assert read({"advanced_config": tree(augmentation__enabled=False)}).notes == ()


def test_the_trees_lists_may_be_text_too() -> None:
    asked = tree(scheduler__type="multistep", scheduler__milestones="[3, 5]")
    assert read({"advanced_config": asked}).config.lr_milestones == (3, 5)


def test_a_misspelt_leaf_of_the_generic_tree_is_told() -> None:
    tree = {"optimizr": {"type": "sgd"}, "optimizer": {"type": "adam", "momentm": 0.8}}
    spec = read(CONFIG=json.dumps({"advanced_config": tree}))
    assert list(spec.notes) == [
        "CONFIG.advanced_config.optimizr.type='sgd' is unknown and has no effect",
        "CONFIG.advanced_config.optimizer.momentm=0.8 is unknown and has no effect",
    ]


def test_our_own_keys_beside_the_trees_branches_count() -> None:
    """Somebody wrote ``advanced`` by hand and the optimizer as an object."""
    mixed = {"optimizer": {"type": "sgd"}, "seed": 5, "pretrained": False}
    for name in ("advanced", "advanced_config"):
        config = read({name: mixed}).config
        assert (config.optimizer, config.seed, config.pretrained) == ("SGD", 5, False)
    with pytest.raises(ConfigError, match=r"CONFIG\.advanced\.mozaic is unknown; did you mean 'mosaic'"):
        read({"advanced": {"optimizer": {"type": "sgd"}, "mozaic": 1}})

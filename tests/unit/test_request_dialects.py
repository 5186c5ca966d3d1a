"""One request in every dialect, spelling and level: the same specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.request_forms import problem, read, tree
from trainer_sdk.config.train import TrainConfig

DIALECTS: dict[str, dict[str, Any]] = {
    "flat": {
        "config": {"epochs": 5, "batch": 4, "learning_rate": 0.002, "imgsz": 640, "device": "0", "optimizer": "AdamW"}
    },
    "flat, other names": {
        "config": {
            "batch_size": 4,
            "lr0": 0.002,
            "image_size": [640, 640],
            "device": 0,
            "optimizer": "AdamW",
            "epochs": 5,
        }
    },
    "basic and advanced": {
        "config": {
            "basic": {"epochs": 5, "batch": 4, "lr0": 0.002, "optimizer": "AdamW", "device": "0"},
            "advanced": {"imgsz": 640},
        }
    },
    "generic tree": {
        "config": {
            "advanced_config": tree(
                optimizer__type="adamw", optimizer__learning_rate=0.002, preprocessing__image_size=640
            ),
            "epochs": 5,
            "batch": 4,
            "learning_rate": 0.001,
            "imgsz": 320,
            "device": "0",
        }
    },
    "variables": {
        "config": {"optimizer": "AdamW"},
        "EPOCHS": "5",
        "BATCH_SIZE": "4",
        "LEARNING_RATE": "0.002",
        "IMGSZ": "640",
        "DEVICE": "0",
    },
    "both at once": {
        "config": {"epochs": 5, "batch": 4, "learning_rate": 2e-3, "imgsz": 640, "device": "0", "optimizer": "AdamW"},
        "EPOCHS": "5",
        "BATCH_SIZE": "4",
        "LEARNING_RATE": "0.002",
        "IMGSZ": "640",
        "DEVICE": "0",
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(dialect: str) -> None:
    expected = TrainConfig(epochs=5, batch=4, lr0=0.002, imgsz=(640, 640), device="0", optimizer="AdamW")
    assert read(**DIALECTS[dialect]).config == expected


@pytest.mark.parametrize(
    "config", [None, "", "{}", {"basic": {}, "advanced": None}, {"advanced_config": {}}, {"epochs": None}]
)
def test_nothing_chosen_is_nothing_decided(config: Any) -> None:
    assert read(config).config == TrainConfig()


SAME: dict[str, list[dict[str, Any]]] = {
    "keep": [
        {"keep": 2}, {"checkpoint_keep_max": 2}, {"max_keep_ckpts": 2},
        {"advanced_config": tree(keep_n_checkpoints=2)},
    ],
    "clipping": [
        {"grad_clip": 35.0}, {"clip_grad": 35}, {"clip_grad": {"max_norm": 35, "norm_type": 2}},
        {"gradient_clip_value": 35}, {"advanced_config": tree(gradient_clip_value=35)},
    ],
    "accumulation": [
        {"accumulate": 2}, {"gradient_accumulation_steps": 2}, {"accumulative_counts": 2},
        {"advanced_config": tree(gradient_accumulation_steps=2)},
    ],
    "early stopping": [
        {"early_stopping": 4}, {"patience": 4}, {"early_stopping": True, "patience": 4}, {"early_stopping_patience": 4},
        {"advanced_config": tree(validation__early_stopping=True, validation__early_stopping_patience=4)},
    ],
    "no early stopping": [{}, {"early_stopping": False, "patience": 4}, {"early_stopping": False}],
    "last epochs": [{"weak_epochs": 3}, {"close_mosaic": 3}, {"close_mosaic_epochs": 3}],
    "frozen stages": [{"backbone_frozen_stages": 1}, {"frozen_stages": 1}],
    "size": [{"imgsz": [640, 320]}, {"img_scale": [640, 320]}, {"image_size": [640, 320]}, {"crop_size": [320, 640]}],
    "cosine": [
        {"lr_scheduler": "cosine"}, {"scheduler": "cosine"}, {"lr_scheduler": "CosineAnnealingLR"},
        {"advanced_config": tree(scheduler__type="cosine")},
    ],
    "one cycle": [
        {"lr_scheduler": "onecycle"}, {"lr_scheduler": "one_cycle"}, {"lr_scheduler": "OneCycleLR"},
        {"advanced_config": tree(scheduler__type="one_cycle")},
    ],
    "every eight epochs": [
        {"lr_scheduler": "step", "lr_milestones": 8}, {"lr_scheduler": "step", "milestones": [8]},
        {"advanced_config": tree(scheduler__type="step", scheduler__step_size=8)},
    ],
    "precision": [
        {"amp": True}, {"mixed_precision": True}, {"amp": "fp16"}, {"advanced_config": tree(mixed_precision=True)},
    ],
    "frozen by name": [{"freeze": "backbone"}, {"freeze": ["backbone"]}],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_every_spelling_and_every_level_says_the_same(name: str) -> None:
    first, *others = SAME[name]
    expected = read(first).config
    for flat in others:
        assert read(flat).config == expected, flat
        if "advanced_config" not in flat:
            assert read({"basic": flat, "advanced": {}}).config == expected
            assert read({"basic": {}, "advanced": flat}).config == expected


OF_THE_TREE: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "optimizer": ("optimizer__type", st.sampled_from(["SGD", "AdamW"])),
    "lr0": ("optimizer__learning_rate", st.floats(2e-3, 0.5)),
    "weight_decay": ("optimizer__weight_decay", st.floats(1e-5, 0.5)),
    "momentum": ("optimizer__momentum", st.floats(0, 0.8)),
    "lr_scheduler": ("scheduler__type", st.sampled_from(["step", "multistep", "cosine"])),
    "warmup_epochs": ("scheduler__warmup_epochs", st.integers(1, 20)),
    "fliplr": ("augmentation__random_flip_prob", st.floats(0.6, 1)),
    "imgsz": ("preprocessing__image_size", st.integers(10, 40).map(lambda cells: 32 * cells)),
    "val_interval": ("validation__val_interval", st.integers(2, 50)),
    "grad_clip": ("gradient_clip_value", st.floats(0.1, 50)),
    "accumulate": ("gradient_accumulation_steps", st.integers(2, 64)),
    "checkpoint_interval": ("checkpoint_interval", st.integers(1, 9)),
    "checkpoint_keep_max": ("keep_n_checkpoints", st.sampled_from([1, 2, 4, 5])),
    "amp": ("mixed_precision", st.just(True)),
}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(flat=st.fixed_dictionaries({}, optional={name: values for name, (_, values) in OF_THE_TREE.items()}))
def test_flat_nested_and_generic_forms_are_one_request(flat: dict[str, Any]) -> None:
    config = read(flat).config
    platforms = {OF_THE_TREE[name][0]: value for name, value in flat.items()}
    if "optimizer" in flat:
        platforms["optimizer__type"] = flat["optimizer"].lower()
    for other in (
        {"basic": flat},
        {"advanced": flat, "basic": {}},
        {"advanced_config": tree(**platforms)},
    ):
        again = read(other).config
        assert again == config
        assert again.model_fields_set == config.model_fields_set


def test_two_spellings_that_differ_are_named_both() -> None:
    message = problem({"keep": 2, "checkpoint_keep_max": 3})
    assert "CONFIG.keep=2" in message and "CONFIG.checkpoint_keep_max=3" in message


@pytest.mark.parametrize(
    ("config", "environ", "first", "second"),
    [
        ({"epochs": 5}, {"EPOCHS": "6"}, "EPOCHS=6", "CONFIG.epochs=5"),
        ({"batch": 2, "batch_size": 4}, {}, "CONFIG.batch=2", "CONFIG.batch_size=4"),
        ({"basic": {"lr0": 0.1}, "learning_rate": 0.2}, {}, "CONFIG.basic.lr0=0.1", "CONFIG.learning_rate=0.2"),
        (
            None,
            {"DATASET_S3_URI": "s3://b/datasets/other/"},
            "DATASET_ID='ds_abc'",
            "DATASET_S3_URI='s3://b/datasets/other/'",
        ),
        (
            None,
            {"DATASET_PATH": "/data/ds_abc", "DATASET_S3_URI": "/mnt/ds_abc"},
            "DATASET_PATH='/data/ds_abc'",
            "DATASET_S3_URI='/mnt/ds_abc'",
        ),
    ],
)
def test_a_contradiction_names_both_sources(config: Any, environ: dict[str, str], first: str, second: str) -> None:
    message = problem(config, **environ)
    assert first in message
    assert second in message
    assert "give one" in message

"""The values of CONFIG: what is taken, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.request_forms import problem, read
from trainer_sdk.config.forms import TRAIN
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.config.values import SWITCH


@pytest.mark.parametrize("key", sorted(TRAIN.refused))
def test_keys_of_other_trainers_are_refused_with_what_to_do_instead(key: str) -> None:
    assert f"CONFIG.{key} is not supported: {TRAIN.refused[key]}" in problem({key: "x"})
    assert read({key: None}).config == TrainConfig()


@pytest.mark.parametrize("device", ["cpu", "0", "0,1", "0-3", "0-1,3"])
def test_devices(device: str) -> None:
    assert read({"device": device}).config.device == device
    assert read(DEVICE=device).config.device == device
    assert read({"basic": {"device": device}}, DEVICE=device).config.device == device


@pytest.mark.parametrize(
    ("written", "device"),
    [("cuda:0", "0"), ("cuda", "0"), ("cuda:1,cuda:3", "1,3"), ("cuda:0-3", "0-3"), ("CPU", "cpu"), ("0, 1", "0,1")],
)
def test_devices_in_other_words(written: str, device: str) -> None:
    assert read({"device": written}).config.device == device
    assert read(DEVICE=written).config.device == device


@pytest.mark.parametrize("device", ["gpu", "0,", "-1", True, "cuda:", "mps"])
def test_devices_that_are_none(device: Any) -> None:
    assert "CONFIG.device=" in problem({"device": device})


def test_a_word_for_some_gpu_is_answered_with_what_to_write() -> None:
    assert "write 0 for the first GPU, 0,1 or 0-3 for several, or cpu" in problem(DEVICE="gpu")


@pytest.mark.parametrize("switch", [True, False])
def test_a_switch_is_no_number(switch: bool) -> None:
    numeric = [
        name for name, field in TrainConfig.model_fields.items() if field.annotation in (int | None, float | None)
    ]
    plain = [name for name in numeric if SWITCH not in TrainConfig.model_fields[name].metadata]
    assert {"epochs", "lr0", "workers", "grad_clip"} <= {*plain}
    for name in {*plain, "batch", "seed", "val_interval", "lr_milestones", "inspect_images"} - {"early_stopping"}:
        assert f"CONFIG.{name}={switch}: true and false cannot stand here" in problem({name: switch})


@pytest.mark.parametrize(
    "inside",
    [
        {"lr_milestones": [True, 8]},
        {"imgsz": [640, True]},
        {"val_interval": [[0, True]]},
        {"class_weights": {"a": True}},
    ],
)
def test_nor_is_one_in_a_list(inside: dict[str, Any]) -> None:
    (name,) = inside
    message = problem(inside)
    assert f"CONFIG.{name}=" in message and "true and false cannot stand here" in message


@pytest.mark.parametrize("nothing", [{"class_weights": {}}, {"lr_milestones": []}, {"class_weights": "{}"}])
def test_an_empty_wish_is_none(nothing: dict[str, Any]) -> None:
    assert "it is empty: leave it out" in problem(nothing)


def test_lr_is_the_learning_rate() -> None:
    assert read({"lr": 0.02}).config.lr0 == 0.02
    assert "CONFIG.lr0=0.1" in problem({"lr": 0.02, "lr0": 0.1})


@pytest.mark.parametrize(("given_size", "size"), [(640, (640, 640)), (640.0, (640, 640)), ([1280, 736], (1280, 736))])
def test_image_sizes(given_size: Any, size: tuple[int, int]) -> None:
    assert read({"imgsz": given_size}).config.imgsz == size


@pytest.mark.parametrize("wrong", [True, 16, [640], [640, 640, 3], "large", 640.5])
def test_image_sizes_that_are_none(wrong: Any) -> None:
    assert problem({"imgsz": wrong}).count("CONFIG.imgsz=") == 1


@pytest.mark.parametrize(("value", "probability"), [(True, 1.0), (False, 0.0), (0.3, 0.3), (None, None)])
def test_augmentations_are_probabilities_or_switches(value: Any, probability: float | None) -> None:
    config = read({"advanced": {"mosaic": value, "mixup": value, "fliplr": value}}).config
    assert (config.mosaic, config.mixup, config.fliplr) == (probability,) * 3


def test_the_primary_metric_is_passed_on() -> None:
    config = read({"primary_metric": "mAP50", "primary_metric_mode": "max"}).config
    assert (config.primary_metric, config.primary_metric_mode) == ("mAP50", "max")


def test_of_several_forms_the_one_that_was_meant_is_spoken_of() -> None:
    assert "greater than or equal to 1" in problem({"val_interval": [[0, 0]]})
    assert "should be a list" in problem({"imgsz": "abc"})


@pytest.mark.parametrize(
    ("variable", "key"), [("cuda:0", "0"), ("cuda", 0), ("0, 1", "0,1"), ("CPU", "cpu"), ("1", "cuda:1")]
)
def test_a_device_written_in_two_ways_is_one_device(variable: str, key: str | int) -> None:
    assert read({"device": key}, DEVICE=variable).config.device == read({"device": key}).config.device


def test_two_devices_contradict_each_other() -> None:
    assert "DEVICE='cuda:1' and CONFIG.device='0' contradict each other" in problem({"device": "0"}, DEVICE="cuda:1")


def test_an_unknown_key_is_answered_with_a_few_names_and_where_all_are() -> None:
    said = problem({"xyzzy": 1})
    assert "CONFIG.xyzzy is unknown (the closest are " in said
    assert "docs/environment.md)" in said
    assert len(said) < 200

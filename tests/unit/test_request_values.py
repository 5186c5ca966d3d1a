"""The values of CONFIG: what is taken, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.request_forms import problem, read
from trainer_sdk.jobspec import TrainConfig
from trainer_sdk.request import REFUSED


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_of_other_trainers_are_refused_with_what_to_do_instead(key: str) -> None:
    assert f"CONFIG.{key} is not supported: {REFUSED[key]}" in problem({key: "x"})
    assert read({key: None}).config == TrainConfig()


@pytest.mark.parametrize("device", ["cpu", "0", "0,1", "0-3", "0-1,3"])
def test_devices(device: str) -> None:
    assert read({"device": device}).config.device == device
    assert read(DEVICE=device).config.device == device
    assert read({"basic": {"device": device}}, DEVICE=device).config.device == device


@pytest.mark.parametrize("device", ["cuda:0", "gpu", "0,", "-1", True])
def test_devices_that_are_none(device: Any) -> None:
    assert "CONFIG.device=" in problem({"device": device})


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

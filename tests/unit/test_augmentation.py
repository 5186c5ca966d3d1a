"""What cannot be asked of an augmentation is refused by name before the data; what can, is in the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from mmtrain.augmentation import augmentation_problems
from mmtrain.choices import AUGMENTATIONS
from mmtrain.config.words import pipeline_in_words
from mmtrain.recipes import load_recipe
from tests.unit.test_config import config_of
from tests.unit.test_plan import plan_of
from trainer_sdk.config.train import TrainConfig


def problems(model: str = "rtmdet-tiny", **asked: Any) -> list[str]:
    return augmentation_problems(TrainConfig(**asked), load_recipe(model))


def steps_of(**asked: Any) -> dict[str, dict[str, Any]]:
    pipeline = config_of("faster-rcnn-r50", **asked)["train_dataloader"]["dataset"]["pipeline"]
    return {step["type"]: step for step in pipeline}


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"type": "Blurr"}, "albumentations[0]: there is no transform 'Blurr'; did you mean 'Blur'?"),
        ({"p": 1.0}, "albumentations[0]: there is no transform None"),
        ({"type": "Blur", "blurlimit": 3}, "albumentations[0]: Blur has no blurlimit; it has blur_limit"),
        ({"type": "Blur", "blur_limit": "x"}, "albumentations[0]: "),
        ({"type": "OneOf", "transforms": [{"type": "Nope"}]}, "albumentations[0]: there is no transform 'Nope'"),
        ({"type": "Normalize"}, "albumentations[0]: Normalize does not leave a picture of whole numbers"),
    ],
)
def test_albumentations_are_tried_before_the_data(transform: dict[str, Any], said: str) -> None:
    (problem,) = problems(albumentations=[transform])
    assert problem.startswith(said)


def test_albumentations_move_boxes_and_no_masks() -> None:
    asked = [{"type": "OneOf", "transforms": [{"type": "HorizontalFlip"}, {"type": "Blur"}]}, {"type": "CLAHE"}]
    assert problems(albumentations=asked) == []
    (problem,) = problems("mask-rcnn-r50", albumentations=asked)
    assert problem.startswith("albumentations[0]: HorizontalFlip would move the picture and not its masks")
    for model in ("pspnet-r50", "rtmpose-t"):
        assert len(problems(model, albumentations=asked)) == 1


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("rtmdet-tiny", {"copy_paste"}),
        ("mask-rcnn-r50", {"copy_paste=0.5"}),
        ("pspnet-r50", {"mosaic", "mixup", "copy_paste"}),
        ("rtmpose-t", {"mosaic", "mixup", "copy_paste", "random_crop"}),
        ("rtmo-s", {"mosaic", "mixup", "copy_paste", "random_crop"}),
    ],
)
def test_what_a_task_cannot_have_is_named(model: str, refused: set[str]) -> None:
    assert {problem.partition(":")[0] for problem in problems(model, **dict.fromkeys(AUGMENTATIONS, 0.5))} == refused
    assert problems(model, **dict.fromkeys(AUGMENTATIONS, 0)) == []


def test_a_weak_stage_needs_something_to_leave_out() -> None:
    assert problems("rtmdet-tiny", weak_epochs=3) == []
    assert problems("faster-rcnn-r50", weak_epochs=3, mosaic=1) == []
    assert problems("faster-rcnn-r50", weak_epochs=3)[0].startswith("weak_epochs: ")
    assert problems("rtmdet-tiny", weak_epochs=3, mosaic=0)[0].startswith("weak_epochs: ")


def test_the_last_epochs_leave_out_what_mixes_pictures_and_nothing_else() -> None:
    config = config_of(
        epochs=20, weak_epochs=5, mosaic=1, mixup=0.5, degrees=10, hsv_h=0.1, albumentations=[{"type": "Blur"}]
    )
    (hook,) = [hook for hook in config["custom_hooks"] if hook["type"] == "mmdet.PipelineSwitchHook"]
    assert hook["switch_epoch"] == 15
    strong = [step["type"] for step in config["train_dataloader"]["dataset"]["pipeline"]]
    weak = [step["type"] for step in hook["switch_pipeline"]]
    assert {"CachedMosaic", "CachedMixUp"} <= set(strong)
    assert not {"CachedMosaic", "CachedMixUp"} & set(weak)
    assert [kind for kind in weak if kind in ("Rotate", "Albu", "RandomFlip", "Pad")] == [
        kind for kind in strong if kind in ("Rotate", "Albu", "RandomFlip", "Pad")
    ]


def test_without_a_mosaic_there_is_no_second_stage() -> None:
    assert "PipelineSwitchHook" not in repr(config_of(epochs=20, weak_epochs=5, mosaic=0)["custom_hooks"])
    assert "PipelineSwitchHook" not in repr(config_of(epochs=20, weak_epochs=0, mosaic=1)["custom_hooks"])


def test_a_short_training_has_a_short_second_stage() -> None:
    assert plan_of(epochs=5).weak_epochs.value == 0
    assert plan_of(epochs=5, weak_epochs=2).weak_epochs.value == 2
    assert plan_of(epochs=100, balanced_sampling=True).weak_epochs.value == 0


def test_only_what_was_asked_for_is_in_the_pipeline() -> None:
    assert list(steps_of()) == ["LoadImageFromFile", "LoadAnnotations", "Resize", "RandomFlip", "PackDetInputs"]
    asked = {"degrees": 10, "translate": 0.1, "scale": 0.5, "flipud": 0.2, "random_crop": 0.3}
    assert set(steps_of(**asked)) - set(steps_of()) == {
        "RandomApply", "RandomResize", "RandomCrop", "Rotate", "Expand", "FilterAnnotations",
    }  # fmt: skip


def test_a_pipeline_can_be_said_in_words() -> None:
    asked = {"degrees": 10, "translate": 0.1, "scale": 0.5, "flipud": 0.2, "random_crop": 0.3, "mosaic": 0.4}
    colours = {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "albumentations": [{"type": "Blur", "p": 0.1}]}
    pipeline = config_of("mask-rcnn-r50", **asked, **colours)["train_dataloader"]["dataset"]["pipeline"]
    said = " / ".join(pipeline_in_words(pipeline))
    for part in (
        "crop to at least 50% of the width and at least 50% of the height, at a random place (30% of the pictures)",
        "40%: mosaic of four pictures",
        "60%: resize to fit into 0.5 to 1.5 times 1333 × 800",
        "turn by up to 10° about the centre",
        "grey canvas of 1.1 times the size",
        "hue by 1.5% of the circle, saturation by 70%, brightness by 40% at most",
        "Blur(p=0.1)",
        "flip up-down (20% of the pictures)",
        "fit boxes to their masks",
    ):
        assert part in said
    assert "{'" not in said


def test_copy_paste_is_all_or_nothing_and_needs_its_data_set_for_itself() -> None:
    instance = "mask-rcnn-r50"
    assert problems(instance, copy_paste=1) == problems(instance, copy_paste=True, mosaic=0.5) == []
    assert problems(instance, copy_paste=0.5)[0].startswith("copy_paste=0.5: 0 or 1")
    assert problems(instance, copy_paste=1, weak_epochs=2)[0].startswith("weak_epochs: ")
    assert problems(instance, copy_paste=1, balanced_sampling=True)[0].startswith("balanced_sampling: ")
    assert plan_of("rtmdet-ins-tiny", copy_paste=1).weak_epochs.value == 0


def test_copy_paste_sees_pictures_of_one_size_and_evaluation_is_as_without() -> None:
    with_it, without = (config_of("mask-rcnn-r50", copy_paste=chance) for chance in (1, 0))
    outer = with_it["train_dataloader"]["dataset"]
    assert [outer["type"], outer["dataset"]["type"]] == ["MultiImageMixDataset", "RepeatDataset"]
    assert [step["type"] for step in outer["pipeline"]] == ["CopyPaste", "FilterAnnotations", "PackDetInputs"]
    assert outer["dataset"]["dataset"]["pipeline"][-1]["size"] == (1333, 1333)
    assert with_it["val_dataloader"] == without["val_dataloader"]

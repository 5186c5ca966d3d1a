"""The numbers of a data set, and the advice that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.coco import ObjectTable
from mmtrain.datasets.columns import SplitColumns
from mmtrain.datasets.profile import Contents, DatasetProfile, make_profile
from mmtrain.datasets.recommend import MODEL_RULES, recommend, recommend_for, recommend_imgsz, trainable
from mmtrain.recipes import load_recipe
from trainer_sdk.tasks import Task

BOXES = Contents(boxes=True, masks=False, keypoints=False)


def split(images: list[tuple[int, int]], objects: list[tuple[int, int, float, float]], first_id: int = 1) -> Any:
    """Images (width, height); objects (image, class, width, height) at the upper left corner; class 9 is a crowd."""
    table = np.array(objects, dtype=np.float64).reshape(-1, 4)
    boxes = np.zeros((len(table), 4))
    boxes[:, 2:] = table[:, 2:]
    return SplitColumns(
        file_names=tuple(f"{i}.png" for i in range(len(images))),
        image_id=np.arange(first_id, first_id + len(images), dtype=np.int32),
        size_wh=np.array(images, dtype=np.float64).reshape(-1, 2),
        objects=ObjectTable(
            id=np.arange(len(table), dtype=np.int64),
            image_id=(table[:, 0] + first_id).astype(np.int32),
            category_id=table[:, 1].astype(np.int32),
            bbox_xywh=boxes,
            area=boxes[:, 2] * boxes[:, 3],
            iscrowd=table[:, 1] == 9,
            keypoints=np.zeros((len(table), 0, 3)),
        ),
    )


def profile_of(train: Any, contents: Contents = BOXES, classes: int = 2) -> DatasetProfile:
    empty = split([], [])
    names = [f"class {i}" for i in range(classes)]
    return make_profile({"train": train, "val": empty, "test": empty}, names, contents)


def uniform(image: tuple[int, int], side: float, images: int = 10) -> DatasetProfile:
    """Every image with one square object."""
    return profile_of(split([image] * images, [(i, 0, side, side) for i in range(images)]))


def test_numbers_are_those_of_the_columns() -> None:
    train = split([(640, 480), (640, 480), (320, 240)], [(0, 0, 10, 10), (0, 1, 50, 50), (2, 0, 120, 120)])
    val = split([(640, 480)], [(0, 0, 40, 40)], first_id=4)
    profile = make_profile({"train": train, "val": val, "test": split([], [])}, ["a", "b"], BOXES)
    assert profile.images == {"train": 3, "val": 1, "test": 0}
    assert profile.objects == {"train": 3, "val": 1, "test": 0}
    assert profile.objects_per_class == {"a": {"train": 2, "val": 1, "test": 0}, "b": {"train": 1, "val": 0, "test": 0}}
    assert profile.object_px is not None and (profile.object_px.min, profile.object_px.max) == (10, 120)
    assert profile.shares is not None
    assert (profile.shares.small, profile.shares.medium, profile.shares.large) == (0.25, 0.5, 0.25)
    assert profile.object_to_long_side is not None and profile.object_to_long_side.max == 120 / 320
    assert profile.object_to_image is not None and profile.object_to_image.max == pytest.approx(0.433, abs=1e-3)
    assert profile.objects_per_image is not None and profile.objects_per_image.min == 0
    assert profile.image_long_side_px is not None and profile.image_long_side_px.p50 == 640


def test_crowds_are_counted_but_not_measured() -> None:
    profile = profile_of(split([(100, 100)], [(0, 0, 10, 10), (0, 9, 90, 90)]), classes=10)
    assert profile.objects["train"] == 2
    assert profile.object_px is not None and profile.object_px.max == 10


def test_an_empty_set_has_a_profile_and_no_advice() -> None:
    profile = profile_of(split([], []), Contents(boxes=False, masks=False, keypoints=False))
    assert profile.object_px is profile.shares is profile.objects_per_image is None
    assert recommend(profile) is None
    assert not any(answer.possible for answer in trainable(profile))


def test_sizes_that_are_not_known_are_left_out() -> None:
    profile = profile_of(split([(np.nan, np.nan), (64, 48)], [(0, 0, 10, 10), (1, 0, 10, 10)]))
    assert profile.image_width_px is not None and profile.image_width_px.max == 64
    assert profile.object_to_image is not None


@pytest.mark.parametrize(
    ("contents", "task", "model"),
    [
        (BOXES, Task.DETECTION, "rtmdet-tiny"),
        (Contents(boxes=True, masks=True, keypoints=False), Task.INSTANCE, "rtmdet-ins-tiny"),
    ],
)
def test_the_richest_labels_with_a_model_decide_the_task(contents: Contents, task: Task, model: str) -> None:
    advice = recommend(profile_of(split([(640, 480)], [(0, 0, 100, 100)]), contents))
    assert advice is not None
    assert (advice.task, advice.model) == (task, model)
    assert advice.task_reason and advice.model_reason and advice.imgsz_reason


@pytest.mark.parametrize("task", sorted({rule.task for rule in MODEL_RULES}))
@pytest.mark.parametrize("images", [10, 5000])
def test_a_rule_names_a_model_of_its_task_whose_weights_anybody_may_use(task: Task, images: int) -> None:
    advice = recommend_for(task, uniform((640, 480), 100, images=images))
    assert advice.model is not None and advice.model_reason in {rule.because for rule in MODEL_RULES}
    weights = load_recipe(advice.model, task).weights
    assert weights is not None and weights.license == "Apache-2.0"


def test_many_images_get_the_larger_model() -> None:
    advice = recommend(uniform((640, 480), 100, images=1000))
    assert advice is not None and advice.model == "rtmdet-s"


@pytest.mark.parametrize(
    ("image", "side", "imgsz", "reason"),
    [
        ((640, 480), 100, 640, "nine objects in ten have 100 px"),
        ((4000, 3000), 200, 640, "nine objects in ten have 32 px"),
        ((4000, 3000), 30, 1088, "makes|now"),
        ((4000, 3000), 8, 1280, "tiles"),
        ((800, 600), 6, 800, "no more pixels"),
        ((640, 480), 5, 640, "no more pixels"),
        ((320, 240), 40, 320, "would only enlarge"),
        ((96, 96), 40, 320, "would only enlarge"),
        ((500, 375), 40, 640, "published weights"),
    ],
)
def test_input_size_follows_objects_and_images(image: tuple[int, int], side: float, imgsz: int, reason: str) -> None:
    size, why = recommend_imgsz(uniform(image, side), load_recipe("rtmdet-tiny"))
    assert size == (imgsz, imgsz)
    assert any(part in why for part in reason.split("|")), why


def test_two_stage_models_keep_their_own_size_on_images_like_cocos() -> None:
    recipe = load_recipe("faster-rcnn-r50")
    assert recommend_imgsz(uniform((640, 480), 60), recipe)[0] == recipe.defaults.imgsz
    width, height = recommend_imgsz(uniform((256, 256), 60), recipe)[0]
    assert (width % 32, height % 32) == (0, 0)
    assert width < 640


@pytest.mark.parametrize("side", [2, 8, 30, 200])
@pytest.mark.parametrize("image", [(64, 64), (640, 480), (1000, 4000), (9000, 6000)])
@pytest.mark.parametrize("model", ["rtmdet-tiny", "faster-rcnn-r50", "mask-rcnn-r50"])
def test_any_recommended_size_can_be_trained_at(image: tuple[int, int], side: float, model: str) -> None:
    recipe = load_recipe(model)
    size, _ = recommend_imgsz(uniform(image, side), recipe)
    assert size == recipe.defaults.imgsz or all(one % 32 == 0 for one in size)
    assert 320 <= max(size) <= max(1280, *recipe.defaults.imgsz)
    assert not recipe.letterbox or size[0] == size[1]


def test_mask_files_serve_semantic_segmentation_only() -> None:
    contents = Contents(boxes=False, masks=False, keypoints=False, mask_files=True)
    possible = {answer.task for answer in trainable(profile_of(split([(64, 64)], []), contents)) if answer.possible}
    assert possible == {Task.SEMANTIC}

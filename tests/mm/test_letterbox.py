"""A letterbox whose sides differ: an upright picture and one that lies both end in exactly the planned size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmtrain import compat
from mmtrain.config.detection import test_pipeline as evaluation_pipeline
from mmtrain.config.detection import train_pipeline
from mmtrain.recipes import load_recipe
from tests.mm.test_augmentation_detection import PLAIN, assert_truth_lies_on_colours, coloured, extent
from tests.unit.test_plan import plan_of

MODELS = ("rtmdet-tiny", "rtmdet-ins-tiny")
"""Without masks, and with."""
LETTERBOXES = [(160, 96), (96, 160)]
PICTURES = [(90, 120), (120, 90), (400, 34), (100, 100)]
"""Width and height: upright, lying, narrow, square."""
GREY = 114


def boxes_of(width: int, height: int) -> dict[int, tuple[int, int, int, int]]:
    """Class -> xyxy in pixels: at the upper left, in the middle, at the lower right."""
    across, down = (
        np.array([0.05, 0.3, 0.4, 0.6, 0.7, 1.0]) * width,
        np.array([0.05, 0.35, 0.4, 0.6, 0.65, 1.0]) * height,
    )
    x, y = across.round().astype(int).tolist(), down.round().astype(int).tolist()
    return {number: (x[2 * number], y[2 * number], x[2 * number + 1], y[2 * number + 1]) for number in range(3)}


def drawn(folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """A picture with a rectangle of each colour, as a data set hands it to a pipeline."""
    width, height = size
    pixels, boxes = np.full((height, width, 3), 40, np.uint8), boxes_of(*size)
    for channel, (left, top, right, bottom) in boxes.items():
        pixels[top:bottom, left:right] = 0
        pixels[top:bottom, left:right, channel] = 255
    path = folder / f"{width}x{height}.png"
    cv2.imwrite(str(path), pixels)
    instances = [
        {"bbox": list(box), "bbox_label": label, "ignore_flag": 0,
         "mask": [[box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]]}
        for label, box in boxes.items()
    ]  # fmt: skip
    return {"img_path": str(path), "img_id": 1, "height": height, "width": width, "instances": instances}


def run(steps: list[dict[str, Any]], info: dict[str, Any]) -> tuple[NDArray[Any], Any]:
    """(height, width, 3) as a model gets it, and its sample."""
    compat.apply()
    from mmengine.config import Config
    from mmengine.dataset import Compose
    from mmengine.registry import init_default_scope

    compat.import_framework("mmdet")
    init_default_scope("mmdet")
    packed = Compose(Config({"steps": steps}).steps)(info)
    return packed["inputs"].permute(1, 2, 0).numpy(), packed["data_samples"]


def placed(size: tuple[int, int], letterbox: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the picture inside."""
    ratio = min(letterbox[0] / size[0], letterbox[1] / size[1])
    return round(size[0] * ratio), round(size[1] * ratio)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("letterbox", LETTERBOXES)
@pytest.mark.parametrize("size", PICTURES)
def test_training_sees_the_whole_picture_with_its_truth(
    tmp_path: Path, model: str, letterbox: tuple[int, int], size: tuple[int, int]
) -> None:
    recipe = load_recipe(model)
    pixels, sample = run(train_pipeline(recipe, plan_of(recipe, **PLAIN | {"imgsz": letterbox})), drawn(tmp_path, size))
    assert pixels.shape[:2] == letterbox[::-1]
    assert assert_truth_lies_on_colours(pixels, sample.gt_instances, least=1, loose=1.0) == 3
    width, height = placed(size, letterbox)
    assert (pixels[height:] == GREY).all() and (pixels[:, width:] == GREY).all()
    assert not (pixels[:height, :width] == GREY).all(axis=2).any()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("letterbox", LETTERBOXES)
@pytest.mark.parametrize("size", PICTURES)
def test_a_prediction_finds_its_way_back(
    tmp_path: Path, model: str, letterbox: tuple[int, int], size: tuple[int, int]
) -> None:
    """What lies on a colour in the model's picture lies on it in the original, divided by the scale factor."""
    recipe = load_recipe(model)
    info = drawn(tmp_path, size)
    pixels, sample = run(evaluation_pipeline(recipe, plan_of(recipe, **PLAIN | {"imgsz": letterbox})), info)
    assert pixels.shape[:2] == letterbox[::-1] == tuple(sample.img_shape)
    assert tuple(sample.ori_shape) == size[::-1]
    factor = np.array([*sample.scale_factor, *sample.scale_factor])
    for channel, box in boxes_of(*size).items():
        np.testing.assert_allclose(extent(coloured(pixels, channel)) / factor, box, atol=1.0 / factor.min())
    np.testing.assert_array_equal(sample.gt_instances.bboxes.tensor.numpy(), [*boxes_of(*size).values()])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("letterbox", LETTERBOXES)
@pytest.mark.parametrize("size", PICTURES[:2])
def test_a_change_of_scale_keeps_the_size_and_loses_no_picture(
    tmp_path: Path, model: str, letterbox: tuple[int, int], size: tuple[int, int]
) -> None:
    recipe, info = load_recipe(model), drawn(tmp_path, size)
    steps = train_pipeline(recipe, plan_of(recipe, **PLAIN | {"imgsz": letterbox, "scale": 0.5, "fliplr": 0.5}))
    np.random.seed(1)
    width, height = placed(size, letterbox)
    shares, counts = [], []
    for _ in range(12):
        pixels, sample = run(steps, info)
        assert pixels.shape[:2] == letterbox[::-1]
        counts.append(assert_truth_lies_on_colours(pixels, sample.gt_instances))
        shares.append((pixels != GREY).any(axis=2).sum() / (width * height))
    assert 0.2 < min(shares) < 0.8 and 1.0 < max(shares) < 2.3  # areas
    assert counts.count(3) >= 4 and min(counts) >= 1

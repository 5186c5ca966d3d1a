"""Class maps stay on their pixels: a picture of coloured areas goes through the built pipeline, and the class of every
pixel is read from its colour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmtrain import compat
from mmtrain.config.files import DatasetFiles
from mmtrain.config.semantic import dataset, train_pipeline
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import plan_of

WIDTH, HEIGHT = 120, 90
SIZE = 128
AREAS = {0: (10, 10, 60, 50), 1: (60, 45, 110, 80)}
"""Class -> xyxy in pixels; the colour is full in the channel of the same number. The rest is red and of no class."""
IGNORE = 255
PLAIN: dict[str, Any] = {"imgsz": SIZE, "fliplr": 0, "scale": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0}


class Drawn:
    """The training's own data set of one picture."""

    def __init__(self, folder: Path, **asked: Any) -> None:
        compat.apply()
        from mmengine.config import Config
        from mmengine.registry import DATASETS, init_default_scope

        compat.import_quietly("mmseg.datasets")
        init_default_scope("mmseg")
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[..., 2] = 255
        classes = np.full((HEIGHT, WIDTH), IGNORE, np.uint8)
        for number, (left, top, right, bottom) in AREAS.items():
            pixels[top:bottom, left:right] = 0
            pixels[top:bottom, left:right, number] = 255
            classes[top:bottom, left:right] = number
        (folder / "masks").mkdir()
        cv2.imwrite(str(folder / "drawn.png"), pixels)
        cv2.imwrite(str(folder / "masks/000001.png"), classes)
        entry = {"img_id": 1, "img_path": "drawn.png", "seg_map_path": "000001.png"}
        common = {"label_map": None, "reduce_zero_label": False, "seg_fields": []}
        (folder / "masks/train.json").write_text(json.dumps({"metainfo": {}, "data_list": [entry | common]}))
        recipe = load_recipe("pspnet-r50")
        plan = plan_of(recipe, **{**PLAIN, **asked})
        files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "train.json", test=None)
        config = Config(dataset(plan, files, "train", train_pipeline(recipe, plan)))
        self.dataset = DATASETS.build(config)

    def many(self, count: int = 12) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Pixels (H, W, 3) BGR and classes (H, W)."""
        np.random.seed(1)
        for _ in range(count):
            packed = self.dataset[0]
            yield packed["inputs"].permute(1, 2, 0).numpy(), packed["data_samples"].gt_sem_seg.data[0].numpy()


def classes_of_colours(pixels: NDArray[Any]) -> NDArray[Any]:
    """Padding is grey, so no channel stands out; neither does red count."""
    channel, spread = pixels.argmax(axis=2), pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    return np.where((spread > 60) & (channel < 2), channel, IGNORE).astype(np.uint8)


def assert_classes_lie_on_colours(pixels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Everywhere but at the edges, where nearest and linear interpolation differ."""
    expected = classes_of_colours(pixels)
    kernel = np.ones((5, 5), np.uint8)
    inside = cv2.erode(expected, kernel) == cv2.dilate(expected, kernel)
    np.testing.assert_array_equal(classes[inside], expected[inside])
    assert inside.mean() > 0.7
    assert set(np.unique(classes)) <= {0, 1, IGNORE}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"fliplr": 1},
        {"flipud": 1},
        {"fliplr": 0.5, "flipud": 0.5},
        {"degrees": 45},
        {"translate": 0.3},
        {"scale": 0.5},
        {"random_crop": 1},
        {"hsv_h": 0.02, "hsv_s": 0.1, "hsv_v": 0.2},
        {"albumentations": [{"type": "GaussianBlur", "blur_limit": [3, 3], "p": 1.0}]},
        {"degrees": 20, "translate": 0.1, "scale": 0.3, "fliplr": 0.5, "flipud": 0.5, "random_crop": 0.5},
    ],
    ids=lambda asked: "-".join(asked) or "nothing",
)
def test_classes_stay_on_their_pixels(tmp_path: Path, asked: dict[str, Any]) -> None:
    samples = list(Drawn(tmp_path, **asked).many())
    for sample in samples:
        assert_classes_lie_on_colours(*sample)
    different = len({classes.tobytes() for _, classes in samples})
    geometric = {"degrees", "translate", "scale", "random_crop"} & asked.keys()
    assert (different > 6) if geometric else (different <= 4)


def test_a_flip_is_a_mirror_to_the_pixel(tmp_path: Path) -> None:
    for number, (asked, axis) in enumerate((({"fliplr": 1}, 1), ({"flipud": 1}, 0))):
        folders = [tmp_path / f"{number}{which}" for which in "ab"]
        for folder in folders:
            folder.mkdir()
        (_, plain), (_, mirrored) = (
            next(Drawn(folder, **each).many(1)) for folder, each in zip(folders, ({}, asked), strict=True)
        )
        np.testing.assert_array_equal(mirrored, np.flip(plain, axis))


def test_colours_change_and_classes_do_not(tmp_path: Path) -> None:
    samples = list(Drawn(tmp_path, hsv_v=0.4).many())
    assert len({pixels.tobytes() for pixels, _ in samples}) > 6
    assert len({classes.tobytes() for _, classes in samples}) == 1

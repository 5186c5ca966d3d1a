"""Keypoints stay on their dots, and left stays left: in a mirror image the left wing looks like a right one, so that
the points of a flip pair change their names, whichever way the mirror stands.
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
from mmtrain.config.pose import dataset, train_pipeline
from mmtrain.plan import KeypointLayout
from mmtrain.recipes import load_recipe
from tests.unit.test_config_pose import ARROW
from tests.unit.test_plan import plan_of

WIDTH, HEIGHT = 160, 160
BOX = (30, 40, 130, 120)
POINTS = {"tip": (80, 50), "left_wing": (50, 80), "tail": (80, 110), "right_wing": (110, 90)}
COLOURS = {"tip": (0, 255, 0), "left_wing": (255, 0, 0), "tail": (0, 255, 255), "right_wing": (0, 0, 255)}
"""BGR of the dots, on a grey that is that of padding."""
MIRRORED = {"tip": "tip", "left_wing": "right_wing", "tail": "tail", "right_wing": "left_wing"}
PLAIN: dict[str, Any] = {
    "imgsz": 128, "fliplr": 0, "scale": 0, "degrees": 0, "translate": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0,
}  # fmt: skip
MODELS = ("rtmpose-t", "hrnet-w32", "rtmo-s")


class Drawn:
    """The training's own data set of one picture with one arrow."""

    def __init__(self, folder: Path, model: str, **asked: Any) -> None:
        compat.apply()
        from mmengine.config import Config
        from mmengine.registry import DATASETS, init_default_scope

        compat.import_quietly("mmpose.datasets")
        init_default_scope("mmpose")
        pixels = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
        for name, (x, y) in POINTS.items():
            cv2.circle(pixels, (x, y), 4, COLOURS[name], -1)
        cv2.imwrite(str(folder / "arrow.png"), pixels)
        left, top, right, bottom = BOX
        annotation = {
            "id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
            "area": 8000.0, "num_keypoints": 4,
            "keypoints": [number for name in ARROW.names for number in (*POINTS[name], 2)],
        }  # fmt: skip
        coco = {
            "images": [{"id": 1, "file_name": "arrow.png", "width": WIDTH, "height": HEIGHT}],
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "arrow"}],
        }
        files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "train.json", test=None)
        for path in (files.train, files.annotations_from_one("train")):
            path.write_text(json.dumps(coco))
        recipe = load_recipe(model)
        plan = plan_of(recipe, **{**PLAIN, **asked}).model_copy(update={"keypoints": KeypointLayout.of(ARROW)})
        self.dataset = DATASETS.build(Config(dataset(plan, files, "train", train_pipeline(recipe, plan))))

    def many(self, count: int = 12) -> Iterator[tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
        """Pixels (H, W, 3) BGR and the points by name, in pixels of what comes out."""
        np.random.seed(1)
        for _ in range(count):
            packed = self.dataset[0]
            truth = packed["data_samples"].gt_instances
            points = np.asarray(truth.transformed_keypoints if "transformed_keypoints" in truth else truth.keypoints)
            yield packed["inputs"].permute(1, 2, 0).numpy(), dict(zip(ARROW.names, points[0], strict=True))


def dot(pixels: NDArray[Any], name: str) -> NDArray[Any] | None:
    """Centre xy of a dot by its colour, or nothing if the edge has cut it."""
    far = np.abs(pixels.astype(int) - COLOURS[name]).max(axis=2)
    rows, columns = np.nonzero(far < 110)
    cut = not len(rows) or min(rows.min(), columns.min()) == 0
    if cut or rows.max() == pixels.shape[0] - 1 or columns.max() == pixels.shape[1] - 1:
        return None
    return np.array([columns.mean(), rows.mean()])


def assert_points_lie_on_dots(
    pixels: NDArray[Any], points: dict[str, NDArray[Any]], names: dict[str, str] | None = None
) -> int:
    """Returns how many dots were there to compare with."""
    seen = 0
    for name, point in points.items():
        centre = dot(pixels, names[name] if names else name)
        if centre is not None:
            np.testing.assert_allclose(point, centre, atol=1.5)
            seen += 1
    return seen


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, None),
        ({"fliplr": 1}, MIRRORED),
        ({"flipud": 1}, MIRRORED),
        ({"fliplr": 1, "flipud": 1}, None),
        ({"degrees": 40}, None),
        ({"translate": 0.2}, None),
        ({"scale": 0.3}, None),
        ({"hsv_h": 0.02, "hsv_s": 0.1, "hsv_v": 0.2}, None),
        ({"albumentations": [{"type": "GaussianBlur", "blur_limit": [3, 3], "p": 1.0}]}, None),
        ({"degrees": 30, "translate": 0.1, "scale": 0.2, "fliplr": 1}, MIRRORED),
    ],
    ids=lambda value: "-".join(value) if value and "tip" not in value else "",
)
def test_points_stay_on_their_dots(
    tmp_path: Path, model: str, asked: dict[str, Any], names: dict[str, str] | None
) -> None:
    samples = list(Drawn(tmp_path, model, **asked).many())
    seen = [assert_points_lie_on_dots(*sample, names) for sample in samples]
    assert sum(seen) > 24
    different = len({tuple(points["tip"].tolist()) for _, points in samples})
    assert (different > 3) if {"degrees", "translate", "scale"} & asked.keys() else (different == 1)

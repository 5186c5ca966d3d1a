"""What MMPose makes of our configurations of poses: points follow every flip, crops keep their class, RTMO its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmtrain.datasets.pose_shapes import FLIP_PAIRS, NAMES, write_arrows
from mmtrain.shown import Shown, read_shown
from tests.conftest import ROOT

SIZE = (128, 128)
SHOW = """
import sys
from pathlib import Path
from mmtrain import browse, compat
compat.apply()
from mmengine.config import Config
from mmtrain.engine.browse import show_config

folder, model, options = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
grey_stays_grey = ["--hsv_h", "0", "--hsv_s", "0", "--hsv_v", "0"]
parsed = browse._parser().parse_args([str(folder / "data"), "--model", model, *grey_stays_grey])
source = browse.of_dataset(parsed, folder / model)
config = Config(source.config)
compat.import_quietly("mmpose")
from mmpose.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope("mmpose")
for step in config.train_dataloader.dataset.pipeline:
    if step["type"] == "RandomFlip":
        step["prob"] = 1.0
        step["direction"] = options[0]
show_config(config, folder / model / "train", count=6, seed=3)
show_config(config, folder / model / "val", split="val", count=3, seed=3)
if model == "rtmo-s":
    head = MODELS.build(config.model).head
    print(*head.loss_oks.sigmas.tolist(), *head.assigner.oks_calculator.sigmas.tolist())
"""
"""Reading pixels of a picture costs no second import of torch: one process shows one model."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrows")
    write_arrows(folder / "data", counts={"train": 8, "val": 3}, size=SIZE, classes=1)
    return folder


def show(data: Path, model: str, direction: str) -> tuple[Path, list[str]]:
    """The folder of what was shown, and the words that were printed."""
    (data / model).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(data), model, direction],
        cwd=data,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return data / model, done.stdout.split()


@pytest.mark.parametrize(("model", "direction"), [("rtmpose-t", "horizontal"), ("rtmo-s", "vertical")])
def test_after_a_flip_the_left_wing_is_left_of_the_arrows_way(data: Path, model: str, direction: str) -> None:
    folder, words = show(data, model, direction)
    for split in ("train", "val"):
        shown = read_shown(folder / split)
        assert shown.class_names == ("arrow",)
        assert shown.keypoint_names == NAMES
        poses = [(pixels, points) for pixels, points in poses_of(shown, folder / split) if (points[:, 2] > 0).all()]
        assert len(poses) >= 3
        for pixels, points in poses:
            tip, left, tail, right = points[:, :2]
            assert cross(tip - tail, right - tail) > 0 > cross(tip - tail, left - tail)
            assert redness(pixels, points[:, :2]) > 40  # just inside each point is the arrow itself
    if model == "rtmo-s":
        assert {round(float(word), 3) for word in words if word.replace(".", "").isdigit()} == {0.05}


def poses_of(shown: Shown, folder: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pictures (H, W, 3) RGB and the points (4, 3) of one arrow in them."""
    found = []
    for picture in shown.pictures:
        pixels = np.asarray(cv2.imread(str(folder / picture.picture)), dtype=np.float64)[..., ::-1]
        for thing in picture.objects:
            assert thing.keypoints is not None
            found.append((pixels, np.array(thing.keypoints).reshape(-1, 3)))
    return found


def cross(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first[0] * second[1] - first[1] * second[0])


def redness(pixels: NDArray[np.float64], points: NDArray[np.float64]) -> float:
    """Median of red over green, a third of the way from each point to the middle of the arrow's head."""
    inside = points + (points[[0, 2]].mean(axis=0) - points) / 3
    height, width = pixels.shape[:2]
    x, y = np.clip(inside.round().astype(int), 0, (width - 1, height - 1)).T
    colours = pixels[y, x]
    return float(np.median(colours[:, 0] - colours[:, 1]))


def test_a_pair_is_what_changes_places() -> None:
    assert [(NAMES[first - 1], NAMES[second - 1]) for first, second in FLIP_PAIRS] == [("left_wing", "right_wing")]

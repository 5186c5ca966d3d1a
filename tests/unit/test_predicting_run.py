"""The whole way from addresses to files, with a model of a few lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmtrain.predicting.found import Bgr, Box, Classes, Found
from mmtrain.predicting.inputs import Entry, Places, entries
from mmtrain.predicting.options import Options
from mmtrain.predicting.order import FIRST_ROWS
from mmtrain.predicting.predictor import Sight
from mmtrain.predicting.run import Reading, Writing, predict_all
from mmtrain.predicting.writers import Wanted
from trainer_sdk.errors import Interrupted
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

PLACES = Places(Settings.from_env({}))
QUIET = Wanted(save_images=False, save_txt=False)


class FindsWhite:
    """A "model" that boxes what is white, and counts how many inputs wait for it."""

    task, classes, flip_pairs, flips_itself = Task.DETECTION, Classes(("white",), (4,)), (), False

    def __init__(self) -> None:
        self.waiting, self.most_waiting, self.batches = 0, 0, list[int]()
        self._lock = threading.Lock()

    def prepare(self, picture: Bgr, boxes_xyxy: Sequence[Box]) -> list[Any]:
        with self._lock:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
        return [picture]

    def infer(self, inputs: Sequence[Any]) -> list[Sight]:
        with self._lock:
            self.waiting -= len(inputs)
        self.batches.append(len(inputs))
        return [Sight([_white(one)] if (one > 200).any() else []) for one in inputs]


def _white(picture: Bgr) -> Found:
    rows, columns = np.nonzero((picture > 200).all(axis=2))
    return Found(0, 0.9, (float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0))


def draw(path: Path, box: tuple[int, int, int, int] = (10, 20, 40, 30), size: tuple[int, int] = (100, 80)) -> Path:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = 255
    cv2.imwrite(str(path), picture)
    return path


def predict(found: Iterator[Entry], tmp_path: Path, model: FindsWhite, wanted: Wanted = QUIET, **options: Any) -> Any:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    reading, writing = Reading(PLACES, 2, tmp_path), Writing(out, wanted, save_dice=True)
    predicted = predict_all(found, model, Options(**options), reading, writing, lambda done: None)
    return predicted, json.loads((out / "predictions.json").read_text())


def test_a_corrupt_picture_is_one_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:60])
    draw(tmp_path / "in/c.png", (0, 0, 5, 5))
    predicted, said = predict(entries([str(tmp_path / "in")], PLACES), tmp_path, FindsWhite())
    assert [row["image_name"] for row in said["results"]] == ["a.png", "b.png", "c.png"]
    assert [len(row["predictions"]) for row in said["results"]] == [1, 0, 1]
    assert said["results"][1]["error"]
    assert said["results"][0]["predictions"][0]["bbox"] == [10.0, 20.0, 40.0, 30.0]
    assert (predicted.images, predicted.unreadable, predicted.objects) == (3, 1, 2)
    assert (said["total_images"], said["unreadable_images"], said["total_detections"]) == (3, 1, 2)
    assert predicted.first_problems[0][0].endswith("b.png")
    assert len((tmp_path / FIRST_ROWS).read_bytes().splitlines()) == 3


def test_tiles_and_mirror_images_find_the_same_once(tmp_path: Path) -> None:
    box = (55, 35, 95, 60)
    draw(tmp_path / "a.png", box, (160, 120))
    for options in ({}, {"flip": True}, {"tiles": (64, 64), "tile_overlap": 0.75}, {"tiles": (96, 96), "flip": True}):
        _, said = predict(entries([str(tmp_path / "a.png")], PLACES), tmp_path, FindsWhite(), **options)
        assert [one["bbox"] for one in said["results"][0]["predictions"]] == [list(map(float, box))], options


def test_only_a_few_pictures_are_in_memory_however_many_there_are(tmp_path: Path) -> None:
    picture = str(draw(tmp_path / "a.png"))
    taken = 0

    def many() -> Iterator[Entry]:
        nonlocal taken
        for number in range(400):
            taken += 1
            yield Entry(picture, f"{number}.png")

    model = FindsWhite()
    predicted, said = predict(many(), tmp_path, model, batch=4)
    assert predicted.images == taken == len(said["results"]) == 400
    assert [row["image_id"] for row in said["results"]] == list(range(1, 401))
    assert set(model.batches) == {4}
    assert model.most_waiting <= 2 + 2 * 4 + 4


def test_a_rotated_photograph_is_measured_as_it_is_shown(tmp_path: Path) -> None:
    from PIL import Image

    tag = Image.Exif()
    tag[0x0112] = 6  # shown turned clockwise: (x, y) -> (height - 1 - y, x)
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[20:30, 10:40] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=tag, quality=100, subsampling=0)
    _, said = predict(entries([str(tmp_path / "a.jpg")], PLACES), tmp_path, FindsWhite())
    (row,) = said["results"]
    assert (row["width"], row["height"]) == (80, 100)
    assert row["predictions"][0]["bbox"] == pytest.approx([50, 10, 60, 40], abs=1)


def test_what_ends_the_work_leaves_no_half_a_file(tmp_path: Path) -> None:
    picture = str(draw(tmp_path / "a.png"))
    out = tmp_path / "out"
    out.mkdir()

    def stop(done: int) -> None:
        if done == 3:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        predict_all(
            (Entry(picture, f"{number}.png") for number in range(9)),
            FindsWhite(), Options(), Reading(PLACES, 2, tmp_path), Writing(out, QUIET, save_dice=False), stop,
        )  # fmt: skip
    assert not (out / "predictions.json").exists()

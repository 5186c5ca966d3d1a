"""What can be asked of a prediction: every form of input, every key of CONFIG."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from converters.conversion import convert
from converters.semantic import look_at_masks
from converters.source import mask_path, read_source
from mmtrain.predicting.shapes import decoded
from mmtrain.predicting.writers import Wanted
from tests.conftest import ROOT, RunScript
from tests.exports.looking import LOW, look
from tests.exports.untrained import MODELS, write_checkpoint, write_pictures
from trainer_sdk.tasks import Task

FRAMES = 4
JOB_S = 300.0


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_checkpoint(name, task, tmp_path_factory.mktemp(name)) for name, task in MODELS.items()}


@pytest.fixture(scope="module")
def detector(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["rtmdet-tiny"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "in")


def write_video(path: Path) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (96, 64))
    assert video.isOpened()
    for number in range(FRAMES):
        video.write(np.full((64, 96, 3), 50 * number, np.uint8))
    video.release()
    return path


def test_a_list_a_video_a_single_file(detector: Path, pictures: Path, run_script: RunScript, tmp_path: Path) -> None:
    """As a job: the list names a picture, a video, one that is no video, and one that is not there."""
    write_video(tmp_path / "clip.avi")
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    listed = [str(pictures / "1.png"), "clip.avi", "torn.mp4", {"file": "gone.jpg"}]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    asked = {"JOB_ID": "3", "CHECKPOINT_PATH": str(detector), "IMAGES_PATH": str(tmp_path / "list.json")}
    asked["CONFIG"] = json.dumps({"conf": LOW, "max_det": 3, "device": "cpu"})
    run = run_script(asked, script=ROOT / "predict.py", timeout_s=JOB_S)
    assert run.exit_code == 0, run.stdout + run.stderr
    rows = json.loads((run.folder / "out/predictions.json").read_text())["results"]
    names = [f"clip_{frame:06d}.jpg" for frame in range(FRAMES)]
    assert [row["image_name"] for row in rows] == ["1.png", *names, "torn.mp4", "gone.jpg"]
    assert [len(row["predictions"]) for row in rows] == [3] * (1 + FRAMES) + [0, 0]
    assert ["error" in row for row in rows] == [False] * (1 + FRAMES) + [True, True]
    assert cv2.imread(str(run.folder / "out/images" / names[2])).shape == (64, 96, 3)
    single = look(detector, pictures / "1.png", tmp_path / "single", max_det=3)
    assert [row["predictions"] for row in single["results"]] == [rows[0]["predictions"]]


def test_the_least_score_and_the_most_objects(detector: Path, pictures: Path, tmp_path: Path) -> None:
    every = scores(look(detector, pictures, tmp_path / "all", max_det=300))
    assert all(image == sorted(image, reverse=True) for image in every)
    middle = float(np.median([score for image in every for score in image]))
    fewer = scores(look(detector, pictures, tmp_path / "fewer", max_det=300, conf=middle))
    assert fewer == [[score for score in image if score >= middle] for image in every]
    assert scores(look(detector, pictures, tmp_path / "few", max_det=2)) == [image[:2] for image in every]


def scores(said: dict[str, list[dict[str, list[dict[str, float]]]]]) -> list[list[float]]:
    return [[one["confidence"] for one in row["predictions"]] for row in said["results"]]


def test_suppression_leaves_no_two_that_overlap_more(detector: Path, pictures: Path, tmp_path: Path) -> None:
    counts = {}
    for iou in (0.9, 0.1):
        said = look(detector, pictures, tmp_path / str(iou), iou=iou, max_det=300)
        counts[iou] = sum(len(row["predictions"]) for row in said["results"])
        for row in said["results"]:
            assert most_overlap(row["predictions"]) <= iou + 0.01
    assert 0 < counts[0.1] < counts[0.9]


def most_overlap(objects: list[dict[str, list[float]]]) -> float:
    """The largest IoU of two of one class."""
    worst = 0.0
    for class_id in {one["class_id"] for one in objects}:  # type: ignore[misc]
        boxes = np.array([one["bbox"] for one in objects if one["class_id"] == class_id])
        shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        inner = shared.clip(0).prod(axis=2)
        ious = inner / np.maximum(areas[:, None] + areas[None] - inner, 1e-9)
        np.fill_diagonal(ious, 0)
        worst = max(worst, float(ious.max()))
    return worst


def test_other_sizes_see_other_things(detector: Path, pictures: Path, tmp_path: Path) -> None:
    own, larger = (look(detector, pictures, tmp_path / str(size), imgsz=size) for size in (None, (128, 128)))
    assert scores(own) != scores(larger)
    for row in larger["results"]:
        assert row["predictions"]
        longer = max(row["width"], row["height"])  # the padding of a letterbox is a part of what the model sees
        assert all(max(one["bbox"]) <= longer + 1 for one in row["predictions"])


def test_only_some_classes_and_as_many_of_them(detector: Path, pictures: Path, tmp_path: Path) -> None:
    every = look(detector, pictures, tmp_path / "all", max_det=300)
    ((rare, _),) = Counter(one["class_name"] for row in every["results"] for one in row["predictions"]).most_common()[
        -1:
    ]
    said = look(detector, pictures, tmp_path / "some", classes=(rare,), max_det=3)
    for row, whole in zip(said["results"], every["results"], strict=True):
        wanted = [one for one in whole["predictions"] if one["class_name"] == rare]
        assert row["predictions"] == wanted[:3]


def test_files_that_are_not_wanted_are_not_there(detector: Path, pictures: Path, tmp_path: Path) -> None:
    look(detector, pictures, tmp_path / "none", wanted=Wanted(save_images=False, save_txt=False))
    assert not [path for path in (tmp_path / "none/out").iterdir() if path.is_dir()]
    look(detector, pictures, tmp_path / "all", wanted=Wanted(save_crop=True))
    look(detector, pictures, tmp_path / "plain", wanted=Wanted(save_conf=False))
    with_score, without = (tmp_path / name / "out/labels/1.txt" for name in ("all", "plain"))
    assert {len(line.split()) for line in with_score.read_text().splitlines()} == {6}
    assert [line.rsplit(" ", 1)[0] for line in with_score.read_text().splitlines()] == without.read_text().splitlines()
    objects = len(with_score.read_text().splitlines())
    crops = list((tmp_path / "all/out/crops").rglob("1_*.jpg"))
    assert 0 < len(crops) <= objects  # one without an area in the picture has none
    assert not (tmp_path / "plain/out/crops").exists()


@pytest.mark.parametrize("name", MODELS)
def test_pre_annotations_are_labels(name: str, checkpoints: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    """Beside their pictures they are a data set that our own converter takes."""
    task = MODELS[name]
    said = look(checkpoints[name], pictures, tmp_path)
    folder = tmp_path / "out"
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    source = read_source(folder, task)
    names = {image.mask_file for image in source.dataset.images if image.mask_file}
    masks = look_at_masks({name: mask_path(source.root, name) for name in names}) if task is Task.SEMANTIC else None
    conversion = convert(source.dataset, source.task, masks=masks)
    conversion.raise_if_blocked()
    found = sum(len(row["predictions"]) for row in said["results"])
    labels = sum(len(split.annotations) for split in conversion.splits.values())
    assert sum(len(split.images) for split in conversion.splits.values()) == len(said["results"])
    if task is not Task.SEMANTIC:
        assert 0.5 * found <= labels <= found  # what has no area is no label


def test_polygons_and_rle_are_one_shape(checkpoints: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    for name in ("rtmdet-ins-tiny", "bisenetv2"):
        said = look(checkpoints[name], pictures, tmp_path / name)
        assert any(one["segmentation"] for row in said["results"] for one in row["predictions"])
        for row in said["results"]:
            for one in row["predictions"]:
                pixels = decoded(one["rle"])
                assert pixels.shape == (row["height"], row["width"])
                drawn = np.zeros(pixels.shape, np.uint8)
                outlines = [np.array(part).reshape(-1, 1, 2).astype(np.int32) for part in one["segmentation"]]
                for outline in outlines:
                    cv2.fillPoly(drawn, [outline], 1)
                assert not (pixels > drawn).any()  # holes alone are filled

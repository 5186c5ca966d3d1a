"""What was found, in every form that is written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest

from converters import convert
from converters.dice_reader import read_dice
from converters.semantic import look_at_masks
from converters.source import mask_path, read_source
from mmtrain.predicting.found import Classes, Found, Item, Painted, Seen
from mmtrain.predicting.options import Options, chosen, only_these
from mmtrain.predicting.preannotations import Points, Spool
from mmtrain.predicting.rows import coco_rows, label_lines, platform_row, slim
from mmtrain.predicting.shapes import decoded, encoded
from mmtrain.predicting.writers import JsonList, PictureFiles, Wanted
from mmtrain.reports.predictions_page import spread, write_predictions_page
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

CLASSES = Classes(("cat", "dog"), (7, 3))
ITEM = Item(5, "s3://inference-data/inference/u/in/a.png", "in/a.png", "in/a.png")
BOX = Found(1, 0.87654321, (10.0, 20.0, 30.0, 60.0))


def blob() -> dict[str, object]:
    mask = np.zeros((100, 200), np.uint8)
    mask[20:60, 10:30] = 1
    return encoded(mask)


def seen(*objects: Found, painted: Painted | None = None) -> Seen:
    picture = np.full((100, 200, 3), 90, np.uint8)
    return Seen(ITEM, 200, 100, objects, painted, 12.3456, picture=picture)


def test_a_row_is_what_the_platform_reads() -> None:
    row = platform_row(seen(BOX), CLASSES)
    assert row["image_path"] == ITEM.address
    assert row["image_name"] == "a.png"
    assert row["predictions"] == [
        {"class_id": 3, "class_name": "dog", "confidence": 0.87654, "bbox": [10.0, 20.0, 30.0, 60.0]}
    ]
    assert row["num_detections"] == 1
    assert row["inference_time_ms"] == 12.346


def test_masks_are_written_as_polygons_and_as_rle() -> None:
    (one,) = platform_row(seen(BOX._replace(rle=blob())), CLASSES)["predictions"]
    assert one["segmentation"] == [[10.0, 20.0, 10.0, 59.0, 29.0, 59.0, 29.0, 20.0]]
    assert decoded(one["rle"]).sum() == 800
    assert orjson.loads(orjson.dumps(one)) == one
    assert "rle" not in slim(platform_row(seen(BOX._replace(rle=blob())), CLASSES))["predictions"][0]


def test_a_class_map_is_one_row_for_each_class() -> None:
    indices = np.zeros((100, 200), np.uint8)
    indices[50:, :100] = 1
    rows = platform_row(seen(painted=Painted(indices, {0: 0.9, 1: 0.75})), CLASSES)["predictions"]
    assert [(row["class_id"], row["confidence"], row["pixels"]) for row in rows] == [(7, 0.9, 15_000), (3, 0.75, 5_000)]
    assert rows[1]["bbox"] == [0.0, 50.0, 100.0, 100.0]


def test_coco_results_have_original_ids_and_boxes_as_width_and_height() -> None:
    points = ((11.0, 21.0, 0.9), (12.0, 22.0, 0.1))
    (row,) = coco_rows(seen(BOX._replace(keypoints=points)), CLASSES)
    assert (row["image_id"], row["category_id"], row["bbox"]) == (5, 3, [10.0, 20.0, 20.0, 40.0])
    assert row["keypoints"] == [11.0, 21.0, 0.9, 12.0, 22.0, 0.1]


def test_labels_are_shares_of_the_picture() -> None:
    assert label_lines(seen(BOX), with_confidence=True) == ["1 0.100000 0.400000 0.100000 0.400000 0.87654"]
    assert label_lines(seen(BOX), with_confidence=False) == ["1 0.100000 0.400000 0.100000 0.400000"]
    (line,) = label_lines(seen(BOX._replace(rle=blob())), with_confidence=False)
    assert line.split()[:5] == ["1", "0.050000", "0.200000", "0.050000", "0.590000"]


def test_classes_without_an_id_get_a_free_one() -> None:
    assert Classes.of(["a", "b", "background"], [4, 0, None]).ids == (4, 0, 5)
    assert Classes.of(["a", "b"], None).ids == (0, 1)


def test_classes_are_chosen_by_name_or_id() -> None:
    assert only_these(["dog", 7], CLASSES) == {0, 1}
    assert only_these(["3"], CLASSES) == {1}
    assert only_these(None, CLASSES) is None
    with pytest.raises(ConfigError, match="'cow', 'pig'") as caught:
        only_these(["cow", "dog", "pig"], CLASSES)
    assert "7 cat, 3 dog" in caught.value.hint


def test_the_surest_of_the_wanted_are_chosen() -> None:
    found = [Found(label, score, (0, 0, 1, 1)) for label, score in ((0, 0.9), (1, 0.3), (1, 0.8), (1, 0.1), (1, 0.5))]
    only_dogs = Options(conf=0.2, max_det=2, only=frozenset({1}))
    assert [one.score for one in chosen(found, only_dogs)] == [0.8, 0.5]


def test_every_file_of_a_picture(tmp_path: Path) -> None:
    files = PictureFiles(tmp_path, CLASSES, Wanted(save_crop=True))
    files.write(seen(BOX))
    assert (tmp_path / "labels/classes.txt").read_text() == "cat\ndog\n"
    assert (tmp_path / "labels/in/a.txt").read_text().startswith("1 0.1")
    assert cv2.imread(str(tmp_path / "crops/dog/in/a_1.jpg")).shape == (40, 20, 3)
    annotated = cv2.imread(str(tmp_path / "images/in/a.png"))
    assert annotated.shape == (100, 200, 3)
    assert (annotated != 90).any()


def test_nothing_is_written_that_is_not_wanted(tmp_path: Path) -> None:
    PictureFiles(tmp_path, CLASSES, Wanted(save_images=False, save_txt=False)).write(seen(BOX))
    assert not list(tmp_path.iterdir())


def test_a_class_map_is_a_picture_of_original_ids(tmp_path: Path) -> None:
    indices = np.zeros((100, 200), np.uint8)
    indices[:, 100:] = 1
    PictureFiles(tmp_path, CLASSES, Wanted(save_images=False)).write(seen(painted=Painted(indices, {})))
    ids = cv2.imread(str(tmp_path / "masks/in/a.png"), cv2.IMREAD_UNCHANGED)
    assert (ids[:, :100] == 7).all() and (ids[:, 100:] == 3).all()


def test_a_list_is_valid_json_whatever_its_length_and_appears_whole(tmp_path: Path) -> None:
    for count in (0, 1, 3):
        path = tmp_path / f"{count}.json"
        rows = JsonList(path, head="results")
        for number in range(count):
            rows.add({"number": number})
        assert not path.exists()
        rows.close({"total": count})
        assert orjson.loads(path.read_bytes()) == {"results": [{"number": n} for n in range(count)], "total": count}
    bare = JsonList(tmp_path / "bare.json")
    bare.add(1)
    bare.close()
    assert orjson.loads((tmp_path / "bare.json").read_bytes()) == [1]


@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE, Task.POSE])
def test_pre_annotations_load_as_labels(task: Task, tmp_path: Path) -> None:
    found = BOX
    if task is Task.INSTANCE:
        found = BOX._replace(rle=blob())
    if task is Task.POSE:
        found = BOX._replace(keypoints=((11.0, 21.0, 0.9), (12.0, 22.0, 0.1)))
    spool = Spool(tmp_path / "spool.jsonl", CLASSES)
    (tmp_path / "in").mkdir()
    for number in range(1, 5):
        item = Item(number, f"/x/{number}.png", f"in/{number}.png", f"in/{number}.png")
        spool.add(Seen(item, 200, 100, [found] if number > 1 else []))
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), np.zeros((100, 200, 3), np.uint8))
    spool.add(Seen(ITEM, error="not an image"))
    path = spool.write(task, tmp_path, Points(("head", "tail")) if task is Task.POSE else None)
    dataset = read_dice(path.read_bytes())
    assert [(one.id, one.name) for one in dataset.classes] == [(7, "cat"), (3, "dog")]
    assert [image.file_name for image in dataset.images] == [f"in/{number}.png" for number in range(1, 5)]
    assert [len(image.annotations) for image in dataset.images] == [0, 1, 1, 1]
    conversion = convert(dataset, task)
    conversion.raise_if_blocked()
    annotations = [one for split in conversion.splits.values() for one in split.annotations]
    assert len(annotations) == 3
    assert tuple(annotations[0].bbox) == (10.0, 20.0, 20.0, 40.0)


def test_class_maps_load_as_labels(tmp_path: Path) -> None:
    classes = Classes(("cat", "dog", "background"), (7, 3, 8))
    spool = Spool(tmp_path / "spool.jsonl", classes)
    files = PictureFiles(tmp_path, classes, Wanted(save_images=False))
    for number in range(1, 4):
        item = Item(number, f"/x/{number}.png", f"{number}.png", f"{number}.png")
        indices = np.full((10, 20), 2, np.uint8)
        indices[:5], indices[5:, :5] = 0, 1
        one = Seen(item, 20, 10, (), Painted(indices, {}))
        files.write(one)
        spool.add(one)
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((10, 20, 3), np.uint8))
    spool.write(Task.SEMANTIC, tmp_path)
    source = read_source(tmp_path, Task.SEMANTIC)
    names = {image.mask_file for image in source.dataset.images if image.mask_file}
    masks = look_at_masks({name: mask_path(source.root, name) for name in names})
    conversion = convert(source.dataset, source.task, masks=masks)
    conversion.raise_if_blocked()
    assert conversion.class_names == ("cat", "dog", "background")


def test_the_page_shows_pictures_counts_and_failures(tmp_path: Path) -> None:
    files = PictureFiles(tmp_path, CLASSES, Wanted())
    row = slim(files.write(seen(BOX)).platform)
    summary = {
        "task": "object_detection", "class_names": ["cat", "dog"], "of_class": {"cat": 0, "dog": 1}, "images": 2,
        "objects": 1, "unreadable": 1, "first_problems": [("/x/<b>.png", "not an image")], "notes": ["a remark"],
        "inference_ms": 12.3, "wall_s": 1.0,
    }  # fmt: skip
    page = write_predictions_page(summary, [{"path": ITEM.path, "error": "", "row": row}], tmp_path).read_text()
    assert page.count("data:image/jpeg;base64,") == 1
    assert "/x/&lt;b&gt;.png" in page
    assert "a remark" in page
    assert "https://" not in page


def test_pictures_of_the_page_are_spread_over_all() -> None:
    assert spread(3, 24) == [0, 1, 2]
    assert spread(100, 4) == [0, 33, 66, 99]

"""From COCO back to DICE: nothing that both formats have is lost on the way, in either direction."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]

from converters import convert, read_dice, write_conversion
from converters.coco_to_dice import coco_files, coco_folder_to_dice, coco_to_dice, image_folders, task_of_coco
from converters.dice import DiceDataset
from converters.dice_writer import encode_dice, write_dice
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

no_deadline = settings(deadline=None, max_examples=60)  # a busy machine is no failure

WIDTH, HEIGHT = 64, 48
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
PERSON = {"keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]], "flip_pairs": [[2, 3]]}


def compressed(left: int, top: int) -> dict[str, Any]:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    pixels[top : top + 5, left : left + 7] = 1
    rle = coco_mask.encode(pixels)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


coordinates = st.integers(0, 40) | st.floats(0, 40, allow_subnormal=False).map(lambda value: round(value, 3))
polygons = st.tuples(coordinates, coordinates, st.integers(2, 8), st.integers(2, 8)).map(
    lambda box: [
        box[0], box[1], box[0] + box[2], box[1], box[0] + box[2], box[1] + box[3], box[0], box[1] + box[3]
    ]
)  # fmt: skip
runs = st.tuples(st.integers(0, 500), st.integers(96, 300)).map(
    lambda run: {"size": [HEIGHT, WIDTH], "counts": [run[0], run[1], WIDTH * HEIGHT - sum(run)]}
)
segmentations = (
    st.lists(polygons, min_size=1, max_size=3) | runs | st.builds(compressed, st.integers(0, 57), st.integers(0, 43))
)
points = st.lists(
    st.tuples(coordinates, coordinates, st.sampled_from([0, 1, 2])).map(list), min_size=3, max_size=3
).filter(lambda found: any(point[2] for point in found))


@st.composite
def coco_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Plain COCO, as anyone may have written it: ids with gaps, all kinds of masks, keypoints."""
    classes = draw(st.lists(st.integers(0, 90), min_size=1, max_size=4, unique=True))
    images = draw(st.lists(st.integers(1, 10**12), min_size=2, max_size=5, unique=True))
    ids = draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=8, unique=True))
    annotations = []
    for i in ids:
        keypoints = draw(points)
        x, y = draw(coordinates), draw(coordinates)
        w, h = draw(st.integers(1, 8)), draw(st.integers(1, 8))
        annotations.append({
            "id": i,
            "image_id": draw(st.sampled_from(images)),
            "category_id": draw(st.sampled_from(classes)),
            "bbox": [x, y, w, h],
            "area": draw(st.integers(1, w * h) | st.floats(0.5, w * h)),
            "iscrowd": draw(st.sampled_from([0, 0, 1])),
            "segmentation": draw(segmentations),
            "keypoints": [number for point in keypoints for number in point],
            "num_keypoints": sum(point[2] > 0 for point in keypoints),
        })  # fmt: skip
    return {
        "categories": [{"id": i, "name": f"class {i}", "supercategory": "thing", **PERSON} for i in classes],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in images],
        "annotations": annotations,
    }


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def dice(dataset: DiceDataset, task: Task = Task.INSTANCE, **header: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(encode_dice(dataset, task, **header)))
    return found


def converted_files(source: bytes, task: Task, **options: Any) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_conversion(convert(read_dice(source), task, **options), Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).glob("*.json")}


def back(files: dict[str, bytes], task: Task) -> bytes:
    sources: Any = {name: files[f"{name}.json"] for name in ("train", "val", "test")}
    return b"".join(encode_dice(coco_to_dice(sources, id_map=files["id_map.json"]), task))


@no_deadline
@given(coco_documents())
def test_every_field_of_coco_arrives_in_dice(document: dict[str, Any]) -> None:
    found = dice(coco_to_dice({"train": encoded(document)}))
    assert found["classes"] == document["categories"]
    images = {image["id"]: image for image in found["images"]}
    assert list(images) == [image["id"] for image in document["images"]]
    annotations = {one["id"]: one for image in images.values() for one in image["annotations"]}
    assert len(annotations) == len(document["annotations"]) == found["statistics"]["total_annotations"]
    for given_one in document["annotations"]:
        one = annotations[given_one["id"]]
        flat = [number for point in one.pop("keypoints") for number in point]
        assert (flat, one["image_id"]) == (given_one["keypoints"], given_one["image_id"])
        assert one in images[one["image_id"]]["annotations"]
        assert one["class_name"] == f"class {given_one['category_id']}" and one["class_id"] == given_one["category_id"]
        for key in ("bbox", "area", "iscrowd", "segmentation", "num_keypoints"):
            assert one[key] == given_one[key], key


@no_deadline
@given(coco_documents(), st.sampled_from([Task.DETECTION, Task.INSTANCE, Task.POSE]))
def test_dice_and_coco_read_back_are_converted_alike(document: dict[str, Any], task: Task) -> None:
    as_dice = b"".join(encode_dice(read_dice(encoded(document)), task))
    of_coco = converted_files(encoded(document), task)
    of_dice = converted_files(as_dice, task)
    assert of_dice == {name: raw.replace(b"(no id)", b"dataset") for name, raw in of_coco.items()}


@no_deadline
@given(coco_documents(), st.sampled_from([Task.DETECTION, Task.INSTANCE, Task.POSE]))
def test_dice_to_coco_to_dice_to_coco_changes_nothing(document: dict[str, Any], task: Task) -> None:
    first = b"".join(encode_dice(read_dice(encoded(document)), task))
    files = converted_files(first, task)
    second = back(files, task)
    assert converted_files(second, task) == files
    restored, original = json.loads(second), json.loads(first)
    assert [image["id"] for image in restored["images"]] == [image["id"] for image in original["images"]]
    assert [(one["id"], one["name"]) for one in restored["classes"]] == [
        (one["id"], one["name"]) for one in original["classes"]
    ]
    known = {one["id"]: one for image in original["images"] for one in image["annotations"]}
    for one in (one for image in restored["images"] for one in image["annotations"]):
        for key in {"image_id", "class_id", "class_name", "area", "iscrowd"} | one.keys() & {
            "segmentation",
            "keypoints",
        }:
            assert one[key] == known[one["id"]][key], key


def document(*ids: int, name: str = "cell", class_id: int = 1, first_annotation: int = 1) -> dict[str, Any]:
    return {
        "categories": [{"id": class_id, "name": name}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in ids],
        "annotations": [
            {"id": first_annotation + n, "image_id": i, "category_id": class_id, "bbox": [n, i, 5, 6]}
            for n, i in enumerate(ids)
        ],
    }


def test_several_files_become_one_data_set_with_splits() -> None:
    found = dice(
        coco_to_dice({"train": encoded(document(3, 7)), "val": encoded(document(5, first_annotation=40))}),
        dataset_id="ds_1", dataset_name="Cells", version=4,
    )  # fmt: skip
    assert [(image["id"], image["split"]) for image in found["images"]] == [(3, "train"), (7, "train"), (5, "val")]
    assert [one["id"] for image in found["images"] for one in image["annotations"]] == [1, 2, 40]
    assert found["splits"] == found["statistics"]["split_distribution"] == {"train": 2, "val": 1, "test": 0}
    assert found["statistics"] | {"split_distribution": 0} == {
        "total_images": 3, "total_annotations": 3, "avg_annotations_per_image": 1.0,
        "class_distribution": {"cell": 3}, "split_distribution": 0, "num_classes": 1,
    }  # fmt: skip
    header = {key: found[key] for key in ("format_version", "dataset_id", "dataset_name", "task_type", "version")}
    assert header == {
        "format_version": "1.0", "dataset_id": "ds_1", "dataset_name": "Cells", "task_type": "instance_segmentation",
        "version": 4,
    }  # fmt: skip


def test_ids_that_collide_between_files_are_numbered_anew() -> None:
    dataset = coco_to_dice({"train": encoded(document(0, 1)), "val": encoded(document(0))})
    images = dice(dataset)["images"]
    assert [(image["id"], image["file_name"]) for image in images] == [(1, "0.jpg"), (2, "1.jpg"), (3, "0.jpg")]
    assert [(one["id"], one["image_id"], one["bbox"]) for image in images for one in image["annotations"]] == [
        (1, 1, [0, 0, 5, 6]), (2, 2, [1, 1, 5, 6]), (3, 3, [0, 0, 5, 6]),
    ]  # fmt: skip


def test_each_file_may_have_its_own_image_folder() -> None:
    dataset = coco_to_dice(
        {"train": encoded(document(0)), "val": encoded(document(0))}, folders={"train": "train2017/", "val": "val2017"}
    )
    assert [image.file_name for image in dataset.images] == ["train2017/0.jpg", "val2017/0.jpg"]


def test_an_image_id_twice_in_one_file_is_refused() -> None:
    with pytest.raises(DatasetError, match="more than once: 7 in the val file"):
        coco_to_dice({"train": encoded(document(1)), "val": encoded(document(7, 7))})


@pytest.mark.parametrize("other", [{"name": "wall"}, {"class_id": 2}])
def test_categories_that_differ_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="Categories contradict"):
        coco_to_dice({"train": encoded(document(1)), "val": encoded(document(2, **other))})


def test_findings_of_all_files_are_kept() -> None:
    lost = document(1)
    lost["annotations"].append({"id": 9, "image_id": 404, "category_id": 1})
    dataset = coco_to_dice({"train": encoded(lost), "val": encoded(lost | {"images": []})})
    assert [(finding.code, finding.count) for finding in dataset.findings] == [("DS010", 3)]


@pytest.mark.parametrize("change", [{"images": {}}, {"annotations": []}, {"classes": 3}])
def test_an_id_map_of_other_files_is_refused(change: dict[str, Any]) -> None:
    source = document(1, 2)
    files = converted_files(encoded(source), Task.DETECTION)
    id_map = encoded(json.loads(files["id_map.json"]) | change)
    with pytest.raises(DatasetError, match=r"id_map\.json"):
        coco_to_dice({"train": files["train.json"]}, id_map=id_map)


def test_odd_annotations_pass_as_they_are() -> None:
    source = document(1, 2)
    source["annotations"] = [
        {"id": None, "image_id": 1, "category_id": 1, "keypoints": [[1, 2, 2]], "attributes": {"truncated": True}},
        {"id": 2, "image_id": 1, "category_id": 99, "bbox": "?", "segmentation": [], "keypoints": [1, 2]},
    ]
    first, second = dice(coco_to_dice({None: encoded(source)}))["images"][0]["annotations"]
    assert (first["id"], first["keypoints"], first["attributes"]) == (1, [[1, 2, 2]], {"truncated": True})
    assert "bbox" not in first and "area" not in first
    assert (second["bbox"], second["segmentation"], second["keypoints"]) == ("?", [], [[1, 2]])
    assert "class_name" not in second


@pytest.mark.parametrize(
    ("change", "task"),
    [
        ({}, Task.DETECTION),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": []}]}, Task.DETECTION),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE]}]}, Task.INSTANCE),
        ({"categories": [{"id": 1, "name": "person", **PERSON}]}, Task.POSE),
        ({"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1, "seg_file_name": "m.png"}]}, Task.SEMANTIC),
    ],
)
def test_the_task_is_told_by_the_labels(change: dict[str, Any], task: Task) -> None:
    assert task_of_coco(read_dice(encoded(document(1) | change))) is task


def test_the_file_is_named_by_its_task_and_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    dataset = coco_to_dice({"train": encoded(document(1)), "val": encoded(document(2, first_annotation=5))})
    paths = [write_dice(dataset, Task.POSE, tmp_path / name) for name in "ab"]
    assert [path.name for path in paths] == ["annotations_pose.json"] * 2
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["annotations_pose.json"]


@pytest.mark.parametrize(
    ("names", "found", "folders"),
    [
        (["train.json", "val.json", "instances_train2017.json"], {"train": "train.json", "val": "val.json"}, {}),
        (
            ["annotations/instances_train2017.json", "annotations/instances_val2017.json"],
            {"train": "annotations/instances_train2017.json", "val": "annotations/instances_val2017.json"},
            {},
        ),
        (
            ["train/_annotations.coco.json", "valid/_annotations.coco.json", "test/_annotations.coco.json"],
            {
                "train": "train/_annotations.coco.json",
                "val": "valid/_annotations.coco.json",
                "test": "test/_annotations.coco.json",
            },
            {"train": "train", "val": "valid", "test": "test"},
        ),
    ],
)
def test_coco_files_are_found_by_their_names(
    names: list[str], found: dict[str, str], folders: dict[str, str], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    files = coco_files(tmp_path)
    assert {split: path.relative_to(tmp_path).as_posix() for split, path in files.items()} == found
    assert image_folders(files, tmp_path) == folders
    assert coco_files(tmp_path / names[0]) == {None: tmp_path / names[0]}


def test_missing_and_ambiguous_coco_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No COCO file"):
        coco_files(tmp_path)
    for name in ("instances_train.json", "keypoints_train.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DatasetError, match=r"instances_train\.json, keypoints_train\.json"):
        coco_files(tmp_path)


def test_a_folder_goes_to_dice_and_back(tmp_path: Path) -> None:
    source = b"".join(encode_dice(read_dice(encoded(document(1, 2, 3))), Task.DETECTION))
    write_conversion(convert(read_dice(source), Task.DETECTION), tmp_path / "coco")
    path = coco_folder_to_dice(tmp_path / "coco", tmp_path / "dice")
    assert path == tmp_path / "dice" / "annotations_detection.json"
    write_conversion(convert(read_dice(path.read_bytes()), Task.DETECTION), tmp_path / "again")
    for name in ("train.json", "val.json", "test.json", "id_map.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "coco" / name).read_bytes()


def test_a_mask_outside_the_folder_is_not_copied(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": 1, "height": 1, "seg_file_name": "../secret.png"}
    (tmp_path / "train.json").write_bytes(encoded(document(1) | {"images": [image]}))
    with pytest.raises(DatasetError, match="leaves the data set folder"):
        coco_folder_to_dice(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""DICE v0.9: label_map.json and one label file per image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters import convert, read_dice
from converters.__main__ import main
from converters.conversion import Conversion
from converters.dice import DiceDataset
from converters.dice_v09 import read_v09, read_v09_folder
from converters.layout import extra_files, file_key_candidates, image_key_candidates, mask_key_candidates
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]]
TRIANGLE = [[30, 10], [40, 10], [40, 20]]


def shape(kind: str, points: Any, label: str = "cell", group: Any = None) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}}


def label_file(*shapes: dict[str, Any], split: str = "train") -> dict[str, Any]:
    sizes = {"imageHeight": 48, "imageWidth": 64, "imageDepth": 3}
    return {"version": "0.9", "task_type": "det", "shapes": list(shapes), "split": split, **sizes}


def label_map(*entries: dict[str, Any], task: str = "det") -> dict[str, Any]:
    classes = [
        {"name": "_background_", "idx": 0, "color": [0, 0, 0]},
        {"name": "cell", "idx": 1, "color": [9, 0, 0]},
        {"name": "wall", "idx": 5, "color": [0, 9, 0]},
    ]
    return {
        "task_type": task,
        "class_summary": {"num_classes": 3, "classes": classes},
        "data_summary": list(entries),
    }


def entry(name: str, folder: str = "", mask: str | None = None) -> dict[str, Any]:
    return {"img_path": f"{folder}images/{name}.jpg", "label_path": f"{name}.json", "mask_path": mask}


def read(files: dict[str, Any], folder: str = "", task: str = "det", mask: str | None = None) -> DiceDataset:
    raws = {f"{name}.json": json.dumps(file).encode() for name, file in files.items()}
    listed = label_map(*(entry(name, folder, mask) for name in files), task=task)
    return read_v09(json.dumps(listed).encode(), raws.get)


def converted(*shapes: dict[str, Any], task: Task = Task.INSTANCE) -> Conversion:
    good = shape("polygon", SQUARE)
    return convert(read({"a": label_file(*shapes), "b": label_file(good, split="val")}), task)


def codes(conversion: Conversion) -> set[str]:
    return {finding.code for finding in conversion.findings}


def test_classes_images_and_split_arrive() -> None:
    dataset = read({"a": label_file(), "b": label_file(split="val")})
    assert [(one.id, one.name) for one in dataset.classes] == [(0, "__background__"), (1, "cell"), (5, "wall")]
    assert dataset.classes[1].color == [9, 0, 0]
    assert [(i.id, i.file_name, i.width, i.height, i.split) for i in dataset.images] == [
        (1, "images/a.jpg", 64, 48, "train"),
        (2, "images/b.jpg", 64, 48, "val"),
    ]


@pytest.mark.parametrize("corners", [[[5, 6], [15, 26]], [[15, 26], [5, 6]], [[15, 6], [5, 26]], [[5, 26], [15, 6]]])
def test_a_rectangle_may_be_drawn_from_any_corner(corners: Any) -> None:
    conversion = converted(shape("rectangle", corners), task=Task.DETECTION)
    assert conversion.splits["train"].annotations[0].bbox == (5, 6, 10, 20)
    assert conversion.class_names == ("cell", "wall")


def test_polygons_of_one_group_and_label_are_one_object() -> None:
    conversion = converted(
        shape("polygon", SQUARE, group=3),
        shape("polygon", SQUARE),
        shape("polygon", TRIANGLE, group=3),
        shape("polygon", TRIANGLE, label="wall", group=3),
    )
    annotations = conversion.splits["train"].annotations
    assert sorted((a.category_id, a.area, a.bbox) for a in annotations) == [
        (0, 100, (10, 10, 10, 10)),
        (0, 150, (10, 10, 30, 10)),
        (1, 50, (30, 10, 10, 10)),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        shape("point", [[1, 2]]),
        shape("circle", [[1, 2], [3, 4]]),
        shape("rectangle", [[1, 2]]),
        shape("polygon", []),
        shape("polygon", None),
        shape("polygon", [[1, 2], [3], [4, 5]]),
        shape("polygon", [[1, "x"], [3, 3], [4, 5]]),
        {"label": "cell"},
    ],
)
def test_shapes_that_are_no_box_or_polygon_are_told(odd: dict[str, Any]) -> None:
    conversion = converted(odd, shape("polygon", SQUARE))
    assert len(conversion.splits["train"].annotations) == 1
    assert "DS081" in codes(conversion) and not conversion.blocking


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b'{"shapes": 3}', b'{"shapes": [{"label": 3}]}', b"\xff"])
def test_label_files_that_cannot_be_read_block(raw: bytes | None) -> None:
    good = json.dumps(label_file(shape("polygon", SQUARE))).encode()
    listed = json.dumps(label_map(entry("a"), entry("b"))).encode()
    conversion = convert(read_v09(listed, {"a.json": raw, "b.json": good}.get), Task.DETECTION)
    assert "DS080" in {finding.code for finding in conversion.blocking}


def test_an_entry_without_label_file_blocks() -> None:
    dataset = read_v09(json.dumps(label_map({"img_path": "a.jpg", "label_path": None})).encode(), lambda _: b"")
    assert [finding.code for finding in dataset.findings] == ["DS080"]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"class_summary": {"classes": ["a"]}, "data_summary": []}'])
def test_a_broken_label_map_is_a_named_error(raw: bytes) -> None:
    with pytest.raises(DatasetError, match=r"label_map\.json"):
        read_v09(raw, lambda _: None)


def test_a_label_that_is_not_declared_blocks() -> None:
    conversion = converted(shape("polygon", SQUARE, label="tree"))
    assert "DS006" in {finding.code for finding in conversion.blocking}


def test_background_marks_a_negative_image() -> None:
    conversion = converted(shape("rectangle", [[0, 0], [9, 9]], label="_background_"), task=Task.DETECTION)
    assert len(conversion.splits["train"].images) == 1 and not len(conversion.splits["train"].annotations)
    assert "DS015" in codes(conversion)


@pytest.mark.parametrize("folder", ["s3://bucket/datasets/d/", "/mnt/datasets/d/", "datasets/d/", ""])
def test_images_are_found_however_their_path_is_given(folder: str) -> None:
    dataset = read({"wood/000": label_file(), "steel/000": label_file()}, folder)
    root = (dataset.storage_info or {}).get("image_root")
    names = [image.file_name for image in dataset.images]
    prefix = "" if folder == "datasets/d/" else "datasets/d"
    assert len(set(names)) == 2
    for name, kind in zip(names, ("wood", "steel"), strict=True):
        assert f"datasets/d/images/{kind}/000.jpg" in image_key_candidates(prefix, root, name)


def test_absolute_paths_without_an_images_folder_share_their_common_one() -> None:
    listed = label_map(
        {"img_path": "s3://b/x/one/1.jpg", "label_path": "a.json"},
        {"img_path": "s3://b/x/2.jpg", "label_path": "a.json"},
    )
    dataset = read_v09(json.dumps(listed).encode(), {"a.json": json.dumps(label_file()).encode()}.get)
    assert [image.file_name for image in dataset.images] == ["one/1.jpg", "2.jpg"]
    assert image_key_candidates("elsewhere", "s3://b/x/", "one/1.jpg")[0] == "x/one/1.jpg"


@pytest.mark.parametrize(
    "mask", ["masks/a_mask.png", "s3://bucket/datasets/d/masks/a_mask.png", "/mnt/d/masks/a_mask.png"]
)
def test_masks_are_named_as_in_dice_1(mask: str) -> None:
    dataset = read({"a": label_file()}, mask=mask)
    assert dataset.task_type == "semantic_segmentation"
    assert extra_files(dataset, Task.SEMANTIC) == ["masks/a_mask.png"]
    assert extra_files(dataset, Task.DETECTION) == []


def test_a_mask_and_shapes_of_one_image_are_both_kept() -> None:
    dataset = read({"a": label_file(shape("polygon", SQUARE))}, mask="masks/a.png")
    assert (dataset.images[0].mask_file, len(dataset.images[0].annotations)) == ("masks/a.png", 1)


def test_classification_labels_need_no_shape() -> None:
    dataset = read({"a": label_file(shape("point", []))}, task="cls")
    assert dataset.task_type == "image_classification" and not dataset.findings
    assert [one.class_name for one in dataset.images[0].annotations] == ["cell"]


def test_a_single_annotation_object_is_converted_like_a_list_of_one() -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48, "split": "train"}
    mark = {"class_id": 0, "class_name": "__background__"}
    box = {"id": 4, "class_id": 1, "bbox": [1, 2, 3, 4]}
    document = {
        "classes": [{"id": 0, "name": "__background__"}, {"id": 1, "name": "cell"}],
        "images": [
            {**image, "annotation": box},
            {**image, "id": 2, "file_name": "b.jpg", "annotation": mark},
            {**image, "id": 3, "file_name": "c.jpg", "split": "val", "annotation": box},
        ],
    }
    conversion = convert(read_dice(json.dumps(document).encode()), Task.DETECTION)
    assert not conversion.blocking
    assert [(a.image_id, a.category_id) for a in conversion.splits["train"].annotations] == [(1, 0)]
    assert len(conversion.splits["train"].images) == 2


@pytest.mark.parametrize("prefix", ["datasets/d", "datasets/d/"])
@pytest.mark.parametrize("root", [None, "datasets/d/images", "s3://bucket/datasets/d/images/"])
@pytest.mark.parametrize(
    "mask",
    ["masks/x_mask.png", "x_mask.png", "datasets/d/masks/x_mask.png", "s3://bucket/datasets/d/masks/x_mask.png"],
)
def test_a_mask_is_looked_for_where_it_lies(prefix: str, root: str | None, mask: str) -> None:
    candidates = mask_key_candidates(prefix, root, mask)
    assert "datasets/d/masks/x_mask.png" in candidates[:2] and len(set(candidates)) == len(candidates)


def test_masks_beside_a_foreign_image_folder_are_found() -> None:
    assert "other/masks/a.png" in mask_key_candidates("datasets/d", "other/images/", "a.png")


@pytest.mark.parametrize("mask", ["../a.png", "/a.png", "s3://bucket/../a.png", ""])
def test_mask_names_that_leave_the_folder_are_refused(mask: str) -> None:
    with pytest.raises(DatasetError, match="File name"):
        mask_key_candidates("datasets/d", None, mask)


@pytest.mark.parametrize("base", ["labels/", "/home/someone/old/labels/", "s3://bucket/datasets/d/labels/"])
def test_a_folder_is_converted_from_the_shell(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels").mkdir()
    for name, split in (("a", "train"), ("b", "val")):
        file = label_file(shape("polygon", SQUARE), split=split)
        (tmp_path / "labels" / f"{name}.json").write_text(json.dumps(file))
    entries = [{**entry(name), "label_path": f"{base}{name}.json"} for name in "ab"]
    (tmp_path / "label_map.json").write_text(json.dumps(label_map(*entries)))
    for source in (tmp_path, tmp_path / "label_map.json"):
        assert main([str(source), str(tmp_path / "out"), "--task", "instance_segmentation"]) == 0
        assert "2 annotations of 2 classes" in capsys.readouterr().out


def test_label_files_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.json").write_text(json.dumps(label_file()))
    listed = label_map({"img_path": "a.jpg", "label_path": "../secret.json"})
    (tmp_path / "data" / "label_map.json").write_text(json.dumps(listed))
    assert [finding.code for finding in read_v09_folder(tmp_path / "data").findings] == ["DS080"]


@pytest.mark.parametrize("path", ["labels/a.json", "datasets/d/labels/a.json", "s3://bucket/datasets/d/labels/a.json"])
def test_a_label_file_is_looked_for_where_it_lies(path: str) -> None:
    assert file_key_candidates("datasets/d/", path)[0] == "datasets/d/labels/a.json"

"""Semantic segmentation: mask files and drawn polygons become images of class indices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]

from converters import Conversion, convert, read_dice, write_conversion
from converters.coco_to_dice import coco_folder_to_dice
from converters.semantic import IGNORE, MaskLook, look_at_mask, look_at_masks
from trainer_sdk.tasks import Task

no_deadline = settings(deadline=None, max_examples=50)  # a busy machine is no failure

WIDTH, HEIGHT = 64, 48
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
OVERLAPPING = [15, 10, 25, 10, 25, 20, 15, 20]
CLASSES = ((3, "cell"), (9, "wall"))


def image(number: int, split: str, *annotations: dict[str, Any], mask: str | None = None) -> dict[str, Any]:
    named = {"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT, "split": split}
    form = {"mask_file": mask, "mask_format": "indexed_png", "num_classes": 2}
    return {**named, "annotations": list(annotations)} | ({"annotation": form} if mask else {})


def drawn(class_id: int, *polygons: list[float], **fields: Any) -> dict[str, Any]:
    return {"id": 1, "class_id": class_id, "bbox": [10, 10, 20, 10], "segmentation": list(polygons), **fields}


def document(*images: dict[str, Any], classes: Any = CLASSES) -> dict[str, Any]:
    return {"classes": [{"id": i, "name": name} for i, name in classes], "images": list(images)}


def converted(source: dict[str, Any], folder: Path | None = None) -> Conversion:
    dataset = read_dice(json.dumps(source).encode())
    names = {one.mask_file for one in dataset.images if one.mask_file}
    masks = look_at_masks({name: folder / name for name in names}) if folder else None
    return convert(dataset, Task.SEMANTIC, masks=masks)


def written(conversion: Conversion, folder: Path) -> list[NDArray[np.uint8]]:
    conversion.raise_if_blocked()
    write_conversion(conversion, folder / "out", lambda name: folder / name)
    images = [one for split in conversion.splits.values() for one in split.images]
    files = [folder / "out" / str(one.seg_file_name) for one in sorted(images, key=lambda one: one.id)]
    for file in files:
        with Image.open(file) as picture:
            assert picture.mode == "P"
    return [np.asarray(Image.open(file)) for file in files]


def save(values: Any, path: Path, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([7, 99, 3] * 256)
    picture.save(path)


def codes(conversion: Conversion) -> set[str]:
    return {finding.code for finding in conversion.findings} - {"DS018", "DS024", "DS047", "DS049"}


def bands(*values: int, dtype: Any = np.uint8) -> Any:
    """Horizontal bands of equal height, one of each number."""
    return np.repeat(np.array(values, dtype=dtype), HEIGHT // len(values))[:, None].repeat(WIDTH, axis=1)


@pytest.mark.parametrize(("mode", "dtype"), [("L", np.uint8), ("P", np.uint8), ("I;16", np.uint16)])
def test_masks_of_every_kind_become_class_indices(mode: str, dtype: Any, tmp_path: Path) -> None:
    save(bands(9, 3, 255, dtype=dtype), tmp_path / "masks/a.png", mode)
    conversion = converted(
        document(image(1, "train", mask="masks/a.png"), image(2, "val", mask="masks/a.png")), tmp_path
    )
    assert conversion.class_names == ("cell", "wall") and not codes(conversion)
    for indices in written(conversion, tmp_path):
        assert (indices == bands(1, 0, IGNORE)).all()


def test_bilevel_masks_have_the_classes_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(bands(0, 255)).convert("1").save(tmp_path / "a.png")
    source = document(image(1, "train", mask="a.png"), image(2, "val", mask="a.png"), classes=((0, "no"), (1, "yes")))
    assert (written(converted(source, tmp_path), tmp_path)[0] == bands(0, 1)).all()


def test_class_ids_above_255_fit_into_16_bits(tmp_path: Path) -> None:
    save(bands(300, 40_000, dtype=np.uint16), tmp_path / "a.png")
    images = image(1, "train", mask="a.png"), image(2, "val", mask="a.png")
    conversion = converted(document(*images, classes=((40_000, "a"), (300, "b"))), tmp_path)
    assert (written(conversion, tmp_path)[0] == bands(1, 0)).all()
    strange = converted(document(*images, classes=((40_000, "a"), (2, "b"))), tmp_path)
    assert {finding.code for finding in strange.blocking} == {"DS073"}
    assert strange.blocking[0].examples[0] == "1.jpg: a.png: 300"


@pytest.mark.parametrize(
    ("values", "classes", "names", "expected"),
    [
        ((3, 9), CLASSES, ("cell", "wall"), (0, 1)),
        ((0, 9), CLASSES, ("cell", "wall", "background"), (2, 1)),
        ((0, 9), ((0, "__background__"), *CLASSES), ("cell", "wall", "background"), (2, 1)),
        ((5, 9), ((5, "__background__"), *CLASSES), ("cell", "wall", "background"), (2, 1)),
        ((3, 9), ((0, "__background__"), *CLASSES), ("cell", "wall", "background"), (0, 1)),
        ((0, 9), ((9, "wall"), (0, "floor")), ("wall", "floor"), (1, 0)),
    ],
)
def test_what_belongs_to_no_class_is_a_background_class(
    values: Any, classes: Any, names: tuple[str, ...], expected: Any, tmp_path: Path
) -> None:
    save(bands(*values), tmp_path / "a.png")
    source = document(image(1, "train", mask="a.png"), image(2, "val", mask="a.png"), classes=classes)
    conversion = converted(source, tmp_path)
    assert conversion.class_names == names
    assert ("DS074" in codes(conversion)) == ("background" in names)
    assert (written(conversion, tmp_path)[0] == bands(*expected)).all()


def test_polygons_are_drawn_in_file_order_and_crowds_are_ignored(tmp_path: Path) -> None:
    first, over = drawn(3, SQUARE), drawn(9, OVERLAPPING)
    crowd = drawn(3, [40, 10, 50, 10, 50, 20, 40, 20], iscrowd=1)
    conversion = converted(document(image(1, "train", first, over, crowd), image(2, "val", over, first)))
    assert conversion.class_names == ("cell", "wall", "background")
    train, val = written(conversion, tmp_path)
    assert [train[15, column] for column in (5, 12, 17, 22, 45)] == [2, 0, 1, 1, IGNORE]
    assert [val[15, column] for column in (12, 17, 22)] == [0, 0, 1]
    assert codes(conversion) == {"DS074"}


def test_every_kind_of_mask_is_drawn(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    pixels[30:40, 5:9] = 1
    rle = coco_mask.encode(pixels)
    small = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    runs = {"size": [HEIGHT, WIDTH], "counts": [60 * HEIGHT, 96, WIDTH * HEIGHT - 60 * HEIGHT - 96]}
    parts = drawn(3, SQUARE, [40, 10, 50, 10, 50, 20, 40, 20])
    source = document(
        image(1, "train", parts, drawn(9, segmentation=small), drawn(9, segmentation=runs)), image(2, "val", parts)
    )
    indices = written(converted(source), tmp_path)[0]
    assert (indices == 0).sum() == 200
    assert (indices == 1).sum() == 40 + 96
    assert (indices[30:40, 5:9] == 1).all() and (indices[:, 60:62] == 1).all()


def test_an_object_with_only_a_box_is_ignored_pixels_not_background(tmp_path: Path) -> None:
    boxed = {"id": 2, "class_id": 9, "bbox": [40, 10, 10, 10]}
    conversion = converted(document(image(1, "train", drawn(3, SQUARE), boxed), image(2, "val", drawn(3, SQUARE))))
    indices = written(conversion, tmp_path)[0]
    assert (indices == IGNORE).sum() == 100 and indices[15, 45] == IGNORE
    assert codes(conversion) == {"DS040", "DS074", "DS077"}


def test_boxes_alone_teach_no_pixels() -> None:
    boxed = {"id": 2, "class_id": 3, "bbox": [40, 10, 10, 10]}
    conversion = converted(document(image(1, "train", boxed), image(2, "val", boxed)))
    assert {finding.code for finding in conversion.blocking} == {"DS027"}


def test_masks_and_polygons_may_be_mixed_and_unlabelled_images_are_left_out(tmp_path: Path) -> None:
    save(bands(3, 9), tmp_path / "a.png")
    conversion = converted(
        document(
            image(1, "train", mask="a.png"),
            image(2, "train"),
            image(3, "val", drawn(3, SQUARE)),
            image(4, "val", {"class_name": "__background__"}),
        ),
        tmp_path,
    )
    assert [one.file_name for one in conversion.splits["train"].images] == ["1.jpg"]
    assert [one.file_name for one in conversion.splits["val"].images] == ["3.jpg", "4.jpg"]
    assert codes(conversion) == {"DS015", "DS042", "DS074", "DS075"}
    of_mask, of_polygon, of_nothing = written(conversion, tmp_path)
    assert (of_mask == bands(0, 1)).all()
    assert sorted(np.unique(of_polygon)) == [0, 2]
    assert (of_nothing == 2).all()


def test_classes_that_masks_do_not_show_are_warned_of(tmp_path: Path) -> None:
    save(bands(3, 9), tmp_path / "both.png")
    save(bands(3), tmp_path / "one.png")
    classes = (*CLASSES, (11, "never"))
    source = document(image(1, "train", mask="both.png"), image(2, "val", mask="one.png"), classes=classes)
    conversion = converted(source, tmp_path)
    warned = {finding.code: finding.examples for finding in conversion.findings if finding.code != "DS049"}
    assert warned == {"DS040": ("never",), "DS042": ("wall",)}


def test_masks_that_show_nothing_block(tmp_path: Path) -> None:
    save(bands(255), tmp_path / "a.png")
    conversion = converted(document(image(1, "train", mask="a.png"), image(2, "val", mask="a.png")), tmp_path)
    assert {finding.code for finding in conversion.blocking} == {"DS002"}


def test_masks_that_nobody_looked_at_are_believed(tmp_path: Path) -> None:
    source = document(image(1, "train", mask="a.png"), image(2, "val", mask="a.png"))
    assert codes(converted(source)) == set()


def spoiled(path: Path) -> bytes:
    whole = path.read_bytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda path: path.unlink(), "DS070", "a.png"),
        (lambda path: path.write_bytes(b""), "DS071", "empty file"),
        (lambda path: path.write_bytes(b"no picture"), "DS071", "cannot identify"),
        (lambda path: path.write_bytes(spoiled(path)), "DS071", "a.png: "),
        (lambda path: Image.new("RGB", (WIDTH, HEIGHT)).save(path), "DS071", "colours (RGB)"),
        (lambda path: Image.new("RGBA", (WIDTH, HEIGHT)).save(path), "DS071", "colours (RGBA)"),
        (lambda path: Image.new("LA", (WIDTH, HEIGHT)).save(path), "DS071", "colours (LA)"),
        (lambda path: save(bands(3, 9).T, path), "DS072", "48x64, image 64x48"),
        (lambda path: save(bands(3, 9, 44, 55), path), "DS073", "44, 55"),
    ],
)
def test_bad_masks_block(spoil: Any, code: str, said: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(bands(3, 9), tmp_path / name)
    spoil(tmp_path / "a.png")
    conversion = converted(document(image(1, "train", mask="a.png"), image(2, "val", mask="b.png")), tmp_path)
    blocking = {finding.code: finding.examples[0] if finding.examples else "" for finding in conversion.blocking}
    assert said in blocking[code]
    assert blocking.keys() - {"DS002"} == {code}


def test_a_class_called_like_ignored_pixels_blocks_only_where_masks_hold_it(tmp_path: Path) -> None:
    save(bands(3, 255), tmp_path / "a.png")
    classes = ((3, "cell"), (255, "wall"))
    images = image(1, "train", mask="a.png"), image(2, "val", mask="a.png")
    assert "DS073" in {finding.code for finding in converted(document(*images, classes=classes), tmp_path).blocking}
    polygons = image(1, "train", drawn(255, SQUARE)), image(2, "val", drawn(255, SQUARE), drawn(3, OVERLAPPING))
    conversion = converted(document(*polygons, classes=classes))
    assert written(conversion, tmp_path)[0][15, 12] == 1


@pytest.mark.parametrize(("count", "blocked"), [(254, False), (255, True)])
def test_more_classes_than_8_bits_can_tell_block(count: int, blocked: bool) -> None:
    classes = [(n, f"class {n}") for n in range(count)]
    source = document(image(1, "train", drawn(0, SQUARE)), image(2, "val", drawn(0, SQUARE)), classes=classes)
    assert ("DS076" in {finding.code for finding in converted(source).blocking}) is blocked


@no_deadline
@given(st.binary(max_size=8), st.integers(0, 400))
def test_a_damaged_mask_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int) -> None:
    path = tmp_path_factory.mktemp("mask") / "a.png"
    save(bands(3, 9), path, "P")
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + junk + whole[place + len(junk) :])
    assert isinstance(look_at_mask(path), MaskLook | str)


def test_a_converted_data_set_converts_again_to_the_same_pixels(tmp_path: Path) -> None:
    save(bands(0, 9), tmp_path / "a.png")
    source = document(image(7, "val", mask="a.png"), image(5, "train", drawn(3, SQUARE), drawn(9, OVERLAPPING)))
    first = written(converted(source, tmp_path), tmp_path)
    out = tmp_path / "out"
    path = coco_folder_to_dice(out, tmp_path / "back", dataset_id="ds_back")
    assert path.name == "annotations_segmentation.json"
    again = json.loads(path.read_bytes())
    assert (again["dataset_id"], [one["id"] for one in again["images"]]) == ("ds_back", [7, 5])
    assert again["images"][0]["annotation"] == {
        "mask_file": "masks/000001.png", "mask_format": "indexed_png", "num_classes": 3,
    }  # fmt: skip
    conversion = converted(again, path.parent)
    assert conversion.class_names == ("cell", "wall", "background")
    for before, after in zip(first, written(conversion, path.parent), strict=True):
        assert (before == after).all()


def test_a_mask_file_says_everything_about_its_image(tmp_path: Path) -> None:
    save(bands(3, 9), tmp_path / "a.png")
    boxed = {"id": 2, "class_id": 9, "bbox": [40, 10, 10, 10]}
    images = [image(n, split, boxed, drawn(9, SQUARE), mask="a.png") for n, split in enumerate(("train", "val"))]
    conversion = converted(document(*images), tmp_path)
    assert not codes(conversion)
    assert (written(conversion, tmp_path)[0] == bands(0, 1)).all()


def test_a_list_says_which_mask_belongs_to_which_image_whatever_the_name(tmp_path: Path) -> None:
    names = [" a b \n.jpg", "nested/deep/ü.png", "masks/000002.png"]
    images = [image(n, "train", drawn(3, SQUARE)) | {"file_name": name} for n, name in enumerate(names, start=1)]
    conversion = converted(document(*images, image(4, "val", drawn(9, SQUARE))))
    written(conversion, tmp_path)
    found = json.loads((tmp_path / "out/masks/train.json").read_bytes())
    assert found["metainfo"] == {"classes": ["cell", "wall", "background"]}
    assert [one["img_path"] for one in found["data_list"]] == names
    for one in found["data_list"]:
        assert (tmp_path / "out/masks" / one["seg_map_path"]).is_file()
        assert (one["label_map"], one["reduce_zero_label"], one["seg_fields"]) == (None, False, [])
    assert len({one["img_id"] for one in found["data_list"]}) == len(names)
    assert len(json.loads((tmp_path / "out/masks/val.json").read_bytes())["data_list"]) == 1
    assert json.loads((tmp_path / "out/masks/test.json").read_bytes())["data_list"] == []


def test_one_class_for_every_pixel_is_nothing_to_learn(tmp_path: Path) -> None:
    save(bands(3, 3, 255), tmp_path / "masks/a.png")
    images = (image(1, "train", mask="masks/a.png"), image(2, "val", mask="masks/a.png"))
    assert "DS078" in codes(converted(document(*images, classes=((3, "cell"),)), tmp_path))
    save(bands(3, 0, 255), tmp_path / "masks/a.png")
    assert "DS078" not in codes(converted(document(*images, classes=((3, "cell"),)), tmp_path))

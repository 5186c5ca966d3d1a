"""Whatever a file holds: it converts to something that pycocotools reads, or fails with a code that is listed."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from converters import convert, read_dice, write_conversion
from converters.conversion import ID_MAP_FILE
from converters.dice_to_coco import SHAPE_OF_TASK
from converters.findings import RULES
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

TASKS = list(SHAPE_OF_TASK)
SPLITS = ("train", "val", "test")
MAX_DRAWN_PX = 2**20
FAR_PX = 1e5
"""Beyond it pycocotools needs gigabytes for a polygon; see the test of points far outside."""
no_deadline = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

Document = dict[str, Any]
SIDES = st.integers(16, 96)
ODD_NUMBERS = st.sampled_from([
    0, -1, 1, 2, 7, 0.5, -0.0, 1e-300, 5e-324, 1e15, 2**31, -(2**31), 2**63, 2**64, 10**30, 1e308, math.nan, math.inf,
    -math.inf,
])  # fmt: skip
NEAR_NUMBERS = st.floats(-300, 300) | st.integers(-300, 300) | st.sampled_from([-1e9, -FAR_PX, FAR_PX, 1e9, math.nan])
ODD_TEXTS = st.text(st.characters(), max_size=5) | st.sampled_from([
    "../../x.jpg", "/x.jpg", "C:\\x", "a/../../x", "\0", "\ud800", "__background__", "train", "Valid", "7", "xyxy",
    "images/1.jpg",
])  # fmt: skip
POLYGONS = st.lists(st.lists(NEAR_NUMBERS, max_size=12), max_size=3)
RUNS = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12) | st.lists(
    st.integers(-5, 5000) | st.sampled_from([2**32, 2**63]), max_size=6
)
RLES = st.fixed_dictionaries({"size": st.lists(SIDES, max_size=3), "counts": RUNS})
KEYPOINTS = st.lists(st.lists(NEAR_NUMBERS, max_size=4), max_size=18) | st.lists(NEAR_NUMBERS, max_size=54)
SPLIT_CONFIGS = st.fixed_dictionaries({}, optional={
    "method": st.sampled_from(["auto", "manual", "partial", "stratified", "grouped", "?"]),
    "default_ratio": st.lists(st.floats(0, 1), max_size=3),
    "seed": ODD_NUMBERS,
    "stratify": st.booleans(),
    "group_by": st.sampled_from(["folder", "metadata.source", "?"]),
    "splits": st.dictionaries(st.sampled_from("123x"), st.sampled_from([*SPLITS, None, "?"])),
    "exclude_images": st.lists(st.integers(0, 4)),
})  # fmt: skip
ODD_VALUES = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS | POLYGONS | RLES | KEYPOINTS | SPLIT_CONFIGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXTS, inner, max_size=3),
    max_leaves=4,
)


def rectangle_runs(x: int, y: int, w: int, h: int, width: int, height: int) -> list[int]:
    """Uncompressed RLE, column by column, background first."""
    runs = [x * height + y, h, *[height - h, h] * (w - 1)]
    return [*runs, width * height - sum(runs)]


@st.composite
def segmentations(draw: st.DrawFn, box: tuple[int, int, int, int], width: int, height: int) -> Any:
    x, y, w, h = box
    form = draw(st.sampled_from(["polygon", "two polygons", "runs", "compressed"]))
    if form == "polygon":
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if form == "two polygons":
        return [[x, y, x + w, y, x, y + h], [x + w, y, x + w, y + h, x, y + h]]
    rle = {"size": [height, width], "counts": rectangle_runs(x, y, w, h, width, height)}
    if form == "compressed":
        rle["counts"] = coco_mask.frPyObjects(rle, height, width)["counts"].decode()
    return rle


@st.composite
def annotations(draw: st.DrawFn, number: int, width: int, height: int, class_ids: list[int]) -> Document:
    """Everything that any task needs; no two in an image alike, as their widths tell them apart."""
    w, h = 2 + number, draw(st.integers(2, height))
    x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
    visible = draw(st.integers(1, 2))
    points = [[x + number % w, y + number % h, visible] for number in range(17)]
    return {
        "class_id": draw(st.sampled_from(class_ids)),
        "bbox": [x, y, w, h],
        "area": draw(st.floats(0.25, 1)) * w * h,
        "iscrowd": draw(st.sampled_from([0, 0, False])),
        "segmentation": draw(segmentations((x, y, w, h), width, height)),
        "keypoints": points if draw(st.booleans()) else [value for point in points for value in point],
        "num_keypoints": 17,
    }


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A sound data set in variant A or B: at least one labelled image in train and in val."""
    class_ids = draw(st.lists(st.integers(-5, 2**40), min_size=1, max_size=4, unique=True))
    images = []
    for index, split in enumerate(["train", "val", *draw(st.lists(st.sampled_from(SPLITS), max_size=4))], start=1):
        width, height = draw(SIDES), draw(SIDES)
        count = draw(st.integers(1 if index < 3 else 0, 4))
        objects = [draw(annotations(number, width, height, class_ids)) for number in range(count)]
        name = f"{draw(st.sampled_from(['', 'images/', 'ä b/']))}{index}.jpg"
        images.append({
            "id": index, "file_name": name, "width": width, "height": height, "split": split, "annotations": objects,
        })  # fmt: skip
    for number, annotation in enumerate(annotation for image in images for annotation in image["annotations"]):
        annotation["id"] = number * 7
    classes = [{"id": class_id, "name": f"class {class_id}"} for class_id in class_ids]
    return {"dataset_id": "x", "classes": classes, "images": images} if draw(st.booleans()) else flat(classes, images)


def flat(classes: list[Document], images: list[Document]) -> Document:
    """Variant B."""
    listed = [
        {**annotation, "image_id": image["id"], "category_id": annotation["class_id"]}
        for image in images
        for annotation in image.pop("annotations")
    ]
    for annotation in listed:
        del annotation["class_id"]
    return {"categories": classes, "images": images, "annotations": listed}


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A sound document with odd values anywhere, keys missing, doubled or misplaced, maybe cut."""
    document = draw(documents())
    for _ in range(draw(st.integers(1, 4))):
        if not document:
            break
        container, key = draw(places(document))
        if draw(st.integers(0, 3)) == 0:
            del container[key]
        else:
            container[key] = draw(ODD_VALUES)
    text = json.dumps(document)
    if draw(st.integers(0, 4)) == 0:
        parts = text.split('{"')
        place = draw(st.integers(1, len(parts)))
        doubled = json.dumps(draw(st.sampled_from(["id", "bbox", "images"]))) + ": " + json.dumps(draw(ODD_VALUES))
        text = '{"'.join(parts[:place]) + "{" + doubled + ', "' + '{"'.join(parts[place:])
    return text.encode()[: draw(st.sampled_from([None] * 9 + [len(text) // 2]))]


@st.composite
def places(draw: st.DrawFn, document: Document) -> tuple[Any, Any]:
    """A container in the document and one of its keys."""
    at: Any = document
    while True:
        key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
        inner = at[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 4)) == 0:
            return at, key
        at = inner


def convert_and_check(raw: bytes, task: Task) -> dict[str, COCO] | None:
    """The files as pycocotools reads them, or None for a data set that is refused in an orderly way."""
    try:
        conversion = convert(read_dice(raw), task)
    except DatasetError:
        return None
    assert {finding.code for finding in conversion.findings} <= RULES.keys()
    if conversion.blocking:
        with pytest.raises(DatasetError, match=conversion.blocking[0].code):
            conversion.raise_if_blocked()
        return None
    with tempfile.TemporaryDirectory() as folder:
        write_conversion(conversion, Path(folder))
        id_map = json.loads((Path(folder) / ID_MAP_FILE).read_bytes())
        files = {name: Path(folder) / f"{name}.json" for name in SPLITS}
        for path in files.values():
            json.loads(path.read_bytes(), parse_constant=pytest.fail)
        with contextlib.redirect_stdout(io.StringIO()):
            read = {name: COCO(path) for name, path in files.items()}
    for coco in read.values():
        check_coco(coco, id_map)
    return read


def check_coco(coco: COCO, id_map: Document) -> None:
    for annotation in coco.dataset["annotations"]:
        image = coco.imgs[annotation["image_id"]]
        width, height = image["width"], image["height"]
        x, y, w, h = annotation["bbox"]
        assert x >= -1e-6 and y >= -1e-6 and x + w <= width + 1e-6 and y + h <= height + 1e-6
        assert w > 0 and h > 0 and annotation["area"] > 0
        assert annotation["category_id"] in coco.cats
        assert 1 <= annotation["id"] <= len(id_map["annotations"]) and str(image["id"]) in id_map["images"]
        if annotation.get("segmentation") and width * height <= MAX_DRAWN_PX:
            assert coco.annToMask(annotation).shape == (height, width)


@pytest.mark.parametrize("task", TASKS)
@no_deadline
@given(raw=damaged_files())
def test_a_damaged_file_converts_or_fails_with_a_listed_code(task: Task, raw: bytes) -> None:
    convert_and_check(raw, task)


@pytest.mark.parametrize("task", TASKS)
@no_deadline
@given(document=documents(), segmentation=POLYGONS | RLES, points=KEYPOINTS, box=st.lists(NEAR_NUMBERS, max_size=5))
def test_any_shape_can_be_drawn_or_is_left_out(
    task: Task, document: Document, segmentation: Any, points: Any, box: Any
) -> None:
    image = document["images"][0]
    odd = {"id": 1000, "bbox": box, "segmentation": segmentation, "keypoints": points, "image_id": image["id"]}
    (classes,) = (document[key] for key in ("classes", "categories") if key in document)
    document.setdefault("annotations", []).append({**odd, "category_id": classes[0]["id"]})
    convert_and_check(json.dumps(document).encode(), task)


@pytest.mark.parametrize("task", SHAPE_OF_TASK)
@no_deadline
@given(document=documents())
def test_a_sound_file_keeps_its_counts_areas_and_ids(task: Task, document: Document) -> None:
    source = copy.deepcopy(document)
    nested = [annotation for image in source["images"] for annotation in image.get("annotations", ())]
    areas = {annotation["id"]: annotation["area"] for annotation in source.get("annotations", nested)}
    conversion = convert(read_dice(json.dumps(document).encode()), task)
    assert not conversion.blocking
    kept = [annotation for split in conversion.splits.values() for annotation in split.annotations]
    assert {conversion.id_map.annotations[one.id - 1]: one.area for one in kept} == pytest.approx(areas)
    for name, split in conversion.splits.items():
        ids = [image["id"] for image in source["images"] if image["split"] == name]
        assert [conversion.id_map.images[image.id].id for image in split.images] == ids


@pytest.mark.parametrize("task", TASKS)
@no_deadline
@given(document=documents())
def test_a_sound_file_is_read_by_pycocotools(task: Task, document: Document) -> None:
    read = convert_and_check(json.dumps(document).encode(), task)
    assert read is not None
    assert sum(len(coco.imgs) for coco in read.values()) == len(document["images"])


def square(**fields: Any) -> bytes:
    """Two images with one object each, ``fields`` going to the first image or its annotation."""
    images = []
    for number, split in ((1, "train"), (2, "val")):
        annotation = {"id": number, "class_id": 0, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]]}
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 64, "split": split})
        images[-1]["annotations"] = [annotation]
    for key, value in fields.items():
        (images[0] if key in images[0] else images[0]["annotations"][0])[key] = value
    return json.dumps({"classes": [{"id": 0, "name": "c"}], "images": images}).encode()


@pytest.mark.parametrize("depth", [100, 900, 1100, 100_000])
@pytest.mark.parametrize("place", ["bbox", "segmentation", "keypoints", "attributes", "class_name"])
def test_deep_nesting_is_no_crash(depth: int, place: str) -> None:
    raw = square(**{place: "deep"}).replace(b'"deep"', b"[" * depth + b"]" * depth)
    read = convert_and_check(raw, Task.DETECTION)
    assert read is None or len(read["val"].anns) == 1


@pytest.mark.parametrize("far", [1e6, 9e8])
def test_points_far_outside_do_not_reach_pycocotools(far: float) -> None:
    conversion = convert(read_dice(square(segmentation=[[0, 0, far, 0, 0, far]])), Task.INSTANCE)
    for annotation in conversion.splits["train"].annotations:
        assert isinstance(annotation.segmentation, list)
        assert max(max(map(abs, polygon)) for polygon in annotation.segmentation) <= FAR_PX
        assert annotation.area <= 64 * 64


@pytest.mark.parametrize("side", [2**31, 10**400])
def test_a_side_of_over_32_bits_is_no_size(side: int) -> None:
    conversion = convert(read_dice(square(width=side)), Task.DETECTION)
    assert "DS011" in {finding.code for finding in conversion.blocking}


NOT_IN_64_BITS = {
    "bbox": [1, 1, 9, "@"],
    "area": "@",
    "segmentation": [[1, 1, 9, 1, 9, "@"]],
    "keypoints": [*[[5, 5, 2]] * 16, [5, "@", 2]],
}


@pytest.mark.parametrize("field", NOT_IN_64_BITS)
def test_a_number_that_no_float_holds_is_no_crash(field: str) -> None:
    raw = square(**{"keypoints": [[5, 5, 2]] * 17, field: NOT_IN_64_BITS[field]}).replace(b'"@"', b"1e999")
    for task in SHAPE_OF_TASK:
        with contextlib.suppress(DatasetError):
            assert "c" in convert(read_dice(raw), task).class_names


def test_a_task_given_as_text_is_the_task() -> None:
    dataset = read_dice(square(keypoints=[[5, 5, 2]] * 17))
    for task in SHAPE_OF_TASK:
        by_text = convert(dataset, task.value)  # type: ignore[arg-type]
        assert by_text.class_names == convert(dataset, task).class_names
        assert by_text.task is task

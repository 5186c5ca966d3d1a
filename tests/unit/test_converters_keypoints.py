"""Keypoints of every form, and COCO files of other origin as pycocotools reads and scores them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from converters import Conversion, convert, read_dice, write_conversion
from converters.keypoints import COCO_NAMES, COCO_SKELETON, default_schema, mirrored_names, parse_schema, read_keypoints
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

no_deadline = settings(deadline=None)  # a busy machine is no failure

WIDTH, HEIGHT = 640, 480
THREE = [[10, 20, 2], [30, 40, 1], [50, 60, 0]]
FACE = {"keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}


def image(number: int, split: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    named = {"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT, "split": split}
    return {**named, "annotations": list(annotations)}


def pose(keypoints: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "class_id": 0, "bbox": [5, 5, 100, 100], "keypoints": keypoints, **fields}


def converted(*annotations: dict[str, Any], face: dict[str, Any] | None = None, **options: Any) -> Conversion:
    """Train holds the annotations; val holds a sound one of three points, or of as many as the first has."""
    first = read_keypoints(annotations[0].get("keypoints")) if annotations else None
    sound = pose([[10 + n, 20, 2] for n in range(len(first or THREE))])
    document = {
        "classes": [{"id": 0, "name": "face", **(face or {})}],
        "images": [image(1, "train", *annotations), image(2, "val", sound), image(3, "train", sound)],
    }
    return convert(read_dice(json.dumps(document).encode()), Task.POSE, **options)


def codes(conversion: Conversion) -> set[str]:
    return {finding.code for finding in conversion.findings} - {"DS018", "DS049", "DS065"}


def coco_of(conversion: Conversion, folder: Path, split: str = "train") -> COCO:
    write_conversion(conversion, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(folder / f"{split}.json")


@pytest.mark.parametrize("form", [THREE, [number for point in THREE for number in point]])
def test_nested_and_flat_points_are_the_same(form: Any) -> None:
    conversion = converted(pose(form))
    annotation = conversion.splits["train"].annotations[0]
    assert annotation.keypoints == [10, 20, 2, 30, 40, 1, 50, 60, 0]
    assert annotation.num_keypoints == 2
    assert annotation.bbox == (5, 5, 100, 100)
    assert not codes(conversion)


@no_deadline
@given(st.integers(1, 60), st.data())
def test_any_number_of_points_is_kept(count: int, data: st.DataObject) -> None:
    point = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT), st.sampled_from([0, 1, 2])).map(list)
    points = data.draw(st.lists(point, min_size=count, max_size=count))
    assume(any(one[2] for one in points))  # of an object without any labelled point nothing is known
    conversion = converted(pose(points))
    annotation = conversion.splits["train"].annotations[0]
    assert annotation.keypoints == [number for one in points for number in one]
    assert annotation.num_keypoints == sum(one[2] > 0 for one in points)
    assert conversion.keypoints is not None and len(conversion.keypoints.names) == count


def test_without_a_schema_17_points_are_cocos_and_others_are_numbered() -> None:
    person = default_schema(17)
    assert (person.names, person.skeleton) == (COCO_NAMES, COCO_SKELETON)
    assert (2, 3) in person.flip_pairs and len(person.flip_pairs) == 8
    conversion = converted(pose(THREE))
    assert conversion.keypoints == default_schema(3)
    assert conversion.splits["train"].categories[0].keypoints == ["keypoint_1", "keypoint_2", "keypoint_3"]
    assert "DS065" in {finding.code for finding in conversion.findings}


def test_the_class_names_its_points() -> None:
    conversion = converted(pose(THREE), face=FACE)
    category = conversion.splits["train"].categories[0]
    assert category.keypoints == FACE["keypoints"]
    assert (category.skeleton, category.flip_pairs) == ([(1, 2), (1, 3)], [(2, 3)])
    assert "DS065" not in {finding.code for finding in conversion.findings}


def test_the_request_overrules_the_class() -> None:
    asked = {"names": ["a", "b", "c"], "skeleton": [["a", "c"]], "flip_pairs": [[1, 3]]}
    schema = converted(pose(THREE), face=FACE, keypoints=asked).keypoints
    assert schema is not None
    assert (schema.names, schema.skeleton, schema.flip_pairs) == (("a", "b", "c"), ((1, 3),), ((1, 3),))


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": []},
        {"names": "abc"},
        {"names": ["a", "a"]},
        {"names": ["a", "b"], "skeleton": [[1, 3]]},
        {"names": ["a", "b"], "skeleton": [[0, 1]]},
        {"names": ["a", "b"], "flip_pairs": [["a", "c"]]},
        {"names": ["a", "b"], "flip_pairs": 3},
        {"names": ["a", "b"], "skeleton": [[True, 2]]},
    ],
)
def test_a_schema_that_does_not_fit_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"CONFIG\.keypoints"):
        converted(pose(THREE), keypoints=wrong)
    in_file = {("keypoints" if key == "names" else key): value for key, value in wrong.items()}
    if wrong["names"]:
        assert "DS066" in {finding.code for finding in converted(pose(THREE), face=in_file).blocking}


def test_left_and_right_are_mirrored_in_any_spelling() -> None:
    names = ["tip", "left_wing", "right_wing", "Left Foot", "Right Foot", "LEFT", "RIGHT", "left_alone"]
    assert mirrored_names(names) == ((2, 3), (4, 5), (6, 7))
    assert parse_schema({"names": names, "flip_pairs": []}).flip_pairs == ()


@pytest.mark.parametrize("points", [THREE[:2], [*THREE, [1, 1, 2]]])
def test_another_number_of_points_blocks_even_if_it_comes_first(points: Any) -> None:
    sound = [pose(THREE, id=n, bbox=[5, 5, 50 + n, 50]) for n in range(4)]
    conversion = converted(*sound, pose(points, id=9))
    assert {finding.code for finding in conversion.blocking} == {"DS060"}
    first = converted(*sound, pose(points, id=9), keypoints={"names": ["a", "b", "c"]})
    assert {finding.code for finding in first.blocking} == {"DS060"}


def test_the_usual_count_is_looked_for_behind_thousands_of_plain_boxes() -> None:
    boxes = [{"id": n, "class_id": 0, "bbox": [n % 500, n // 500, 9, 9]} for n in range(1500)]
    conversion = converted(*boxes, pose(THREE))
    assert conversion.keypoints is not None and len(conversion.keypoints.names) == 3
    assert codes(conversion) == {"DS061", "DS094"}  # plain boxes among poses are a misunderstanding


def test_odd_visibility_and_points_outside_are_repaired() -> None:
    conversion = converted(pose([[10, 20, 3], [-5, 20, 2], [WIDTH, HEIGHT, 2]]))
    keypoints = conversion.splits["train"].annotations[0].keypoints
    assert keypoints is not None and keypoints[2::3] == [2, 0, 2]
    assert codes(conversion) == {"DS062", "DS063"}


@pytest.mark.parametrize("nowhere", [[None, None, 0], [float("nan"), float("nan"), 2], [1e300, 5, 2]])
def test_a_point_without_a_place_is_not_labelled(nowhere: Any) -> None:
    conversion = converted(pose([[10, 20, 2], nowhere, [30, 40, 1]]))
    keypoints = conversion.splits["train"].annotations[0].keypoints
    assert keypoints == [10, 20, 2, 0, 0, 0, 30, 40, 1]


@pytest.mark.parametrize("nothing", [None, [], "?", [1, 2], [[1, 2]], [[1, 2, "x"]], {"x": 1}, [[-5, -5, 2]] * 3])
def test_an_annotation_without_usable_points_is_left_out(nothing: Any) -> None:
    conversion = converted(pose(THREE), pose(nothing, id=2))
    assert len(conversion.splits["train"].annotations) == 2
    assert "DS061" in codes(conversion) and not conversion.blocking


def test_no_usable_points_at_all_block_once() -> None:
    document = {
        "classes": [{"id": 0, "name": "face"}],
        "images": [image(1, "train", pose(None)), image(2, "val", pose([[1, 2, 0]]))],
    }
    conversion = convert(read_dice(json.dumps(document).encode()), Task.POSE)
    assert {finding.code for finding in conversion.blocking} == {"DS064"}


def test_the_box_is_that_of_the_points_where_none_is_drawn() -> None:
    conversion = converted(pose([[10, 20, 2], [30, 50, 1], [0, 0, 0]], bbox=None))
    assert conversion.splits["train"].annotations[0].bbox == (10, 20, 20, 30)
    assert codes(conversion) == {"DS024"}


def test_unlabelled_persons_and_crowds_stay_for_the_score_to_ignore(tmp_path: Path) -> None:
    conversion = converted(
        pose(THREE), pose([0] * 9, id=2, bbox=[200, 200, 50, 50]), pose(None, id=3, bbox=[300, 300, 50, 50], iscrowd=1)
    )
    kept = conversion.splits["train"].annotations
    assert [(a.num_keypoints, a.iscrowd) for a in kept] == [(2, 0), (0, 0), (0, 1), (3, 0)]
    assert kept[1].keypoints == [0] * 9
    assert not codes(conversion)
    truth = coco_of(conversion, tmp_path)
    found = [
        {"image_id": 1, "category_id": 0, "keypoints": keypoints, "score": 0.9}
        for keypoints in ([10, 20, 2, 30, 40, 2, 50, 60, 2], [210, 210, 2, 220, 220, 2, 230, 230, 2])
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        score = COCOeval(truth, truth.loadRes(found), "keypoints")
        score.params.kpt_oks_sigmas = np.full(3, 0.05)
        score.params.imgIds = [1]
        score.evaluate()
        score.accumulate()
        score.summarize()
    assert score.stats[0] == pytest.approx(1.0), "a detection on an unlabelled person is no mistake"


ONE_FOR_VAL = {"splits": {"397133": "train", "37777": "val", "252219": "train", "87038": "train"}}


def coco_2017(keypoints: bool = False) -> dict[str, Any]:
    """As COCO 2017 has it: 80 of 90 category ids, ids of images and annotations with gaps, RLE for crowds only."""
    ids = [i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
    categories = [{"id": i, "name": f"thing {i}", "supercategory": "things"} for i in ids]
    if keypoints:
        skeleton = [list(pair) for pair in COCO_SKELETON]
        person = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(COCO_NAMES)}
        categories = [{**person, "skeleton": skeleton}]
    images = [
        {"license": 4, "file_name": f"{i:012d}.jpg", "coco_url": "", "height": HEIGHT, "width": WIDTH, "id": i}
        for i in (397133, 37777, 252219, 87038)
    ]
    annotations = []
    for number, found in enumerate(images * 20):
        left, top = 10 + number * 6, 20 + number * 4
        polygon = [left, top, left + 80, top, left + 80, top + 60, left, top + 60]
        one = {
            "segmentation": [polygon], "area": 4800.0, "iscrowd": 0, "image_id": found["id"],
            "bbox": [left, top, 80, 60], "category_id": categories[number % len(categories)]["id"],
            "id": 900_100_000_000 + number,
        }  # fmt: skip
        if keypoints:
            one |= {"num_keypoints": 17, "keypoints": [c for k in range(17) for c in (left + k, top + k, 1 + k % 2)]}
        annotations.append(one)
    background = 100 * HEIGHT
    crowd = {"size": [HEIGHT, WIDTH], "counts": [background, 10 * HEIGHT, HEIGHT * WIDTH - background - 10 * HEIGHT]}
    last = annotations[0] | {"id": 7, "iscrowd": 1, "segmentation": crowd, "bbox": [100, 0, 10, 480], "area": 4800}
    if keypoints:
        last |= {"num_keypoints": 0, "keypoints": [0] * 51}
    return {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": [*annotations, last]}


@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE])
def test_instances_of_coco_2017_are_read_by_pycocotools(task: Task, tmp_path: Path) -> None:
    source = coco_2017()
    conversion = convert(read_dice(json.dumps(source).encode()), task, config_split=ONE_FOR_VAL)
    assert conversion.class_names == tuple(one["name"] for one in source["categories"])
    coco = coco_of(conversion, tmp_path)
    by_id = {one["id"]: one for one in source["annotations"]}
    names = {one["id"]: one["name"] for one in source["categories"]}
    assert len(coco.anns) >= 60
    for one in coco.anns.values():
        original = by_id[conversion.id_map.annotations[one["id"] - 1]]
        assert (one["bbox"], one["area"], one["iscrowd"]) == tuple(original[key] for key in ("bbox", "area", "iscrowd"))
        assert coco.cats[one["category_id"]]["name"] == names[original["category_id"]]
        assert conversion.id_map.images[one["image_id"]].id == original["image_id"]
        if task is Task.INSTANCE:
            assert coco.annToMask(one).sum() == pytest.approx(original["area"], rel=0.01)


def test_person_keypoints_of_coco_2017_are_scored_by_pycocotools(tmp_path: Path) -> None:
    source = coco_2017(keypoints=True)
    conversion = convert(read_dice(json.dumps(source).encode()), Task.POSE, config_split=ONE_FOR_VAL)
    assert {f.code for f in conversion.findings} == {"DS047", "DS049"}
    coco = coco_of(conversion, tmp_path)
    (person,) = coco.cats.values()
    assert person["keypoints"] == list(COCO_NAMES)
    assert {tuple(pair) for pair in person["skeleton"]} == set(COCO_SKELETON)
    found = [
        {"image_id": a["image_id"], "category_id": 0, "keypoints": a["keypoints"], "score": 0.9}
        for a in coco.anns.values()
        if a["num_keypoints"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        score = COCOeval(coco, coco.loadRes(found), "keypoints")
        score.evaluate()
        score.accumulate()
        score.summarize()
    assert score.stats[0] == pytest.approx(1.0)


def runs_of(pixels: Any) -> list[int]:
    flat = np.concatenate([[0], pixels.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat)) if flat.any() else np.zeros(0, dtype=int)
    return np.diff([0, *edges, pixels.size]).tolist()  # type: ignore[no-any-return]


@no_deadline
@given(st.integers(0, 2**32 - 1), st.sampled_from(["runs", "compressed"]))
def test_rle_of_both_kinds_keeps_its_pixels(seed: int, kind: str) -> None:
    pixels = (np.random.default_rng(seed).random((12, 17)) < 0.4).astype(np.uint8)
    pixels[3:6, 3:6] = 1
    packed = coco_mask.encode(np.asfortranarray(pixels))
    counts = runs_of(pixels) if kind == "runs" else packed["counts"].decode()
    one = {"id": 1, "class_id": 0, "segmentation": {"size": [12, 17], "counts": counts}, "iscrowd": 0}
    images = [
        {"id": n, "file_name": f"{n}.jpg", "width": 17, "height": 12, "split": split, "annotations": [one]}
        for n, split in enumerate(("train", "val"))
    ]
    document = {"classes": [{"id": 0, "name": "cell"}], "images": images}
    conversion = convert(read_dice(json.dumps(document).encode()), Task.INSTANCE)
    found = conversion.splits["train"].annotations[0]
    assert found.segmentation == {"size": [12, 17], "counts": counts}
    assert found.area == pixels.sum()
    assert list(found.bbox) == coco_mask.toBbox(packed).tolist()


@pytest.mark.parametrize("far", [1e6, 1e8, 9e8, -1e9])
def test_polygons_that_would_crash_pycocotools_are_left_out(far: float) -> None:
    near = [10, 10, 20, 10, 20, 20]
    one = {"id": 1, "class_id": 0, "bbox": [10, 10, 10, 10], "segmentation": [[0, 0, far, 0, far, far, 5, 400]]}
    both = one | {"id": 2, "bbox": [10, 10, 11, 11], "segmentation": [*one["segmentation"], near]}  # type: ignore[misc]
    document = {"classes": [{"id": 0, "name": "cell"}], "images": [image(1, "train", one, both), image(2, "val", both)]}
    conversion = convert(read_dice(json.dumps(document).encode()), Task.INSTANCE)
    assert [a.segmentation for a in conversion.splits["train"].annotations] == [[near]]
    assert {"DS025", "DS026"} <= codes(conversion) and not conversion.blocking

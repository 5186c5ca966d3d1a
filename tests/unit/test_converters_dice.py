"""Reading DICE files: both variants, and every way a file can be broken."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import read_dice
from trainer_sdk.errors import DatasetError

no_deadline = settings(deadline=None)  # a busy machine is no failure

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
CLASS = {"id": 0, "name": "cell"}


def read(document: Any) -> Any:
    return read_dice(json.dumps(document).encode())


def test_native_variant_reads_nested_annotations_in_order() -> None:
    annotations = [{"id": 7, "class_id": 0, "bbox": [1, 2, 3, 4]}, {"id": 5, "class_name": "cell"}]
    dataset = read({"dataset_id": "ds", "classes": [CLASS], "images": [{**IMAGE, "annotations": annotations}]})
    assert dataset.dataset_id == "ds"
    assert [a.id for a in dataset.images[0].annotations] == [7, 5]
    assert dataset.images[0].annotations[0].geometry.bbox == [1, 2, 3, 4]


def test_single_annotation_object_of_older_files() -> None:
    dataset = read({"classes": [CLASS], "images": [{**IMAGE, "annotation": {"class_id": 0, "class_name": "cell"}}]})
    assert [a.class_name for a in dataset.images[0].annotations] == ["cell"]


@pytest.mark.parametrize("key", ["category_id", "class_id"])
def test_coco_like_variant_joins_annotations_to_images(key: str) -> None:
    images = [{**IMAGE, "id": 2}, {**IMAGE, "id": "1", "file_name": "b.jpg"}]
    annotations = [{"id": 1, "image_id": 1, key: 3}, {"id": 2, "image_id": 2, key: 3}, {"id": 3, "image_id": 9, key: 3}]
    dataset = read({"categories": [{"id": 3, "name": "c"}], "images": images, "annotations": annotations})
    assert [[a.id for a in image.annotations] for image in dataset.images] == [[2], [1]]
    assert dataset.images[0].annotations[0].class_id == 3
    assert [(f.code, f.count) for f in dataset.findings] == [("DS010", 1)]


def test_contradicting_ids_and_wrong_nesting_are_found() -> None:
    annotation = {"id": 1, "image_id": 8, "class_id": 0, "category_id": 1}
    dataset = read({"classes": [CLASS], "images": [{**IMAGE, "annotations": [annotation]}]})
    assert [f.code for f in dataset.findings] == ["DS007", "DS013"]


def test_numbers_written_as_text_or_float_and_odd_fields_are_accepted() -> None:
    image = {"id": "4", "file_name": "a.jpg", "width": 64.0, "height": None, "note": [1], "annotations": None}
    dataset = read({"classes": [{"id": "3", "name": "c"}], "images": [image], "split_config": "?", "storage_info": []})
    assert (dataset.classes[0].id, dataset.images[0].width, dataset.images[0].height) == (3, 64, None)
    assert dataset.split_config is None and dataset.storage_info is None
    assert [finding.code for finding in dataset.findings] == ["DS039"]


def test_byte_order_mark_is_accepted() -> None:
    assert read_dice(b"\xef\xbb\xbf" + json.dumps({"classes": [CLASS], "images": []}).encode()).images == ()


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know_are_kept_for_the_conversion_to_judge(literal: str) -> None:
    raw = '{"classes":[],"images":[{"id":1,"file_name":"a","width":%s,"annotations":[{"bbox":[%s,0,1,1]}]}]}'
    dataset = read_dice((raw % (literal, literal)).encode())
    assert dataset.images[0].width is None
    assert len(dataset.images[0].annotations) == 1


@pytest.mark.parametrize(
    ("raw", "said", "advised"),
    [
        (b"", "is empty", "Upload it again"),
        (b'{"classes": [],\n "images": [{"id": 1, "file_na', "line 2", "cut off"),
        (b'{"classes": [],\n "images": [', "byte 28 of 28", "cut off"),
        (b'{"classes": oops, "images": []}', "byte 12 of 31 (line 1, column 13)", "correct the file"),
        (b'{"classes": [{"id": 0, "name": "\xff"}], "images": []}', "not UTF-8", "correct the file"),
        (b'{"classes": [{"id": 0, "name": "\\ud800"}], "images": []}', "surrogates", "correct the file"),
        (b"[" * 100_000, "nested thousands deep", ""),
        (b"\n ", "is empty", "Upload it again"),
        (b"null", "holds null, not an object", ""),
        (b"[1, 2]", "holds a list", "COCO-like"),
        (b'{"foo": 1, "bar": 2}', "keys bar, foo", "'classes' and 'images'"),
        (b'{"images": []}', "keys images", "categories"),
        (b'{"classes": [], "images": {}}', "has an object as 'images', not a list", "lists"),
        (b'{"task_type": "det", "class_summary": {}, "data_summary": []}', "v0.9", "label_map.json"),
        (b'{"version": 1, "shapes": [], "imageHeight": 5}', "v0.9", "label_map.json"),
        (b'{"classes": [], "images": [{"id": 1}, {"id": {}}]}', "$.images[1].id", "Correct this field"),
    ],
)
def test_refusals_say_where_and_what_to_do(raw: bytes, said: str, advised: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dice(raw)
    assert said in caught.value.message
    assert advised in caught.value.hint


@no_deadline
@given(st.integers(min_value=0))
def test_a_file_cut_anywhere_is_refused_as_cut_off(position: int) -> None:
    raw = json.dumps({"classes": [CLASS], "images": [{**IMAGE, "annotations": [{"id": 1, "bbox": [1.5, 2]}]}]}).encode()
    with pytest.raises(DatasetError, match=r"not valid JSON|is empty"):
        read_dice(raw[: position % len(raw)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "images", "classes", "annotations", "bbox", "file_name", "name", "image_id"]), inner
        )
    ),
    max_leaves=20,
)


@no_deadline
@given(JSON)
def test_no_json_crashes_the_reader(document: Any) -> None:
    with contextlib.suppress(DatasetError):
        read(document)

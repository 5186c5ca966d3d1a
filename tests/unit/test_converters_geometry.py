"""Boxes, polygons and RLE masks, checked against pycocotools where it knows the answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]

from converters.geometry import MIN_SIDE_PX, ROUNDING_PX, fit_box, polygon_area
from converters.masks import decompress_runs, read_mask, rle_mask

no_deadline = settings(deadline=None)  # a busy machine is no failure

WIDTH, HEIGHT = 64, 48


@pytest.mark.parametrize(
    ("found", "fitted_xywh", "code"),
    [
        ([1, 2, 3, 4], (1, 2, 3, 4), ""),
        ([0, 0, 64, 48], (0, 0, 64, 48), ""),
        ([-5, -5, 10, 10], (0, 0, 5, 5), "DS020"),
        ([60, 40, 10, 10], (60, 40, 4, 8), "DS020"),
        ([63.5, 0, 10, 10], None, "DS021"),
        ([5, 5, 0, 0], None, "DS021"),
        ([5, 5, -3, 4], None, "DS021"),
        ([0.1, 0.2, 0.3, 0.4], None, "DS021"),
        ([64, 0, 5, 5], None, "DS022"),
        ([-9, -9, 5, 5], None, "DS022"),
        ([1, 2, 3], None, "DS023"),
        ([1, 2, 3, 4, 5], None, "DS023"),
        ([1, 2, math.nan, 4], None, "DS023"),
        ([1, 2, math.inf, 4], None, "DS023"),
        ([1, 2, 10**400, 4], None, "DS023"),
        ([1, 2, True, 4], None, "DS023"),
        (["1", 2, 3, 4], None, "DS023"),
        ({"x": 1}, None, "DS023"),
        (None, None, "DS023"),
    ],
)
def test_box_is_kept_clipped_or_dropped(found: Any, fitted_xywh: Any, code: str) -> None:
    assert fit_box(found, WIDTH, HEIGHT) == (fitted_xywh, code)


@no_deadline
@given(st.lists(st.floats() | st.integers(-100, 100), max_size=6))
def test_a_fitted_box_lies_inside_and_has_area(found: list[float]) -> None:
    box_xywh, code = fit_box(found, WIDTH, HEIGHT)
    if box_xywh is None:
        assert code in {"DS021", "DS022", "DS023"}
        return
    x, y, w, h = box_xywh
    assert x >= -ROUNDING_PX and y >= -ROUNDING_PX
    assert x + w <= WIDTH + ROUNDING_PX and y + h <= HEIGHT + ROUNDING_PX
    assert min(w, h) >= MIN_SIDE_PX
    assert fit_box(box_xywh, WIDTH, HEIGHT) == (box_xywh, "")


def test_polygon_area_does_not_depend_on_direction_or_place() -> None:
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    assert polygon_area(square) == polygon_area([20, 10, 10, 10, 10, 20, 20, 20]) == 100
    assert polygon_area([number + 1e8 for number in square]) == 100


def test_parts_of_one_object_stay_together_and_bad_parts_go() -> None:
    parts = [[0, 0, 4, 0, 4, 4], [1, 1, 2, 2], [1, 1, 2, 2, 3, 3], [math.nan] * 6, "x", [9, 9, 10, 9, 10, 11, 5]]
    mask, dropped = read_mask([*parts, [10, 10, 20, 10, 20, 20]], WIDTH, HEIGHT)
    assert mask is not None and dropped == 5
    assert mask.segmentation == [parts[0], [10, 10, 20, 10, 20, 20]]
    assert mask.box_xywh == (0, 0, 20, 20)
    assert mask.area == 58


@pytest.mark.parametrize("found", [None, [], "x", 7, {}, [[100, 100, 110, 100, 110, 110]], [[1, 1, 2, 2]]])
def test_no_mask_is_no_mask(found: Any) -> None:
    assert read_mask(found, WIDTH, HEIGHT)[0] is None


@no_deadline
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_rle_is_kept_as_it_is_and_measured_right(drawn: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    height, width = drawn.shape
    packed = coco_mask.encode(np.asfortranarray(drawn))
    rle = {"size": [height, width], "counts": packed["counts"].decode()}
    mask = rle_mask(rle, width, height)
    if not drawn.any():
        assert mask is None
        return
    assert mask is not None and mask.segmentation == rle
    assert mask.area == drawn.sum()
    assert mask.box_xywh == tuple(coco_mask.toBbox(packed).tolist())
    plain = {"size": [height, width], "counts": decompress_runs(rle["counts"])}
    assert rle_mask(plain, width, height) == (plain, mask.box_xywh, mask.area)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [48, 64]},
        {"counts": [0, 3072]},
        {"size": [64, 48], "counts": [0, 3072]},
        {"size": [48, 64], "counts": [0, 3071]},
        {"size": [48, 64], "counts": [3072]},
        {"size": [48, 64], "counts": [3073, -1]},
        {"size": [48, 64], "counts": [0, 3072.0]},
        {"size": [48, 64], "counts": "garbage\x00"},
        {"size": [48, 64], "counts": "ooooooooooooooooooo"},
        {"size": [48, 64], "counts": ""},
    ],
)
def test_rle_that_does_not_fill_its_image_is_refused(rle: dict[str, Any]) -> None:
    assert rle_mask(rle, WIDTH, HEIGHT) is None


@no_deadline
@given(st.text(max_size=30))
def test_no_text_crashes_the_rle_reader(text: str) -> None:
    rle_mask({"size": [HEIGHT, WIDTH], "counts": text}, WIDTH, HEIGHT)

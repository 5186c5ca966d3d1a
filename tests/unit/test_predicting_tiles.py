"""Tiles cover a picture, and what several of them see is one object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtrain.predicting.found import Found
from mmtrain.predicting.shapes import decoded, encoded, extent, polygons, regions
from mmtrain.predicting.tiles import View, cores, into_picture, merged, views

SIDES = st.integers(1, 900)


@given(width=SIDES, height=SIDES, tile=st.integers(32, 400), overlap=st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_stay_inside(width: int, height: int, tile: int, overlap: float) -> None:
    found = views(width, height, tile=(tile, tile), overlap=overlap)
    columns, rows = np.zeros(width, bool), np.zeros(height, bool)
    for view in found:
        assert view.x >= 0 and view.x + view.width <= width
        assert view.y >= 0 and view.y + view.height <= height
        columns[view.x : view.x + view.width] = rows[view.y : view.y + view.height] = True
    assert columns.all() and rows.all()
    assert len(set(found)) == len(found)


@given(width=SIDES, height=SIDES, tile=st.integers(32, 400), overlap=st.floats(0, 0.9))
def test_the_cores_of_tiles_share_nothing_and_leave_nothing_out(
    width: int, height: int, tile: int, overlap: float
) -> None:
    found = views(width, height, tile=(tile, tile), overlap=overlap)
    area = 0.0
    for view, (left, top, right, bottom) in zip(found, cores(found), strict=True):
        assert view.x <= left < right <= view.x + view.width
        assert view.y <= top < bottom <= view.y + view.height
        area += (right - left) * (bottom - top)
    assert area == width * height


def test_neighbouring_tiles_share_what_was_asked_for() -> None:
    assert [view.x for view in views(1000, 100, tile=(400, 400), overlap=0.25)] == [0, 300, 600]


def test_a_flipped_view_is_its_mirror_image() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    plain, flipped = views(4, 2, flip=True)
    assert (plain.of(picture) == picture).all()
    assert (flipped.of(picture) == picture[:, ::-1]).all()


def test_what_a_flipped_tile_sees_is_placed_where_it_is() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 1:5] = 1
    seen = Found(0, 0.9, (1.0, 2.0, 5.0, 4.0), encoded(mask), ((1.0, 2.0, 0.8), (4.0, 3.0, 0.7)))
    placed = into_picture(seen, View(100, 50, 20, 10, flipped=True), 200, 100, [(0, 1)])
    assert placed.box_xyxy == (115.0, 52.0, 119.0, 54.0)
    assert placed.rle is not None
    assert extent(decoded(placed.rle).astype(bool)) == placed.box_xyxy
    assert placed.keypoints == ((115.0, 53.0, 0.7), (118.0, 52.0, 0.8))  # exchanged: left is right in a mirror


def test_an_object_that_two_tiles_see_is_one() -> None:
    left, right = View(0, 0, 100, 100), View(80, 0, 100, 100)
    whole = Found(0, 0.8, (60.0, 10.0, 98.0, 40.0))
    again = Found(0, 0.9, (61.0, 10.0, 98.0, 41.0))
    assert merged([(left, whole), (right, again)], 0.5, 180, 100) == [again]


def test_the_part_that_a_tile_cuts_off_gives_way_to_the_whole_even_if_it_is_surer() -> None:
    left, right = View(0, 0, 100, 100), View(60, 0, 120, 100)
    part = Found(0, 0.95, (90.0, 10.0, 100.0, 40.0))
    whole = Found(0, 0.6, (90.0, 10.0, 140.0, 40.0))
    assert merged([(left, part), (right, whole)], 0.5, 180, 100) == [whole]


def test_small_ones_inside_a_large_one_stay() -> None:
    left, right = View(0, 0, 100, 100), View(80, 0, 100, 100)
    large, small = Found(0, 0.9, (5.0, 5.0, 95.0, 95.0)), Found(0, 0.8, (85.0, 20.0, 90.0, 25.0))
    assert merged([(left, large), (right, small)], 0.5, 180, 100) == [large, small]


def test_other_classes_and_twins_of_one_view_stay() -> None:
    one, other = View(0, 0, 100, 100), View(80, 0, 100, 100)
    box = (82.0, 10.0, 98.0, 40.0)
    found = [(one, Found(0, 0.9, box)), (other, Found(1, 0.8, box)), (one, Found(0, 0.7, box))]
    assert len(merged(found, 0.5, 180, 100)) == 3


@pytest.mark.parametrize("shape", [(0, 0, 1, 1), (3, 2, 9, 3), (2, 2, 12, 14)])
def test_polygons_outline_their_mask(shape: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = shape
    mask = np.zeros((20, 20), np.uint8)
    mask[top:bottom, left:right] = 1
    outlines = np.array([value for part in polygons(encoded(mask)) for value in part]).reshape(-1, 2)
    assert (outlines.min(axis=0) == (left, top)).all()
    assert (outlines.max(axis=0) >= (right - 1, bottom - 1)).all()


def test_the_regions_of_a_class_map_leave_out_what_is_no_class() -> None:
    indices = np.array([[0, 1, 255], [1, 1, 7]], np.uint8)
    found = regions(indices, 2)
    assert list(found) == [0, 1]
    assert extent(found[1]) == (0.0, 0.0, 2.0, 2.0)

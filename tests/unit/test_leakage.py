"""Copies are found, and pictures that only look alike from afar are not called copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmtrain.datasets.leakage import MAX_DISTANCE, Copy, exact_copies, near_copies
from mmtrain.datasets.look import THUMBNAIL_SIDE, look
from tests.pictures import brighter, microscope_field, re_encoded, scene, smaller

TRAIN, VAL, TEST = 0, 1, 2


def found_among(pictures: list[Image.Image], ranks: list[int], folder: Path) -> list[Copy]:
    looks = []
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
        looks.append(look(folder / f"{i}.png"))
    thumbnails = np.frombuffer(b"".join(one.thumbnail for one in looks), np.uint8).reshape(-1, THUMBNAIL_SIDE**2)
    phashes = np.array([one.phash for one in looks], np.uint64)
    return near_copies(phashes, thumbnails, np.array(ranks, np.int8))


@pytest.mark.parametrize("change", [brighter, re_encoded, smaller, lambda picture: picture.convert("L")])
def test_changed_copies_are_found(tmp_path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [scene(i) for i in range(10)]
    pictures, ranks = originals + [change(one) for one in originals], [TRAIN] * 10 + [VAL] * 10
    pairs = {(copy.position, copy.original) for copy in found_among(pictures, ranks, tmp_path)}
    assert pairs == {(i + 10, i) for i in range(10)}


def test_different_pictures_are_not_copies(tmp_path: Path) -> None:
    assert found_among([scene(i) for i in range(60)], [i % 3 for i in range(60)], tmp_path) == []


def test_fields_of_one_microscope_are_not_copies(tmp_path: Path) -> None:
    """Their hashes alone are within the distance, for some."""
    pictures = [microscope_field(i) for i in range(60)]
    assert found_among(pictures, [i % 2 for i in range(60)], tmp_path) == []
    looks = [look(tmp_path / f"{i}.png").phash for i in range(60)]
    close = sum((a ^ b).bit_count() <= MAX_DISTANCE for i, a in enumerate(looks) for b in looks[:i])
    assert close > 0


def test_flat_pictures_are_not_compared(tmp_path: Path) -> None:
    black, noisy = Image.new("RGB", (64, 64)), np.random.default_rng(0).integers(0, 5, (64, 64), np.uint8)
    assert found_among([black, black, Image.fromarray(noisy), black], [TRAIN, VAL, VAL, TEST], tmp_path) == []


def test_copies_within_a_split_are_no_leak(tmp_path: Path) -> None:
    assert found_among([scene(0), smaller(scene(0)), scene(1)], [VAL, VAL, TRAIN], tmp_path) == []


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 63), max_size=MAX_DISTANCE, unique=True))
def test_every_hash_within_the_distance_is_met(phash: int, flipped: list[int]) -> None:
    """The bands lose none (pigeonhole)."""
    thumbnail = np.random.default_rng(0).integers(0, 255, (1, THUMBNAIL_SIDE**2), np.uint8)
    other = phash
    for bit in flipped:
        other ^= 1 << bit
    copies = near_copies(np.array([phash, other], np.uint64), thumbnail.repeat(2, axis=0), np.array([0, 1], np.int8))
    assert [(copy.position, copy.distance) for copy in copies] == [(1, len(flipped))]


def test_a_thousand_equal_pictures_give_one_pair_each() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 255, (1, THUMBNAIL_SIDE**2), np.uint8).repeat(1000, axis=0)
    copies = near_copies(np.full(1000, 7, np.uint64), thumbnails, np.array([0] * 800 + [1] * 200, np.int8))
    assert len(copies) == 200


def test_nothing_to_compare_is_nothing_found() -> None:
    assert near_copies(np.zeros(0, np.uint64), np.zeros((0, 1024), np.uint8), np.zeros(0, np.int8)) == []


def test_exact_copies_count_once_and_across_first() -> None:
    digests = [b"a", b"b", b"a", b"a", b"c", b"c"]
    across, within = exact_copies(digests, [VAL, TRAIN, TRAIN, TRAIN, TEST, TEST])
    assert [(copy.position, copy.original) for copy in across] == [(0, 2)]
    assert [(copy.position, copy.original) for copy in within] == [(3, 2), (5, 4)]

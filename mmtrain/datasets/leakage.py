"""The same picture in two splits: exactly (same bytes), or nearly (perceptual hash, confirmed by fine detail).

A 64-bit hash of the coarse structure alone cries wolf where all pictures look alike from afar (one dot on a bright
field), so two pictures count as nearly the same only if their 32 x 32 thumbnails, less the local mean, agree too.

What was seen when the limits were chosen:
* ds_bccd, 364 blood smears, 66,066 pairs: one pair at distance 4 and likeness 0.96, which is the same field of view
  at another focus, one in train and one in val; the next pair, of different cells, has distance 14.
* Re-encoding (JPEG quality 30), half size, grey, brightness 0.6 to 1.3: distance 0 to 8, likeness 0.96 and more.
  Three in four crops of 2 % per side are still found, none of 5 %; mirrored and turned copies never are.
* Drawn fields of one to three cells under one lamp, 44,850 pairs: 209 within distance 8, 50 of them with likeness 0.85,
  28 with 0.9: about as many as chance would put in the same places. Drawn pages of text, 4,950 pairs: 13 and 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from mmtrain.datasets.look import THUMBNAIL_SIDE

MAX_DISTANCE = 8
"""Of 64 bits. imagehash's phash compares with the median, so distances are even; unrelated pictures have about 32."""
MIN_LIKENESS = 0.9
"""Correlation of the fine detail, -1..1."""
FLAT_BELOW = 1.0
"""Standard deviation of the fine detail in grey levels: black frames and empty fields have nothing to compare."""
LOCAL_MEAN_SIDE = 9
"""Of 32: takes out lighting and vignettes, which all pictures of one microscope share."""
BANDS = MAX_DISTANCE + 1
"""Hashes that differ in at most n bits agree in at least one of n + 1 bands (pigeonhole; Norouzi et al. 2012,
arXiv:1307.2982): only pictures that share a band are compared."""
BLOCK = 2048
TRIED = 4
"""Closest pictures whose detail is compared, per picture, band and block."""
MOST_TRIED = 32
"""Per picture: where thousands have one hash and different details, the search ends some time."""

Hashes = NDArray[np.uint64]
Thumbnails = NDArray[np.uint8]
Indices = NDArray[np.intp]


class Copy(NamedTuple):
    """A picture and an earlier one like it; positions in the given lists."""

    position: int
    original: int
    distance: int = 0
    likeness: float = 1.0


def exact_copies(digests: Sequence[bytes], ranks: Sequence[int]) -> tuple[list[Copy], list[Copy]]:
    """Copies of a picture of an earlier split, and copies within one split; a picture is in at most one of the lists.

    Args:
        digests: of the files.
        ranks: of their splits: 0 train, 1 val, 2 test.
    """
    first: dict[bytes, int] = {}
    across: list[Copy] = []
    within: list[Copy] = []
    for position in sorted(range(len(digests)), key=lambda i: (ranks[i], i)):
        original = first.setdefault(digests[position], position)
        if original != position:
            same_split = ranks[original] == ranks[position]
            (within if same_split else across).append(Copy(position, original))
    return across, within


def near_copies(phashes: Hashes, thumbnails: Thumbnails, ranks: NDArray[np.int8]) -> list[Copy]:
    """For each picture of val or test a picture of an earlier split that is nearly the same, if there is one.

    Args:
        phashes: (n,).
        thumbnails: (n, 1024), grey.
        ranks: (n,) of their splits: 0 train, 1 val, 2 test.
    """
    detailed = ~flat(thumbnails)
    asked = np.flatnonzero(detailed & (ranks > 0))
    offered = np.flatnonzero(detailed & (ranks < 2))
    found: dict[int, Copy] = {}
    tried = np.zeros(len(phashes), dtype=np.int32)
    for keys in _band_keys(phashes):
        for rows, columns in _sharing_a_key(keys, asked[tried[asked] < MOST_TRIED], offered):
            for copy in _compared(phashes, thumbnails, ranks, rows, columns):
                tried[copy.position] += 1
                if copy.likeness >= max(MIN_LIKENESS, found.get(copy.position, copy).likeness):
                    found[copy.position] = copy
                    tried[copy.position] = MOST_TRIED
    return [found[position] for position in sorted(found)]


def flat(thumbnails: Thumbnails) -> NDArray[np.bool_]:
    """(n,): pictures without any structure."""
    flags = [_detail(thumbnails[i : i + BLOCK]).std(axis=1) < FLAT_BELOW for i in range(0, len(thumbnails), BLOCK)]
    return np.concatenate(flags) if flags else np.zeros(0, dtype=bool)


def _band_keys(phashes: Hashes) -> Iterator[Hashes]:
    edges = np.linspace(0, 64, BANDS + 1).astype(np.uint64)
    for low, high in itertools.pairwise(edges):
        yield (phashes >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))


def _sharing_a_key(keys: Hashes, asked: Indices, offered: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Blocks of pictures with equal keys."""
    asked, offered = asked[np.argsort(keys[asked], kind="stable")], offered[np.argsort(keys[offered], kind="stable")]
    shared = np.intersect1d(keys[asked], keys[offered])
    ranges = [np.searchsorted(keys[one], shared, side) for one in (asked, offered) for side in ("left", "right")]
    for row_start, row_end, start, end in zip(*(edge.tolist() for edge in ranges), strict=True):
        for row in range(row_start, row_end, BLOCK):
            for column in range(start, end, BLOCK):
                yield asked[row : min(row + BLOCK, row_end)], offered[column : min(column + BLOCK, end)]


def _compared(
    phashes: Hashes, thumbnails: Thumbnails, ranks: NDArray[np.int8], rows: Indices, columns: Indices
) -> Iterator[Copy]:
    """The closest pairs by hash, alike or not."""
    distance = np.bitwise_count(phashes[rows, None] ^ phashes[None, columns])
    distance[ranks[rows, None] <= ranks[None, columns]] = 64
    if distance.min(initial=64) > MAX_DISTANCE:
        return
    nearest = np.argpartition(distance, min(TRIED, distance.shape[1]) - 1, axis=1)[:, :TRIED]
    places = [(i, j) for i, best in enumerate(nearest) for j in best if distance[i, j] <= MAX_DISTANCE]
    left, right = rows[[i for i, _ in places]], columns[[j for _, j in places]]
    likeness = (_unit(thumbnails[left]) * _unit(thumbnails[right])).sum(axis=1)
    for place, position, original, like in zip(places, left.tolist(), right.tolist(), likeness.tolist(), strict=True):
        yield Copy(position, original, int(distance[place]), like)


def _detail(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """(n, 1024): what is left when each pixel's surroundings are taken away."""
    squares = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)
    detail = squares - uniform_filter(squares, size=(1, LOCAL_MEAN_SIDE, LOCAL_MEAN_SIDE))
    return np.asarray(detail.reshape(len(squares), -1), dtype=np.float32)


def _unit(thumbnails: Thumbnails) -> NDArray[np.float32]:
    detail = _detail(thumbnails)
    detail -= detail.mean(axis=1, keepdims=True)
    return np.asarray(detail / np.linalg.norm(detail, axis=1, keepdims=True), dtype=np.float32)

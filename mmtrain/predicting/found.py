"""What a model saw, in pixels of the original picture, before it becomes a file of any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Bgr = NDArray[np.uint8]
"""(H, W, 3), as OpenCV decodes: turned by EXIF."""
Rle = dict[str, Any]
"""Compressed COCO RLE: ``size`` [height, width] and ``counts`` as text."""


FRAME_MARK = "#"
"""``video.mp4#12`` is a frame of a video, counted from 0."""


class Found(NamedTuple):
    """One object."""

    label: int
    """Index of its class."""
    score: float
    box_xyxy: Box
    rle: Rle | None = None
    keypoints: tuple[tuple[float, float, float], ...] | None = None
    """x, y, score of each point."""


class Painted(NamedTuple):
    """The class of every pixel."""

    indices: NDArray[np.uint8]
    """(H, W) class indices."""
    surety: dict[int, float]
    """Class index -> mean probability of its pixels; empty where the model does not say."""


@dataclass(frozen=True)
class Item:
    """One picture to look at."""

    number: int
    """From 1, in the order of the input."""
    address: str
    """Where it is: a path, an ``s3://`` URI, or ``video.mp4#12``."""
    file_name: str
    """Relative, below the folder, prefix or list it was found in."""
    path: str
    """The same, but no other picture's: what its output files are named after."""
    boxes_xyxy: tuple[Box, ...] = ()
    """Where to look for poses; none: everywhere."""

    @property
    def name(self) -> str:
        """The platform's UI finds a picture by the basename of its object."""
        of_video = FRAME_MARK in self.address
        return (self.path if of_video else self.address).rpartition("/")[2]


@dataclass(frozen=True)
class Seen:
    """A picture with what was found in it, or why it could not be looked at."""

    item: Item
    width: int = 0
    height: int = 0
    objects: Sequence[Found] = ()
    painted: Painted | None = None
    inference_ms: float = 0.0
    error: str = ""
    picture: Bgr | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Classes:
    """The names of a model's classes, and their ids in the data set it was trained on."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str], ids: Sequence[int | None] | None) -> Classes:
        """A class without an id of its own (``background``, or of a model that says none) gets one that is free."""
        given = list(ids or [])
        if len(given) != len(names):
            given = list(range(len(names)))
        free = count(max((number for number in given if number is not None), default=-1) + 1)
        whole: list[int] = []
        for number in given:
            whole.append(next(free) if number is None or number in whole else number)
        return cls(tuple(names), tuple(whole))

    def __len__(self) -> int:
        return len(self.names)

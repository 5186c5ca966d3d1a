"""Keypoints: how many, what they are called, how they are joined, and which change places in a mirror."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from converters.geometry import finite_numbers

Pair = tuple[int, int]
Keypoint = tuple[float, float, int]
"""x, y in pixels; 0 not labelled, 1 hidden, 2 visible."""

COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
COCO_SKELETON: tuple[Pair, ...] = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""The person category of COCO 2017's keypoint annotations; counted from 1 there and everywhere here."""


class KeypointSchema(NamedTuple):
    """The points of every object; pairs count from 1."""

    names: tuple[str, ...]
    skeleton: tuple[Pair, ...]
    flip_pairs: tuple[Pair, ...]


class SchemaError(ValueError):
    """What does not fit, in words."""


def default_schema(count: int) -> KeypointSchema:
    """COCO's person for 17 points, else numbered points, neither joined nor mirrored."""
    if count == len(COCO_NAMES):
        return KeypointSchema(COCO_NAMES, COCO_SKELETON, mirrored_names(COCO_NAMES))
    return KeypointSchema(tuple(f"keypoint_{number}" for number in range(1, count + 1)), (), ())


def parse_schema(form: Mapping[str, Any], names_key: str = "names") -> KeypointSchema:
    """A schema from CONFIG.keypoints, or (``names_key="keypoints"``) from a COCO category.

    ``skeleton`` and ``flip_pairs`` hold pairs of names or of numbers from 1; without flip pairs, names with left and
    right make them.

    Raises:
        SchemaError: names that repeat, pairs that name no point.
    """
    names = form.get(names_key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise SchemaError(f"{names_key} must be a list of names, found {names!r:.100}")
    if len(set(names)) < len(names):
        raise SchemaError(f"{names_key} repeats {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    flip_pairs = form.get("flip_pairs")
    return KeypointSchema(
        tuple(names),
        _pairs(form.get("skeleton") or [], names, "skeleton"),
        mirrored_names(names) if flip_pairs is None else _pairs(flip_pairs, names, "flip_pairs"),
    )


def mirrored_names(names: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs of points whose names differ only in left and right."""
    number = {name: position for position, name in enumerate(names, start=1)}
    pairs = ((number[name], number.get(_other_side(name), 0)) for name in names if "left" in name.lower())
    return tuple(pair for pair in pairs if pair[1])


def _other_side(name: str) -> str:
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if left in name:
            return name.replace(left, right)
    return ""


def _pairs(found: Any, names: Sequence[str], key: str) -> tuple[Pair, ...]:
    number = {name: position for position, name in enumerate(names, start=1)}
    numbers: dict[Any, int] = number | {position: position for position in number.values()}
    if not isinstance(found, list):
        raise SchemaError(f"{key} must be a list of pairs, found {found!r:.100}")
    pairs = []
    for pair in found:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_point(end, numbers) for end in pair):
            raise SchemaError(f"{key}: {pair!r:.100} is no pair of names or of numbers from 1 to {len(names)}")
        pairs.append((numbers[pair[0]], numbers[pair[1]]))
    return tuple(pairs)


def _is_point(end: Any, numbers: Mapping[Any, int]) -> bool:
    return isinstance(end, str | int) and not isinstance(end, bool) and end in numbers


def read_keypoints(found: Any) -> list[tuple[float, float, float]] | None:
    """Points from the nested form ``[[x, y, v], ...]`` or the flat one; None for anything else.

    A point without coordinates (null, NaN) is one that is not labelled.
    """
    if not isinstance(found, list) or not found:
        return None
    if not all(isinstance(point, list) for point in found):
        found = [found[start : start + 3] for start in range(0, len(found), 3)]
    points = [_point(point) for point in found]
    return None if None in points else [point for point in points if point is not None]


def _point(found: Any) -> tuple[float, float, float] | None:
    if not isinstance(found, list) or len(found) != 3:
        return None
    if finite_numbers(found[:2]) is None:
        return (0.0, 0.0, 0.0) if all(_is_nothing(value) for value in found[:2]) else None
    visibility = finite_numbers(found[2:])
    return None if visibility is None else (float(found[0]), float(found[1]), visibility[0])


def _is_nothing(value: Any) -> bool:
    return value is None or value == "NaN" or isinstance(value, int | float)


def labelled(points: Iterable[Keypoint]) -> list[Keypoint]:
    """Those with a place."""
    return [point for point in points if point[2] > 0]

"""Which keypoints a data set has: CONFIG says so, or its classes, or a default does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

import msgspec

from converters.dice import BACKGROUND, DiceDataset
from converters.findings import FindingCounter
from converters.keypoints import KeypointSchema, SchemaError, default_schema, parse_schema, read_keypoints
from trainer_sdk.errors import ConfigError

COUNTED = 1_000
"""Annotations that vote on the number of points; the others are held to it."""


def resolve_schema(dataset: DiceDataset, asked: Mapping[str, Any] | None, findings: FindingCounter) -> KeypointSchema:
    """The schema of CONFIG.keypoints, else of the first class that has one, else the default for the usual count.

    Raises:
        ConfigError: CONFIG.keypoints makes no sense.
    """
    if asked is not None:
        return check_keypoints(asked)
    for declared in dataset.classes:
        if declared.name != BACKGROUND and declared.keypoints:
            try:
                return parse_schema(msgspec.structs.asdict(declared), names_key="keypoints")
            except SchemaError as error:
                findings.add("DS066", f"class {declared.name!r}: {error}")
    schema = default_schema(usual_count(dataset))
    if schema.names:
        findings.add("DS065", f"{len(schema.names)} points: {', '.join(schema.names[:3])}, ...")
    return schema


def check_keypoints(asked: Mapping[str, Any]) -> KeypointSchema:
    """What CONFIG.keypoints says.

    Raises:
        ConfigError: it makes no sense.
    """
    try:
        return parse_schema(asked)
    except SchemaError as error:
        raise ConfigError(f"CONFIG.keypoints: {error}", hint="names, and pairs for skeleton and flip_pairs") from error


def usual_count(dataset: DiceDataset) -> int:
    """The most frequent number of points; 0 without any."""
    annotations = chain.from_iterable(image.annotations for image in dataset.images)
    pointed = (annotation for annotation in annotations if b'"keypoints"' in bytes(annotation.json))
    found = (read_keypoints(annotation.geometry.keypoints) for annotation in islice(pointed, COUNTED))
    counts = Counter(len(points) for points in found if points)
    return counts.most_common(1)[0][0] if counts else 0

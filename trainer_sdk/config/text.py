"""CONFIG as a text of others: JSON that says each thing once, and neither more nor deeper than a request can mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

MAX_CHARACTERS = 2**20
"""Linux hands over 2**17 bytes in one variable; a split of some 50,000 images fits this."""
MAX_DEPTH = 32
"""Levels of lists and objects; a request has 6 at most. Far below where Python's own functions give up."""


def parse_object(text: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """The object, and what is wrong with it in words; with problems it is empty."""
    if len(text) > MAX_CHARACTERS:
        return {}, [f"{name} has {len(text):,} characters, {MAX_CHARACTERS:,} at most"]
    try:
        found = orjson.loads(text)  # stricter than json: no NaN, no half characters, no 10000 brackets
    except orjson.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20]
        return {}, [f"{name} is not JSON: {error.msg} at character {error.pos}, near {near!r}"]
    if not isinstance(found, dict):
        return {}, [f"{name} must be a JSON object, found {type(found).__name__}"]
    if deeper_than(found, MAX_DEPTH):
        return {}, [f"{name} has lists or objects in each other, more than {MAX_DEPTH} levels deep"]
    problems = [f"{name} says {key!r} more than once in one object: give one" for key in _repeated_keys(text)]
    return ({}, problems) if problems else (found, [])


def parse_value(text: str) -> Any:
    """A number or a list where the text reads as one, else the text."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if deeper_than(found, MAX_DEPTH) else found


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other deeper than that; does not descend any further itself."""
    inside = [value]
    for _ in range(levels):
        inside = [part for one in inside for part in _parts(one)]
    return any(isinstance(one, dict | list) for one in inside)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _repeated_keys(text: str) -> list[str]:
    """JSON lets a key stand twice, and every reader takes another one of the values."""
    repeated: dict[str, None] = {}

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        repeated.update(dict.fromkeys(key for key, count in counts.items() if count > 1))
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return list(repeated)

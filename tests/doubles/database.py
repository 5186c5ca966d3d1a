"""What the platform's database refuses, and its columns' widths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

NAME_WIDTH = 50
PATH_WIDTH = 500


class Broke(Exception):
    """What the real backend's database refuses: a bare 500."""


def fits(text: str | None, width: int) -> None:
    if text is not None and len(text) > width:
        raise Broke(f"value too long for type character varying({width})")


def storable(value: Any, *, integers: bool = True) -> None:
    """PostgreSQL stores neither NaN in JSON nor a NUL byte in a text, and its integers have 32 bits.

    Args:
        integers: they go into columns, not into JSON.
    """
    for leaf in _leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise Broke("invalid input syntax for type json: NaN")
        if isinstance(leaf, str) and "\x00" in leaf:
            raise Broke("A string literal cannot contain NUL (0x00) characters")
        if integers and isinstance(leaf, int) and abs(leaf) >= 2**31:
            raise Broke("integer out of range")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value

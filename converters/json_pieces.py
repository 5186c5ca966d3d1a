"""Decodes many small pieces of JSON together: one call for thousands is several times faster than a call for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

Value = TypeVar("Value")

NULL = msgspec.Raw(b"null")
"""What a field of raw JSON holds when it is absent: a union of Raw and None does not decode."""

MAX_PIECES = 10_000
MAX_BYTES = 4 * 2**20
"""Decoded coordinates take about seven times their JSON: this bounds what is in memory at a time."""


def chunks(pieces: Sequence[msgspec.Raw]) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive runs that are small enough to be decoded together."""
    start = size_bytes = 0
    for position, piece in enumerate(pieces):
        size_bytes += memoryview(piece).nbytes
        if size_bytes >= MAX_BYTES or position + 1 - start == MAX_PIECES:
            yield start, position + 1
            start, size_bytes = position + 1, 0
    if start < len(pieces):
        yield start, len(pieces)


def joined(pieces: Sequence[msgspec.Raw]) -> bytes:
    """One JSON array of all pieces."""
    return b"[" + b",".join(pieces) + b"]"


def decode_each(pieces: Sequence[msgspec.Raw], decode: Callable[[bytes], list[Value]]) -> list[Value | None]:
    """The value of every piece, None for those that are of another type; ``decode`` takes a JSON array of pieces."""
    try:
        return list(decode(joined(pieces)))
    except (ValueError, RecursionError):
        return [_decode_one(piece, decode) for piece in pieces]


def _decode_one(piece: msgspec.Raw, decode: Callable[[bytes], list[Value]]) -> Value | None:
    try:
        return decode(joined([piece]))[0]
    except (ValueError, RecursionError):
        return None

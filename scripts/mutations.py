"""Damaged annotation files: what cut connections, other programs and malice make of a good one. For fuzz.py."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

MAX_CHANGES = 4

ODD_NAMES = (
    "../../x.jpg", "..", "../x/../../y.jpg", "a/../../../x.jpg", "..\\..\\x.jpg", "/etc/hostname", "/escaped/x.jpg",
    "C:\\x.jpg", "\\\\host\\share\\x.jpg", "~/x.jpg", "file:///x.jpg", "s3://bucket/x.jpg", "x\0.jpg", "x\n\r\t.jpg",
    "\x1b[2J.jpg", "a/" * 500 + "x.jpg", "x" * 300 + ".jpg", "\ud800.jpg", "ä\u202e\u0301.jpg", ".", "", " ", "x/",
)  # fmt: skip
ODD_NUMBERS = (
    0, -1, 1, 2, 17, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, -(10**30),
    10**400, 10**6, 10**8, 999_999_999, 0.5, -0.0, 1e-300, 5e-324, 1e15 + 0.5, 1e308, -1e308, float("nan"),
    float("inf"), float("-inf"),
)  # fmt: skip
ODD_RUNS = ("", "0", "PPPP", "oooooooooooo", "\x00", "éé", "`" * 999, [], [-1, 5], [4096], [2**40], [1.5, 2], None)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "7", "null", "NaN", "__background__", "train", "Validation", "hold-out", "xyxy", "folder",
    "x" * 100_000, {}, [], [[]], [{}], [None] * 4, [0, 0, 0, 0], [1, 2, 3, 4], [5, 5, 1, 1], [[1, 1, 9, 1, 9, 9]],
    [[0, 0] * 3], [[1, 2, 2]] * 17, [1, 2, 2] * 17, [1.5] * 10_000, {"": None}, {"id": 1, "name": "x"},
    {"method": "auto", "ratio": [0.7, 0.2, 0.1]}, {"method": "partial", "splits": {"1": "val"}, "stratify": True},
    {"group_by": "folder", "stratify": True}, *({"size": [128, 128], "counts": runs} for runs in ODD_RUNS),
)  # fmt: skip

DEEP = re.compile(r'"@deep (\d+)@"')
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9.eE+]+|true|false|null|[{}\[\],:]')


def mutated(document: Any, draw: random.Random) -> bytes:
    """A file like ``document`` (which is not changed) but for one to four changes, of its structure or its bytes."""
    document = copy.deepcopy(document)
    changes = draw.randint(1, MAX_CHANGES)
    # Text seldom survives a change of its bytes, and what lies behind the reader would hardly be tried.
    structural = changes if draw.random() < 0.75 else draw.randrange(changes)
    for _ in range(structural):
        document = draw.choice(STRUCTURAL)(document, draw)
    raw = _encode(document, draw)
    for _ in range(changes - structural):
        raw = draw.choice(TEXTUAL)(raw, draw)
    return raw


def _encode(document: Any, draw: random.Random) -> bytes:
    text = json.dumps(document, ensure_ascii=draw.random() < 0.8)
    text = DEEP.sub(lambda found: "[" * int(found[1]) + "]" * int(found[1]), text)
    return text.encode(errors="surrogatepass")


def _odd_value(draw: random.Random) -> Any:
    kind = draw.randrange(10)
    if kind < 4:
        return draw.choice(ODD_NUMBERS)
    if kind < 8:
        return copy.deepcopy(draw.choice(ODD_VALUES))
    return draw.choice(ODD_NAMES) if kind == 8 else f"@deep {10 ** draw.randint(1, 5)}@"


def _any_place(document: Any, draw: random.Random) -> tuple[Any, Any] | None:
    """A container and a key or index in it, at any depth; None where there is none."""
    place = None
    while isinstance(document, dict | list) and document and (place is None or draw.random() < 0.8):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        deep = [key for key in keys if isinstance(document[key], dict | list)]
        key = draw.choice(deep if deep and draw.random() < 0.6 else keys)
        place, document = (document, key), document[key]
    return place


def _replace(document: Any, draw: random.Random) -> Any:
    place = _any_place(document, draw)
    if place is None or draw.random() < 0.01:
        return _odd_value(draw)
    place[0][place[1]] = _odd_value(draw)
    return document


def _delete(document: Any, draw: random.Random) -> Any:
    if place := _any_place(document, draw):
        del place[0][place[1]]
    return document


def _duplicate(document: Any, draw: random.Random) -> Any:
    if place := _any_place(document, draw):
        container, key = place
        if isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[f"{key} copy"] = copy.deepcopy(container[key])
    return document


def _rename_key(document: Any, draw: random.Random) -> Any:
    place = _any_place(document, draw)
    if place and isinstance(place[0], dict):
        container, key = place
        container[draw.choice(["id", "annotations", "annotation", "bbox", key.upper(), key[:-1]])] = container.pop(key)
    return document


def _exchange(document: Any, draw: random.Random) -> Any:
    """Copies any value to any other place."""
    source, target = _any_place(document, draw), _any_place(document, draw)
    if source and target:
        target[0][target[1]] = copy.deepcopy(source[0][source[1]])
    return document


def _odd_number(document: Any, draw: random.Random) -> Any:
    """In a place where there was one."""
    for _ in range(20):
        place = _any_place(document, draw)
        if place and isinstance(place[0][place[1]], int | float):
            place[0][place[1]] = draw.choice(ODD_NUMBERS)
            break
    return document


def _odd_file_name(document: Any, draw: random.Random) -> Any:
    images = document.get("images") if isinstance(document, dict) else None
    image = draw.choice(images) if isinstance(images, list) and images else None
    if isinstance(image, dict):
        image[draw.choice(["file_name", "file_name", "mask_file"])] = draw.choice(ODD_NAMES)
    return document


def _flip(raw: bytes, draw: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(draw.choice([1, 1, 8])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(raw: bytes, draw: random.Random) -> bytes:
    return raw[: draw.randrange(len(raw) + 1)]


def _without_slice(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(raw) + 1)
    return raw[:start] + raw[start + draw.choice([1, 16, 4096]) :]


def _repeated_slice(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(raw) + 1)
    end = start + draw.choice([1, 16, 4096])
    return raw[:end] + raw[start:end] + raw[end:]


def _inserted(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(raw) + 1)
    odd = draw.choice(
        [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\\ud800", b"1e999", b"NaN", b"//x\n", b"'", draw.randbytes(8)]
    )
    return raw[:start] + odd + raw[start:]


def _swapped_tokens(raw: bytes, draw: random.Random) -> bytes:
    tokens = [found.span() for found in TOKEN.finditer(raw)]
    if len(tokens) < 2:
        return raw
    (a, b), (c, d) = sorted(draw.sample(tokens, 2))
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def _doubled_key(raw: bytes, draw: random.Random) -> bytes:
    """Two values for one key of one object."""
    pairs = list(re.finditer(rb'"\w+": ?("[^"]*"|-?[0-9.]+)', raw))
    objects = [found.end() for found in re.finditer(rb"\{(?=\s*\")", raw)]
    if not pairs or not objects:
        return raw
    start = draw.choice(objects)
    return raw[:start] + draw.choice(pairs)[0] + b"," + raw[start:]


STRUCTURAL: tuple[Callable[[Any, random.Random], Any], ...] = (
    _replace, _replace, _delete, _duplicate, _rename_key, _exchange, _odd_number, _odd_number, _odd_file_name,
)  # fmt: skip
TEXTUAL: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _cut, _without_slice, _repeated_slice, _inserted, _swapped_tokens, _doubled_key,
)  # fmt: skip

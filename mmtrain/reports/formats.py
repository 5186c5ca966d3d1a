"""How numbers and values are written for people."""

from __future__ import annotations

from typing import Any

import orjson

_NONE = "\N{EN DASH}"
_FEW_S = 10
_UI_DOUBLES = ("mAP50(", "mAP50-95(", "precision(B)", "recall(B)")
_UI_DOUBLE = ("PCK",)


def is_double(metric: str) -> bool:
    """Whether it repeats another metric under the name that the platform's UI draws."""
    return metric.startswith(_UI_DOUBLES) or metric in _UI_DOUBLE


def fraction(value: float | None) -> str:
    """Three digits behind the point."""
    return _NONE if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return _NONE if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """To the second, below ten of them to a tenth."""
    if seconds is None:
        return _NONE
    if seconds < _FEW_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(size_bytes: int | None) -> str:
    """In the largest unit that fits, of 1000."""
    if size_bytes is None:
        return _NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def plain(value: Any) -> str:
    """Text as it is, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()

"""The values of CONFIG as people and platforms write them, in our words; what means nothing is left for pydantic."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

Scheduler = Literal["step", "multistep", "cosine", "linear", "poly", "onecycle", "constant"]

DEVICE = r"^(cpu|\d+(-\d+)?(,\d+(-\d+)?)*)$"


def as_width_height(value: Any) -> Any:
    """One number means a square."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_probability(value: Any) -> Any:
    """Always, or never."""
    return float(value) if isinstance(value, bool) else value


SWITCH = BeforeValidator(as_probability)
"""Marks a probability that may be a switch."""


def as_optimizer(value: Any) -> Any:
    """The platform writes optimizers small."""
    known = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    return known.get(value.lower(), value) if isinstance(value, str) else value


def as_scheduler(value: Any) -> Any:
    """``CosineAnnealingLR``, ``one_cycle``, ``multi-step``, ``PolyLR`` and ``none`` under our names."""
    if not isinstance(value, str):
        return value
    plain = value.lower().replace("_", "").replace("-", "").removesuffix("lr")
    others = {"cosineannealing": "cosine", "polynomial": "poly", "none": "constant"}
    return others.get(plain, plain if plain in get_args(Scheduler) else value)


def as_texts(value: Any) -> Any:
    """One name needs no list."""
    return (value,) if isinstance(value, str | int) and not isinstance(value, bool) else value


def as_numbers(value: Any) -> Any:
    """One number needs no list."""
    return not_empty((value,) if isinstance(value, int) and not isinstance(value, bool) else value)


def not_empty(value: Any) -> Any:
    """An empty list or object would say that something is asked for, and nothing of what.

    Raises:
        PydanticCustomError: it is empty.
    """
    if isinstance(value, list | tuple | dict) and not value:
        raise PydanticCustomError("empty", "it is empty: leave it out, or say what you want")
    return value


def as_none(value: Any) -> Any:
    """A form's word for nothing."""
    plain = value.lower() if isinstance(value, str) else value
    return None if plain in ("", "none", "fp32") else plain


def as_split(value: Any) -> Any:
    """The other words for val."""
    plain = value.lower() if isinstance(value, str) else value
    return "val" if plain in ("valid", "validation") else plain


def as_precision(value: Any) -> Any:
    """The platform knows only on and off."""
    words = {"off": False, "none": False}
    return words.get(value, value) if isinstance(value, str) else "fp16" if value is True else value


def as_device(value: Any) -> Any:
    """PyTorch's ``cuda:1`` is our 1, and its ``cuda`` the first GPU; words that may mean one GPU or all are no device.

    Raises:
        PydanticCustomError: no device, with what to write instead.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    plain = re.sub(r"\s|cuda:(?=\d)", "", str(value).lower())
    plain = "0" if plain == "cuda" else plain
    if not re.match(DEVICE, plain):
        raise PydanticCustomError("device", "no device: write 0 for the first GPU, 0,1 or 0-3 for several, or cpu")
    return plain


def takes_switches(annotation: Any) -> bool:
    """Whether true or false may stand anywhere in a value of this type."""
    return annotation in (bool, Any) or any(takes_switches(part) for part in get_args(annotation))


def refuse_switch(value: Any) -> None:
    """Also one in a list or an object.

    Raises:
        PydanticCustomError: there is one.
    """
    if isinstance(value, bool):
        raise PydanticCustomError("switch", "true and false cannot stand here")
    if isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            refuse_switch(part)

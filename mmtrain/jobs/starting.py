"""What a training starts from, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from mmtrain.engine.messages import WeightsLoaded

SHOWN_NAMES = 12


class Remark(NamedTuple):
    """A line for the log and the report."""

    text: str
    level: Literal["INFO", "WARNING"] = "INFO"


def start_in_words(news: WeightsLoaded) -> Iterator[Remark]:
    """Says first what was taken, then what not."""
    yield Remark(f"starts from {news.source}: {news.loaded} of the model's {news.total} tensors are taken")
    if news.reinitialised:
        yield Remark(f"these begin anew, as the classes differ: {_listed(news.reinitialised)}")
    if news.missing:
        yield Remark(f"these are not in the file and begin anew: {_listed(news.missing)}", "WARNING")
    if news.unexpected:
        yield Remark(f"these of the file are not in the model: {_listed(news.unexpected)}", "WARNING")
    if news.class_remark:
        yield Remark(news.class_remark, "WARNING")


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")

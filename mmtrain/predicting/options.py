"""How to look: what CONFIG asks of any model, checkpoint or exported package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mmtrain.predicting.found import Classes, Found
from trainer_sdk.errors import ConfigError

FILTERED_FROM = 1000
"""Objects that a model may return where only some classes are wanted."""


class Options(BaseModel):
    """CONFIG's names (contract 3.2). None: the model's own."""

    model_config = ConfigDict(frozen=True)

    conf: float = 0.25
    iou: float | None = None
    max_det: int = 100
    imgsz: tuple[int, int] | None = None
    """Width, height."""
    device: str = "cpu"
    """``cpu`` or ``cuda:0``."""
    threads: int = 1
    batch: int = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    tiles: tuple[int, int] | None = None
    tile_overlap: float = 0.2
    flip: bool = False
    filtered: bool = False
    """Some classes only; which ones, the model's names say."""
    only: frozenset[int] | None = None
    """Class indices to report; None: all."""

    @property
    def one_view(self) -> bool:
        """Whether a picture is looked at once and as a whole."""
        return self.tiles is None and not self.flip

    @property
    def candidates(self) -> int:
        """How many objects the model itself may return: those of other classes must not crowd out the wanted ones."""
        return max(self.max_det, FILTERED_FROM) if self.filtered else self.max_det


def only_these(asked: Sequence[str | int] | None, classes: Classes) -> frozenset[int] | None:
    """Class indices of names or original ids.

    Raises:
        ConfigError: every one that the model does not know.
    """
    if asked is None:
        return None
    known: dict[str | int, int] = {name: index for index, name in enumerate(classes.names)}
    for index, number in enumerate(classes.ids):
        known.setdefault(number, index)
        known.setdefault(str(number), index)
    unknown = [repr(one) for one in asked if one not in known]
    if unknown:
        names = ", ".join(f"{number} {name}" for number, name in zip(classes.ids, classes.names, strict=True))
        raise ConfigError(f"classes: the model knows no {', '.join(unknown)}", hint=f"it knows {names}")
    return frozenset(known[one] for one in asked)


def chosen(found: Sequence[Found], options: Options) -> list[Found]:
    """The surest of the wanted classes, at most `max_det`."""
    wanted = (one for one in found if one.score >= options.conf and (options.only is None or one.label in options.only))
    return sorted(wanted, key=lambda one: -one.score)[: options.max_det]

"""The classes of a model beside those of a data set that it was perhaps not trained on: matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from converters import Conversion
from converters.coco import CocoCategory
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task


class Matched(NamedTuple):
    """A data set in which every class of the model has a place."""

    conversion: Conversion
    labels: tuple[int, ...]
    """The model's class -> its place in the conversion's `class_names`."""
    only_in_data: tuple[str, ...]
    only_in_model: tuple[str, ...]

    def remarks(self) -> list[str]:
        """What a reader of the numbers has to know."""
        found = []
        if self.only_in_data:
            names = ", ".join(self.only_in_data)
            found.append(f"The model does not know {names}: every one of them in the data counts as missed.")
        if self.only_in_model:
            names = ", ".join(self.only_in_model)
            found.append(f"The data have no class {names}: every one that the model sees counts as a mistake.")
        return found


def matched(conversion: Conversion, model_classes: Sequence[str]) -> Matched:
    """The data's classes stay where they are; those that only the model knows come behind them.

    Of poses with one class on each side that class is the same, whatever it is called.

    Raises:
        DatasetError: not one class in common.
    """
    data = conversion.class_names
    if conversion.task is Task.POSE and len(data) == len(model_classes) == 1:
        return Matched(conversion, (0,), (), ())
    new = [name for name in model_classes if name not in data]
    if len(new) == len(model_classes):
        raise DatasetError(
            f"the data set and the model have no class in common: {', '.join(data)} in the data, "
            f"{', '.join(model_classes)} in the model",
            hint="classes are matched by name: rename those of the data set, or set CONFIG class_names",
        )
    categories = [
        *(conversion.splits["val"].categories),
        *(CocoCategory(len(data) + place, name, "") for place, name in enumerate(new)),
    ]
    splits = {name: replace(split, categories=categories) for name, split in conversion.splits.items()}
    names = (*data, *new)
    return Matched(
        conversion=replace(conversion, class_names=names, splits=splits),
        labels=tuple(names.index(name) for name in model_classes),
        only_in_data=tuple(name for name in data if name not in model_classes),
        only_in_model=tuple(new),
    )

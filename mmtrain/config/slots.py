"""Edits of upstream's configuration at dotted paths and by what a part is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def set_slot(config: Any, slot: str, value: Any, *, new: bool = False) -> None:
    """Sets ``a.b.0.c``; every part must exist (the last may be `new`): a missing slot is a mistake in the recipe.

    Raises:
        KeyError: no such slot.
    """
    *parents, last = slot.split(".")
    for part in parents:
        config = config[int(part)] if part.isdigit() else config[part]
    if not new and last not in config:
        raise KeyError(f"no slot {slot!r} in the configuration")
    config[last] = value


def innermost(dataset: Any) -> Any:
    """The data set inside its wrappers (class balance), of a configuration or built."""
    while (
        inner := dataset.get("dataset") if isinstance(dataset, dict) else getattr(dataset, "dataset", None)
    ) is not None:
        dataset = inner
    return dataset


def parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every dict of a configuration, at any depth."""
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from parts(value)


def replace_sync_bn(config: Any) -> None:
    """SyncBN fails on a CPU and costs on a single GPU, where BN is the same thing."""
    for part in parts(config):
        if part.get("type") == "SyncBN":
            part["type"] = "BN"


def drop_downloads(config: Any) -> None:
    """Takes out what would fetch weights while a model is built; each part then begins as its own code says."""
    for part in parts(config):
        if "Pretrained" in repr(part.get("init_cfg")):
            del part["init_cfg"]
        part.pop("pretrained", None)

"""From what the pictures are to what is said about them: one short function per kind of finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from converters.findings import FindingCounter
from converters.split import SPLIT_NAMES
from mmtrain.datasets.leakage import Copy, exact_copies, near_copies
from mmtrain.datasets.look import DARK_BELOW, THUMBNAIL_SIDE, Look


class Seen(NamedTuple):
    """An image that is used, and its picture."""

    file_name: str
    split: str
    annotated_size: tuple[int | None, int | None]
    present: bool
    look: Look | None
    """None if it was not opened."""

    @property
    def sound(self) -> Look | None:
        return None if self.look is None or self.look.fault else self.look


def count_pictures(images: Sequence[Seen], counter: FindingCounter) -> None:
    """DS050 to DS053, DS057, DS092: what each picture says for itself."""
    for image in images:
        if not image.present:
            counter.add("DS050", image.file_name)
        elif image.look is not None and image.look.fault:
            counter.add("DS051", f"{image.file_name}: {image.look.fault}", file=image.file_name)
        elif image.look is not None:
            _count_sound(image, image.look, counter)
    _count_kinds(images, counter)


def count_copies(images: Sequence[Seen], counter: FindingCounter) -> None:
    """DS054 to DS056: pictures that are there twice. One is counted once, however many copies it has."""
    looks, opened = _opened(images)
    ranks = [SPLIT_NAMES.index(image.split) for image in opened]
    across, within = exact_copies([one.sha256 for one in looks], ranks)
    for copy in across:
        _count_pair("DS054", opened, copy, "is", counter)
    for copy in within:
        _count_pair("DS056", opened, copy, "is", counter)
    exact = {copy.position for copy in across}
    phashes = np.array([one.phash for one in looks], dtype=np.uint64)
    thumbnails = np.frombuffer(b"".join(one.thumbnail for one in looks), dtype=np.uint8)
    near = near_copies(phashes, thumbnails.reshape(-1, THUMBNAIL_SIDE**2), np.array(ranks, dtype=np.int8))
    for copy in sorted(near, key=lambda copy: -copy.likeness):
        if copy.position not in exact:
            _count_pair("DS055", opened, copy, "is like", counter)


def _count_sound(image: Seen, look: Look, counter: FindingCounter) -> None:
    name, size = image.file_name, "{}x{}".format(*look.size)
    if all(image.annotated_size) and image.annotated_size != look.size:
        width, height = image.annotated_size
        counter.add("DS052", f"{name}: annotated {width}x{height}, is {size}", file=name)
    if look.turned:
        counter.add("DS053", f"{name}: {size} when turned", file=name)
    if look.brightest < DARK_BELOW:
        counter.add("DS092", f"{name}: {look.kind}, {look.brightest} of 255 at most", file=name)


def _count_kinds(images: Sequence[Seen], counter: FindingCounter) -> None:
    """DS057: one example per kind, or the many grey ones would hide the few of 16 bits."""
    names: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if (look := image.sound) and look.kind:
            names[look.kind].append(image.file_name)
    for kind in sorted(names, key=lambda kind: len(names[kind])):
        first, count = names[kind][0], len(names[kind])
        remark = ", the upper 8 bits are kept" if kind.startswith("16-bit") else ""
        counter.add(
            "DS057", f"{kind}{remark}: {first}" + (f" and {count - 1} more" * (count > 1)), count=count, file=first
        )


def _opened(images: Sequence[Seen]) -> tuple[list[Look], list[Seen]]:
    pairs = [(look, image) for image in images if (look := image.sound)]
    return [look for look, _ in pairs], [image for _, image in pairs]


def _count_pair(code: str, images: Sequence[Seen], copy: Copy, verb: str, counter: FindingCounter) -> None:
    one, other = images[copy.position], images[copy.original]
    example = f"{one.file_name} ({one.split}) {verb} {other.file_name} ({other.split})"
    if copy.distance or copy.likeness < 1:
        example += f": {copy.distance} of 64 bits differ, likeness {copy.likeness:.2f}"
    counter.add(code, example, file=(one.file_name, other.file_name))

"""Who trains, validates and tests: the algorithms, on plain data.

Deterministic from the seed on any machine: integers where sums could round differently, and of `random.Random` only
what Python promises to keep. No set of strings is ever walked, since their order differs from process to process.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)

PARTS = 10**6
"""A ratio is taken as so many millionths."""

BACKGROUND_STRATUM = -1
"""Images without a label are a class of their own here, so that every split has its share of them."""


def auto_split(count: int, ratio: Sequence[float], seed: int) -> list[SplitName]:
    """The platform's own algorithm, so that a user sees the same split everywhere; not stratified.

    Fractions are rounded down and what remains goes to test, even for two fractions that add up to 1: of 364 images,
    [0.8, 0.2] makes 291 train, 72 val and 1 test. It is not moved to val, or val would differ from the platform's.
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)
    train = int(count * ratio[0])
    val = int(count * ratio[1])
    splits: list[SplitName] = ["test"] * count
    for place, index in enumerate(order[: train + val]):
        splits[index] = "train" if place < train else "val"
    return splits


def grouped(groups: Sequence[str], ratio: Sequence[float], seed: int) -> list[SplitName]:
    """Keeps the images of a group together: the largest group first, to the split furthest below its size."""
    return stratified([frozenset()] * len(groups), groups, ratio, seed)


def stratified(
    labels: Sequence[frozenset[int]], groups: Sequence[str] | None, ratio: Sequence[float], seed: int
) -> list[SplitName]:
    """Gives every split its share of every class.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data"): the
    rarest class is distributed first, since the common ones can still make good for it. Two things differ. Shares are
    rounded so that the splits keep their sizes (see `split_sizes`), and the last images of a class go to splits that
    have none of it yet: a class with as many images as there are splits is in all of them, even where a split must
    grow for it. Images with several classes may make that impossible; groups do not swell a full split for it.

    Args:
        labels: the classes (0-based) in each image; empty for a background image.
        groups: the group of each image, which is never torn apart; None: every image for itself.
        ratio: [train, val] or [train, val, test]; test gets what the first two leave, if more than rounding.
        seed: any integer.
    """
    draw = random.Random(seed)
    units = _units(labels, groups)
    draws = [draw.random() for _ in units]
    units_of_label: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(units)), key=lambda index: (-len(units[index].images), draws[index])):
        for label in units[index].images_of_label:
            units_of_label[label].append(index)
    tie_breaks = {label: draw.random() for label in sorted(units_of_label)}
    places = _Places(units, ratio, draw)
    splits: list[SplitName] = ["train"] * len(labels)
    placed = [False] * len(units)
    while tie_breaks:
        label = min(tie_breaks, key=lambda label: (places.units_left[label], tie_breaks[label]))
        del tie_breaks[label]
        for index in units_of_label[label]:
            if not placed[index]:
                placed[index] = True
                name = SPLIT_NAMES[places.take(units[index], label)]
                for image in units[index].images:
                    splits[image] = name
    return splits


def split_sizes(count: int, ratio: Sequence[float]) -> list[int]:
    """Images for train, val and test by the largest remainders: each within 1 of its share."""
    whole, rest = zip(*(divmod(count * share, PARTS) for share in _shares(ratio)), strict=True)
    sizes = list(whole)
    for place in sorted(range(len(sizes)), key=lambda place: -rest[place])[: count - sum(sizes)]:
        sizes[place] += 1
    return sizes


def used_splits(ratio: Sequence[float]) -> list[SplitName]:
    """The splits that are to have any image at all."""
    return [name for name, share in zip(SPLIT_NAMES, _shares(ratio), strict=True) if share]


def _shares(ratio: Sequence[float]) -> tuple[int, int, int]:
    """Millionths of train, val and test."""
    train, val = (round(part * PARTS) for part in ratio[:2])
    rest = PARTS - train - val
    return (train, val, rest) if rest > len(SPLIT_NAMES) else (train, PARTS - train, 0)


class _Unit(NamedTuple):
    """Images that stay together."""

    images: list[int]
    images_of_label: dict[int, int]


def _units(labels: Sequence[frozenset[int]], groups: Sequence[str] | None) -> list[_Unit]:
    if groups is None:
        return [_Unit([image], dict.fromkeys(_strata(label), 1)) for image, label in enumerate(labels)]
    units: dict[str, _Unit] = {}
    for image, group in enumerate(groups):
        unit = units.setdefault(group, _Unit([], defaultdict(int)))
        unit.images.append(image)
        for label in _strata(labels[image]):
            unit.images_of_label[label] += 1
    return list(units.values())


def _strata(labels: frozenset[int]) -> list[int]:
    return sorted(labels) or [BACKGROUND_STRATUM]


class _Places:
    """What every split still wants: images in whole, images of each label in millionths."""

    def __init__(self, units: Sequence[_Unit], ratio: Sequence[float], draw: random.Random) -> None:
        images = sum(len(unit.images) for unit in units)
        of_label: Counter[int] = Counter()
        self.units_left: Counter[int] = Counter()
        for unit in units:
            for label, count in unit.images_of_label.items():
                of_label[label] += count
                self.units_left[label] += 1
        self._shares = _shares(ratio)
        self._open = [place for place, share in enumerate(self._shares) if share]
        self._images = split_sizes(images, ratio)
        self._wanted = {label: [count * share for share in self._shares] for label, count in of_label.items()}
        self._without = {label: set(self._open) for label in of_label}
        self._taken = [0] * len(SPLIT_NAMES)
        self._draw = draw

    def take(self, unit: _Unit, label: int) -> int:
        """Finds the split for a unit, ``label`` being its rarest, and remembers it there."""
        place = self._best(unit, label)
        self._images[place] -= len(unit.images)
        self._taken[place] += len(unit.images)
        for other, count in unit.images_of_label.items():
            self._wanted[other][place] -= count * PARTS
            self._without[other].discard(place)
            self.units_left[other] -= 1
        return place

    def _best(self, unit: _Unit, label: int) -> int:
        """The last chance of a class decides first, then room, the class's share, the sizes so far, and the draw."""
        scarce = Counter(
            place for other in unit.images_of_label if self._is_scarce(other) for place in self._without[other]
        )
        need = unit.images_of_label[label] * PARTS
        progress = sum(self._taken) + len(unit.images)

        def appeal(place: int) -> tuple[int, bool, bool, int, int, float]:
            wanted = self._wanted[label][place]
            # By what is missing so far, not in the end, or train would win every rounding until it is full.
            behind = self._shares[place] * progress - self._taken[place] * PARTS
            has_room = self._images[place] > 0
            fitting = wanted if wanted >= need else 0
            last_chance = scarce[place] if has_room or len(unit.images) == 1 else 0
            return last_chance, has_room, wanted > 0, fitting, behind, self._draw.random()

        return max(self._open, key=appeal)

    def _is_scarce(self, label: int) -> bool:
        return self.units_left[label] <= len(self._without[label])

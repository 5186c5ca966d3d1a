"""The algorithms that distribute images: the platform's own, stratified, grouped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from converters.partition import (
    SPLIT_NAMES,
    SplitName,
    auto_split,
    grouped,
    split_sizes,
    stratified,
    used_splits,
)

no_deadline = settings(deadline=None)  # a busy machine is no failure

RATIOS = st.sampled_from([[0.8, 0.2], [0.7, 0.15, 0.15], [0.29, 0.71], [1.0, 0.0], [0.5, 0.2], [0.1, 0.2, 0.7]])
LABELS = st.lists(st.frozensets(st.integers(0, 5), max_size=3), max_size=60)
ONE_LABEL = st.lists(st.integers(0, 4).map(lambda label: frozenset([label])), max_size=80)
GROUP = st.sampled_from("abcdefgh")


def shares(ratio: Sequence[float]) -> dict[SplitName, float]:
    return {"train": ratio[0], "val": ratio[1], "test": 1 - ratio[0] - ratio[1]}


def images_of_label(labels: Sequence[frozenset[int]], splits: Sequence[SplitName]) -> dict[int, Counter[str]]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for found, name in zip(labels, splits, strict=True):
        for label in found:
            counts[label][name] += 1
    return counts


def platform_split(images: list[int], ratio: list[float], seed: int) -> dict[int, str]:
    """The algorithm as the platform contract (4.6) words it."""
    images = images.copy()
    random.seed(seed)
    random.shuffle(images)
    train = int(len(images) * ratio[0])
    val = int(len(images) * ratio[1])
    return {one: "train" if i < train else "val" if i < train + val else "test" for i, one in enumerate(images)}


@no_deadline
@given(st.integers(0, 200), RATIOS, st.integers())
def test_auto_split_is_the_platforms(count: int, ratio: list[float], seed: int) -> None:
    assert dict(enumerate(auto_split(count, ratio, seed))) == platform_split(list(range(count)), ratio, seed)


def test_what_rounding_leaves_goes_to_test_even_for_two_fractions() -> None:
    splits = auto_split(364, [0.8, 0.2], 42)
    assert [splits.count(name) for name in ("train", "val", "test")] == [291, 72, 1]


@no_deadline
@given(st.integers(0, 500), RATIOS)
def test_sizes_are_within_one_image_of_the_ratio(count: int, ratio: list[float]) -> None:
    sizes = split_sizes(count, ratio)
    assert sum(sizes) == count
    for size, share in zip(sizes, shares(ratio).values(), strict=True):
        assert abs(size - count * share) < 1 + 1e-3


def test_two_fractions_that_add_up_to_one_leave_no_test() -> None:
    assert used_splits([1 / 3, 2 / 3]) == used_splits([0.29, 0.71]) == ["train", "val"]
    assert used_splits([0.5, 0.2]) == ["train", "val", "test"]
    assert used_splits([1.0, 0.0]) == ["train"]


@no_deadline
@given(LABELS, RATIOS, st.integers())
def test_stratified_is_a_partition_near_the_ratio(labels: list[frozenset[int]], ratio: list[float], seed: int) -> None:
    splits = stratified(labels, None, ratio, seed)
    assert splits == stratified(labels, None, ratio, seed)
    assert len(splits) == len(labels) and set(splits) <= set(used_splits(ratio))
    classes = len(frozenset[int]().union(*labels)) + 1
    for name, size in zip(SPLIT_NAMES, split_sizes(len(labels), ratio), strict=True):
        # A split grows beyond its size only to hold one image of each class.
        assert splits.count(name) <= max(size, classes)


@no_deadline
@given(ONE_LABEL, RATIOS, st.integers())
def test_every_class_is_in_every_split_that_it_can_fill(
    labels: list[frozenset[int]], ratio: list[float], seed: int
) -> None:
    names = used_splits(ratio)
    for counts in images_of_label(labels, stratified(labels, None, ratio, seed)).values():
        assert len(counts) == min(len(names), counts.total())


@no_deadline
@given(st.lists(st.integers(30, 60), min_size=1, max_size=20), RATIOS, st.integers())
def test_every_split_has_its_share_of_every_class(counts: list[int], ratio: list[float], seed: int) -> None:
    labels = [frozenset([label]) for label, count in enumerate(counts) for _ in range(count)]
    for label, found in images_of_label(labels, stratified(labels, None, ratio, seed)).items():
        for name, share in shares(ratio).items():
            assert abs(found[name] - counts[label] * share) < 2


def test_background_images_are_a_stratum() -> None:
    labels = [frozenset([0])] * 50 + [frozenset[int]()] * 50
    splits = stratified(labels, None, [0.8, 0.2], 3)
    assert splits[50:].count("val") == 10


def test_many_rare_classes_do_not_fill_train() -> None:
    labels = [frozenset([image % 100]) for image in range(1400)]
    splits = stratified(labels, None, [0.7, 0.15, 0.15], 42)
    assert [splits.count(name) for name in SPLIT_NAMES] == [980, 210, 210]
    assert {counts["train"] for counts in images_of_label(labels, splits).values()} <= {9, 10}


@no_deadline
@given(st.lists(st.tuples(st.frozensets(st.integers(0, 3), max_size=2), GROUP), max_size=60), RATIOS, st.integers())
def test_groups_stay_together(images: list[tuple[frozenset[int], str]], ratio: list[float], seed: int) -> None:
    labels, groups = [label for label, _ in images], [group for _, group in images]
    for splits in (stratified(labels, groups, ratio, seed), grouped(groups, ratio, seed)):
        assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
        assert set(splits) <= set(used_splits(ratio))
    assert grouped(groups, ratio, seed) == grouped(groups, ratio, seed)


@no_deadline
@given(st.lists(GROUP, max_size=80), RATIOS, st.integers())
def test_a_split_outgrows_its_size_by_less_than_its_last_group(
    groups: list[str], ratio: list[float], seed: int
) -> None:
    splits = grouped(groups, ratio, seed)
    for name, size in zip(SPLIT_NAMES, split_sizes(len(groups), ratio), strict=True):
        held = Counter(group for group, split in zip(groups, splits, strict=True) if split == name)
        assert held.total() < max(size, 1) + max(held.values(), default=1)


def test_the_largest_group_goes_where_most_is_missing() -> None:
    splits = grouped(["a"] * 15 + ["b"] * 70 + ["c"] * 15, [0.7, 0.15, 0.15], 42)
    assert set(splits[15:85]) == {"train"} and {splits[0], splits[-1]} == {"val", "test"}


GOLDEN_LABELS = [frozenset({image % 3, image * image % 7} - {0}) for image in range(30)]
GOLDEN = "TTVTETETTTTTTTTVETTTVVTTTTTTVE"
GOLDEN_GROUPED = "TTTTTTTTTTTTTTTTVVVVEEEETTTTTT"


def as_text(splits: Sequence[SplitName]) -> str:
    return "".join("TVE"[SPLIT_NAMES.index(name)] for name in splits)


def test_any_machine_makes_this_split() -> None:
    groups = [f"scene {image // 4}" for image in range(30)]
    assert as_text(stratified(GOLDEN_LABELS, None, [0.7, 0.15, 0.15], 42)) == GOLDEN
    assert as_text(stratified(GOLDEN_LABELS, groups, [0.7, 0.15, 0.15], 42)) == GOLDEN_GROUPED


def test_the_hash_seed_of_the_process_does_not_matter() -> None:
    code = (
        "from converters.partition import stratified\n"
        "labels = [frozenset({i % 3, i * i % 7}) for i in range(60)]\n"
        "print(stratified(labels, [f'g{i % 17}' for i in range(60)], [0.7, 0.15, 0.15], 1))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1

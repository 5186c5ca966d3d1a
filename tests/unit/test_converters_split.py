"""Who trains, validates and tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.dice import DiceDataset, DiceImage
from converters.split import (
    ResolvedSplit,
    auto_split,
    parse_split_request,
    resolve_split,
)
from trainer_sdk.errors import ConfigError, DatasetError

no_deadline = settings(deadline=None)  # a busy machine is no failure


def dataset(splits: Sequence[str | None], split_config: dict[str, Any] | None = None) -> DiceDataset:
    images = tuple(DiceImage(i, f"{i}.jpg", 8, 8, split, ()) for i, split in enumerate(splits, start=1))
    return DiceDataset("ds", None, (), images, split_config)


def codes(resolved: ResolvedSplit) -> list[str]:
    return [finding.code for finding in resolved.findings]


def platform_split(images: list[int], ratio: list[float], seed: int) -> dict[int, str]:
    """The algorithm as the platform contract (4.6) words it."""
    images = images.copy()
    random.seed(seed)
    random.shuffle(images)
    train = int(len(images) * ratio[0])
    val = int(len(images) * ratio[1])
    return {one: "train" if i < train else "val" if i < train + val else "test" for i, one in enumerate(images)}


RATIOS = st.sampled_from([[0.8, 0.2], [0.7, 0.15, 0.15], [0.29, 0.71], [1.0, 0.0], [0.5, 0.2], [0.1, 0.2, 0.7]])


@no_deadline
@given(st.integers(0, 200), RATIOS, st.integers())
def test_auto_split_is_the_platforms(count: int, ratio: list[float], seed: int) -> None:
    assert dict(enumerate(auto_split(count, ratio, seed))) == platform_split(list(range(count)), ratio, seed)


def test_what_rounding_leaves_goes_to_test_even_for_two_fractions() -> None:
    splits = auto_split(364, [0.8, 0.2], 42)
    assert [splits.count(name) for name in ("train", "val", "test")] == [291, 72, 1]


@no_deadline
@given(
    st.lists(st.sampled_from(["train", "val", "test", "Validation", "odd", None]), min_size=2, max_size=30),
    RATIOS,
    st.integers(),
    st.sets(st.integers(1, 30), max_size=5),
    st.sampled_from(["auto", "use_dataset"]),
)
def test_split_is_deterministic_and_keeps_excluded_images_out(
    splits: list[str | None], ratio: list[float], seed: int, excluded: set[int], method: str
) -> None:
    request = {"method": method, "ratio": ratio, "seed": seed, "exclude_images": sorted(excluded)}
    resolved = resolve_split(dataset(splits), request)
    assert resolved == resolve_split(dataset(splits), request)
    assert len(resolved.of_image) == len(splits)
    for index, name in enumerate(resolved.of_image, start=1):
        assert (name is None) == (index in excluded)
    assert {"train", "val"} <= set(resolved.of_image) or "DS031" in codes(resolved)


def test_order_of_levels() -> None:
    def first(config: Any, snapshot: Any, own: Any, field: str | None) -> tuple[str | None, str]:
        resolved = resolve_split(dataset([field, "val", "train"] if field else [None] * 3, own), config, snapshot)
        return resolved.of_image[0], resolved.reason

    def manual(name: str, **more: Any) -> dict[str, Any]:
        return {"method": "manual", "splits": {"1": name, "2": "train", "3": "val"}, **more}

    job = {"snapshot_id": "s", "split_config": manual("val", source="job_override")}
    assert first(manual("test"), job, manual("train"), "train") == (
        "test",
        "assigned image by image from CONFIG.split_config: 1 train, 1 val, 1 test",
    )
    assert first(None, job, manual("train"), "train")[0] == "val"
    assert first(None, manual("test", source="dataset_default"), manual("val"), "train")[0] == "val"
    assert first(None, manual("test", source="dataset_default"), None, "train")[0] == "train"
    assert first(None, manual("test", source="dataset_default"), None, None)[0] == "test"
    auto = {"source": "auto", "method": "auto", "ratio": [0.4, 0.4, 0.2], "seed": 7}
    assert "automatic 0.4:0.4:0.2, seed 7, from the snapshot" in first(None, auto, None, None)[1]
    assert "automatic 0.8:0.2, seed 42, from our defaults" in first(None, {"split_config": None}, None, None)[1]


@pytest.mark.parametrize(
    "form",
    [
        {"method": "custom", "custom_splits": {"1": "train", "2": "valid", "3": "test"}},
        {"method": "manual", "splits": {1: "train", "2": "val", "3": "test"}, "ratio": None, "seed": None},
        {
            "method": "partial",
            "splits": {"1": "train", "2": "val", "3": "test", "4": None},
            "default_ratio": [0.8, 0.2],
        },
        {"splits": {"1": "train", "2": "val", "3": "test"}, "created_at": "2025-01-01", "created_by": "x"},
    ],
)
def test_forms_of_the_platform_mean_the_same(form: dict[str, Any]) -> None:
    assert resolve_split(dataset([None] * 3), form).of_image == ("train", "val", "test")


@pytest.mark.parametrize(
    "form",
    [
        {"method": "folds"},
        {"ratio": [80, 20]},
        {"ratio": [0.8]},
        {"ratio": [0.8, 0.4]},
        {"ratio": [float("nan"), 0.2]},
        {"ratio": [0, 1]},
        {"ratio": "0.8"},
        {"seed": "x"},
        {"method": "manual", "splits": {"1": "hold-out"}},
        {"method": "manual", "splits": ["1"]},
        {"method": "custom"},
        {"exclude_images": 7},
    ],
)
def test_nonsense_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="split"):
        resolve_split(dataset([None] * 3), {**form})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(DatasetError) as caught:
        parse_split_request({"method": "folds", "ratio": [5], "seed": "x"}, "split_config", DatasetError)
    assert all(word in caught.value.message for word in ("3 problems", "method", "ratio", "seed"))


def test_nonsense_in_the_annotation_file_is_the_data_sets_fault() -> None:
    with pytest.raises(DatasetError):
        resolve_split(dataset([None] * 3, {"method": "folds"}))


def test_manual_leaves_unassigned_images_out_but_partial_distributes_them() -> None:
    splits = {"1": "train", "2": "val", "99": "test"}
    manual = resolve_split(dataset([None] * 6), {"method": "manual", "splits": splits})
    assert manual.of_image == ("train", "val", None, None, None, None)
    assert codes(manual) == ["DS032", "DS034"]
    partial = resolve_split(dataset([None] * 6), {"method": "partial", "splits": splits})
    assert partial.of_image[:2] == ("train", "val") and None not in partial.of_image
    assert codes(partial) == ["DS033", "DS034"]


def test_manual_without_assignments_in_the_file_leaves_the_decision_to_the_images() -> None:
    resolved = resolve_split(dataset(["val", "train"], {"method": "manual", "splits": {"1": None}}))
    assert resolved.of_image == ("val", "train")


def test_unknown_split_field_counts_as_unassigned() -> None:
    resolved = resolve_split(dataset(["train", "val", "hold-out"]))
    assert codes(resolved) == ["DS033", "DS035"] and resolved.of_image[2] is not None


def test_empty_val_takes_a_fifth_of_train() -> None:
    resolved = resolve_split(dataset(["train"] * 10 + ["test"]))
    assert [resolved.of_image.count(name) for name in ("train", "val", "test")] == [8, 2, 1]
    finding = resolved.findings[0]
    assert (finding.code, finding.count, finding.severity) == ("DS030", 2, "repaired")
    assert resolve_split(dataset(["train"] * 2)).of_image.count("val") == 1


@pytest.mark.parametrize("splits", [["train"], ["val"] * 5, ["test"] * 5, ["train", "test"]])
def test_too_few_images_block(splits: list[str | None]) -> None:
    assert "DS031" in codes(resolve_split(dataset(splits)))


def test_exclusions_of_all_levels_add_up() -> None:
    own = {"method": "manual", "splits": {"1": "train", "2": "val", "3": "train", "4": "train"}, "exclude_images": [3]}
    resolved = resolve_split(dataset([None] * 4, own), {"method": "use_dataset", "exclude_images": ["4", 77]})
    assert resolved.of_image == ("train", "val", None, None)
    assert codes(resolved) == ["DS034", "DS036"]

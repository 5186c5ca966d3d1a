"""Who trains, validates and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.dice import DiceAnnotation, DiceClass, DiceDataset, DiceImage
from converters.split import ResolvedSplit, check_split_config, resolve_split
from converters.split_request import parse_split_request
from trainer_sdk.errors import ConfigError, DatasetError

no_deadline = settings(deadline=None)  # a busy machine is no failure


def dataset(splits: Sequence[str | None], split_config: dict[str, Any] | None = None) -> DiceDataset:
    images = tuple(DiceImage(i, f"{i}.jpg", 8, 8, split, ()) for i, split in enumerate(splits, start=1))
    return DiceDataset("ds", None, (), images, split_config)


def codes(resolved: ResolvedSplit) -> list[str]:
    return [finding.code for finding in resolved.findings]


RATIOS = st.sampled_from([[0.8, 0.2], [0.7, 0.15, 0.15], [0.29, 0.71], [1.0, 0.0], [0.5, 0.2], [0.1, 0.2, 0.7]])


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


def labelled(classes: Sequence[Sequence[int]], **more: Sequence[Any]) -> DiceDataset:
    """Images with one annotation for each class; ``more`` gives file_name, split or metadata of each."""
    images = tuple(
        DiceImage(
            id=i,
            file_name=more.get("file_name", {i - 1: f"{i}.jpg"})[i - 1],
            width=8,
            height=8,
            split=more.get("split", [None] * len(classes))[i - 1],
            annotations=tuple(DiceAnnotation(None, index, None, msgspec.Raw(b"{}")) for index in found),
            metadata=more.get("metadata", [None] * len(classes))[i - 1],
        )
        for i, found in enumerate(classes, start=1)
    )
    names = (DiceClass(0, "cell"), DiceClass(9, "__background__"), DiceClass(5, "wall"))
    return DiceDataset("ds", None, names, images)


def test_stratified_on_demand_and_by_its_other_name() -> None:
    source = labelled([[0]] * 40 + [[5]] * 10 + [[9]] * 10)
    resolved = resolve_split(source, {"ratio": [0.8, 0.2], "stratify": True})
    assert resolved == resolve_split(source, {"method": "stratified", "ratio": [0.8, 0.2]})
    assert [resolved.of_image[a:b].count("val") for a, b in ((0, 40), (40, 50), (50, 60))] == [8, 2, 2]
    assert "automatic 0.8:0.2, seed 42, stratified by class, from CONFIG" in resolved.reason
    assert codes(resolved) == []


def test_class_too_rare_for_every_split_is_told() -> None:
    resolved = resolve_split(labelled([[0]] * 20 + [[5]] * 2), {"ratio": [0.6, 0.2, 0.2], "stratify": True})
    (finding,) = resolved.findings
    assert (finding.code, finding.count) == ("DS037", 1) and finding.examples[0].startswith("wall: images 1 train")


@pytest.mark.parametrize("form", [{"group_by": "folder"}, {"method": "grouped"}, {"group_by": "folder", "stratify": 1}])
def test_images_of_a_folder_stay_together(form: dict[str, Any]) -> None:
    names = [f"{'abcde'[i % 5]}/{i}.jpg" for i in range(50)]
    resolved = resolve_split(labelled([[0]] * 50, file_name=names), {"ratio": [0.6, 0.2, 0.2], **form})
    assert len({(name[0], split) for name, split in zip(names, resolved.of_image, strict=True)}) == 5
    assert [resolved.of_image.count(name) for name in ("train", "val", "test")] == [30, 10, 10]
    assert "grouped by folder" in resolved.reason and codes(resolved) == []


def test_images_of_equal_metadata_stay_together_and_those_without_are_free() -> None:
    metadata: list[Any] = [{"camera": 1}, {"camera": "1"}, {"camera": [1]}, {}, None, {"camera": 2}, {"camera": 2}]
    source = labelled([[0]] * 7, metadata=metadata)
    resolved = resolve_split(source, {"group_by": "metadata.camera", "ratio": [0.5, 0.5]})
    assert resolved.of_image[0] == resolved.of_image[1] and resolved.of_image[5] == resolved.of_image[6]
    assert [(f.code, f.count, f.severity) for f in resolved.findings] == [("DS091", 3, "info")]


def test_metadata_that_no_image_has_group_nothing_and_block() -> None:
    resolved = resolve_split(labelled([[0]] * 9), {"group_by": "metadata.camera"})
    assert [(f.code, f.severity) for f in resolved.findings if f.code == "DS093"] == [("DS093", "blocks")]


def test_group_larger_than_its_split_is_told() -> None:
    names = [f"{'a' if i < 30 else 'b'}/{i}.jpg" for i in range(50)]
    resolved = resolve_split(labelled([[0]] * 50, file_name=names), {"group_by": "folder"})
    assert [f.text for f in resolved.findings] == [
        "DS038 Group larger than its split was to be (1): folder b: 20 images, val was to have 10"
    ]


def test_one_group_cannot_be_split() -> None:
    resolved = resolve_split(labelled([[0]] * 9), {"group_by": "folder"})
    assert codes(resolved) == ["DS031", "DS038"]


def test_unassigned_images_follow_their_group() -> None:
    names = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "c/5.jpg", "c/6.jpg"]
    form = {"method": "partial", "group_by": "folder", "splits": {"1": "test", "4": "val"}}
    resolved = resolve_split(labelled([[0]] * 6, file_name=names), form)
    assert resolved.of_image == ("test", "test", "val", "val", "train", "train")


def test_an_empty_val_is_filled_with_whole_groups() -> None:
    names = [f"{'abc'[i % 3]}/{i}.jpg" for i in range(12)]
    resolved = resolve_split(labelled([[0]] * 12, file_name=names), {"ratio": [1, 0], "group_by": "folder"})
    assert resolved.of_image.count("val") == 4
    assert len({(name[0], split) for name, split in zip(names, resolved.of_image, strict=True)}) == 3


def test_excluded_images_neither_count_nor_appear() -> None:
    resolved = resolve_split(labelled([[0]] * 20), {"stratify": True, "exclude_images": list(range(1, 11))})
    assert [resolved.of_image.count(name) for name in ("train", "val", None)] == [8, 2, 10]


@pytest.mark.parametrize("found", ["auto", [1], {"split_config": "auto"}, {"split_config": [1]}])
def test_snapshot_that_is_no_object_is_refused(found: Any) -> None:
    with pytest.raises(ConfigError, match="not an object"):
        resolve_split(dataset(["train", "val"]), None, found)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"stratfy": True}, "unknown 'stratfy'; did you mean 'stratify'?"),
        ({"groupby": "folder"}, "did you mean 'group_by'?"),
        ({"method": "stratifed"}, "did you mean 'stratified'?"),
        ({"method": ["auto"]}, "unknown method"),
        ({"group_by": "folders"}, "did you mean 'folder'?"),
        ({"group_by": "metadata."}, "did you mean 'metadata.<key>'?"),
        ({"group_by": ["folder"]}, "known: folder, metadata.<key>"),
        ({"stratify": "perhaps"}, "stratify"),
        ({"method": "manual", "splits": {"1": "val"}, "stratify": True}, "manual distributes nothing"),
        ({"method": "use_dataset", "group_by": "folder"}, "use_dataset distributes nothing"),
        ({"exclude_images": [[1]]}, "exclude_images"),
        ({"splits": {"1": ["val"]}}, "unknown split"),
    ],
)
def test_mistyped_requests_are_named(form: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_split_config(form)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "form",
    [
        {"stratify": True, "group_by": "metadata.camera", "ratio": [0.7, 0.15, 0.15], "seed": 1},
        {"method": "stratified", "group_by": "folder"},
        {"method": "auto", "ratio": None, "seed": None, "stratify": False, "group_by": None},
    ],
)
def test_sound_requests_pass(form: dict[str, Any]) -> None:
    check_split_config(form)
    assert parse_split_request(form, "x").method == "auto"

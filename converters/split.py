"""Which image trains, validates or tests, and who decided that.

The first that decides wins:

1. ``CONFIG.split_config``
2. the snapshot of the job, if its source is ``job_override``
3. ``split_config`` in the annotation file
4. the ``split`` fields of the images
5. the snapshot of the job, whatever its source
6. automatic, 80 % train and 20 % val, seed 42

``exclude_images`` of all levels are added up. ``test`` stays test, and nothing ever validates on training images.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.dice import DiceDataset, DiceImage
from converters.dice_to_coco import index_classes
from converters.findings import Finding, FindingCounter
from converters.partition import (
    SPLIT_NAMES,
    SplitName,
    auto_split,
    grouped,
    split_sizes,
    stratified,
    used_splits,
)
from converters.split_request import (
    DEFAULT_SEED,
    SplitRequest,
    check_split_config,
    parse_split_request,
    split_name,
)
from converters.strata import image_groups, image_labels
from trainer_sdk.errors import ConfigError, DatasetError

__all__ = ["SPLIT_NAMES", "ResolvedSplit", "SplitName", "check_split_config", "resolve_split"]

Splits = list[SplitName | None]


@dataclass(frozen=True, slots=True)
class ResolvedSplit:
    """The split of every image, in the order of the data set's images; None: the image is not used."""

    of_image: tuple[SplitName | None, ...]
    reason: str
    findings: tuple[Finding, ...]


def resolve_split(
    dataset: DiceDataset, config_split: Mapping[str, Any] | None = None, snapshot: Mapping[str, Any] | None = None
) -> ResolvedSplit:
    """The split by the order at the top of this file.

    Raises:
        ConfigError: CONFIG or snapshot hold a request that makes no sense.
        DatasetError: the annotation file does.
    """
    findings = FindingCounter()
    levels = list(_levels(dataset, config_split, snapshot, findings))
    origin, request = next(level for level in levels if level[1].decides)
    excluded = frozenset[str]().union(*(level.exclude_images for _, level in levels))
    groups = image_groups(dataset.images, request.group_by, findings) if request.group_by else None
    labels = image_labels(dataset) if request.stratify else None
    splits = _assign(dataset.images, request, excluded, groups, labels, findings)
    _fill_val(splits, dataset.images, groups, findings)
    if labels is not None:
        _check_classes(splits, dataset, request, labels, findings)
    if groups is not None:
        _check_groups(splits, request, groups, findings)
    counts = ", ".join(f"{splits.count(name)} {name}" for name in SPLIT_NAMES)
    return ResolvedSplit(tuple(splits), f"{_describe(request)} from {origin}: {counts}", findings.findings)


def _levels(
    dataset: DiceDataset,
    config_split: Mapping[str, Any] | None,
    snapshot: Mapping[str, Any] | None,
    findings: FindingCounter,
) -> Iterator[tuple[str, SplitRequest]]:
    if config_split:
        request = parse_split_request(config_split, "CONFIG.split_config")
        if request.method == "auto" and any(request.splits.values()):
            raise ConfigError(
                "CONFIG.split_config: method auto distributes all images and would ignore splits",
                hint="method partial honours splits and distributes the others",
            )
        if request.method in ("manual", "partial") and not request.decides:
            raise ConfigError(
                f"CONFIG.split_config: method {request.method} assigns no image",
                hint="Give splits {image id: train|val|test}, or another method.",
            )
        yield "CONFIG.split_config", request
    snapshot = _split_of_snapshot(snapshot)
    taken = parse_split_request(snapshot, "Snapshot metadata") if snapshot else None
    if taken and taken.source == "job_override":
        yield "the job's split (snapshot)", taken
    if dataset.split_config:
        name = "split_config of the annotation file"
        yield name, parse_split_request(dataset.split_config, name, DatasetError)
    yield "the split fields of the images", _request_of_images(dataset.images, findings)
    if taken and taken.source != "job_override":
        yield "the snapshot", taken
    yield "our defaults", SplitRequest(method="auto")


def _split_of_snapshot(snapshot: Mapping[str, Any] | None) -> Any:
    """The resolved split out of ``snapshots/<id>/metadata.json``, where it may be null; or as it is."""
    return snapshot["split_config"] if snapshot and "split_config" in snapshot else snapshot


def _request_of_images(images: Sequence[DiceImage], findings: FindingCounter) -> SplitRequest:
    splits: dict[str, SplitName | None] = {}
    for image in images:
        try:
            splits[str(image.id)] = split_name(image.split)
        except ValueError:
            findings.add("DS035", f"{image.file_name}: {image.split!r}")
    return SplitRequest(method="partial", splits=splits)


def _assign(
    images: Sequence[DiceImage],
    request: SplitRequest,
    excluded: frozenset[str],
    groups: Sequence[str] | None,
    labels: Sequence[frozenset[int]] | None,
    findings: FindingCounter,
) -> Splits:
    ids = [str(image.id) for image in images]
    fixed: Mapping[str, SplitName | None] = {} if request.method == "auto" else request.splits
    splits = [None if image_id in excluded else fixed.get(image_id) for image_id in ids]
    for image_id in sorted((request.splits.keys() | excluded) - set(ids)):
        findings.add("DS034", f"id {image_id}")
    for image_id in (image_id for image_id in ids if image_id in excluded):
        findings.add("DS036", f"id {image_id}")
    unassigned = [i for i, image_id in enumerate(ids) if splits[i] is None and image_id not in excluded]
    if request.method != "auto":
        for i in unassigned:
            findings.add("DS032" if request.method == "manual" else "DS033", f"id {ids[i]}")
    if request.method != "manual":
        _distribute(splits, unassigned, request, groups, labels)
    return splits


def _distribute(
    splits: Splits,
    unassigned: Sequence[int],
    request: SplitRequest,
    groups: Sequence[str] | None,
    labels: Sequence[frozenset[int]] | None,
) -> None:
    if groups is not None:  # an image goes where others of its group were put
        home = {groups[i]: name for i, name in reversed(list(enumerate(splits))) if name}
        for i in unassigned:
            splits[i] = home.get(groups[i])
    free = [i for i in unassigned if splits[i] is None]
    free_groups = None if groups is None else [groups[i] for i in free]
    names: list[SplitName]
    if labels is not None:
        names = stratified([labels[i] for i in free], free_groups, request.ratio, request.seed)
    elif free_groups is not None:
        names = grouped(free_groups, request.ratio, request.seed)
    else:
        names = auto_split(len(free), request.ratio, request.seed)
    for i, name in zip(free, names, strict=True):
        splits[i] = name


def _fill_val(
    splits: Splits, images: Sequence[DiceImage], groups: Sequence[str] | None, findings: FindingCounter
) -> None:
    """Moves a fifth of train's images (or groups) to an empty val, at least one, always the same ones."""
    train = [i for i, name in enumerate(splits) if name == "train"]
    if not images or ("val" in splits and train):
        return
    units = list(dict.fromkeys(train if groups is None else (groups[i] for i in train)))
    if len(units) < 2:
        found = f"{len(train)} train, {splits.count('val')} val, {splits.count('test')} test"
        findings.add("DS031", f"{found}, {len(units)} group(s) in train" if groups is not None else found)
        return
    moved = set(random.Random(DEFAULT_SEED).sample(units, max(1, len(units) // 5)))
    for i in train:
        if (i if groups is None else groups[i]) in moved:
            splits[i] = "val"
            findings.add("DS030", images[i].file_name)


def _check_classes(
    splits: Splits,
    dataset: DiceDataset,
    request: SplitRequest,
    labels: Sequence[frozenset[int]],
    findings: FindingCounter,
) -> None:
    images = {name: Counter[int]() for name in SPLIT_NAMES}
    for name, found in zip(splits, labels, strict=True):
        if name:
            images[name].update(found)
    for index, declared in enumerate(index_classes(dataset.classes).declared):
        counts = {name: images[name][index] for name in used_splits(request.ratio)}
        if any(counts.values()) and not all(counts.values()):
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            findings.add("DS037", f"{declared.name}: images {told}")


def _check_groups(splits: Splits, request: SplitRequest, groups: Sequence[str], findings: FindingCounter) -> None:
    used = [(name, group) for name, group in zip(splits, groups, strict=True) if name]
    wanted = dict(zip(SPLIT_NAMES, split_sizes(len(used), request.ratio), strict=True))
    for (name, group), count in Counter(used).items():
        if count > max(1, wanted[name]):
            findings.add("DS038", f"{group}: {count} images, {name} was to have {wanted[name]}")


def _describe(request: SplitRequest) -> str:
    how = ", stratified by class" * request.stratify + f", grouped by {request.group_by}" * bool(request.group_by)
    if request.method != "auto":
        return f"assigned image by image{how}"
    return f"automatic {':'.join(f'{part:g}' for part in request.ratio)}, seed {request.seed}{how},"

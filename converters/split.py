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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    field_validator,
)

from converters.dice import DiceDataset, DiceImage
from converters.findings import Finding, FindingCounter
from trainer_sdk.errors import ConfigError, DatasetError, JobError

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)

DEFAULT_RATIO = (0.8, 0.2)
DEFAULT_SEED = 42

_SPELLINGS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_name(found: Any) -> SplitName | None:
    """The split meant by a name, None for no split.

    Raises:
        ValueError: no known name.
    """
    if found is None or found == "":
        return None
    name = _SPELLINGS.get(str(found).strip().lower())
    if name is None:
        raise ValueError(f"unknown split {found!r}, known: {', '.join(SPLIT_NAMES)}")
    return name


class SplitRequest(BaseModel):
    """How somebody wants the images split; ``manual`` and ``partial`` differ in what becomes of unassigned images."""

    model_config = ConfigDict(frozen=True)

    method: Literal["auto", "manual", "partial", "use_dataset"]
    ratio: tuple[float, ...] = DEFAULT_RATIO
    seed: int = DEFAULT_SEED
    splits: dict[str, Annotated[SplitName | None, BeforeValidator(split_name)]] = {}
    exclude_images: frozenset[str] = frozenset()
    source: str = ""

    @field_validator("ratio")
    @classmethod
    def _is_partition(cls, ratio: tuple[float, ...]) -> tuple[float, ...]:
        fractions = all(0 <= part <= 1 for part in ratio)
        if len(ratio) not in (2, 3) or not fractions or ratio[0] == 0 or sum(ratio) > 1 + 1e-9:
            raise ValueError("want [train, val] or [train, val, test] as fractions that add up to at most 1")
        return ratio

    @property
    def decides(self) -> bool:
        """Does it say anything, or leave the decision to the next level?"""
        return self.method == "auto" or (self.method != "use_dataset" and any(self.splits.values()))


@dataclass(frozen=True, slots=True)
class ResolvedSplit:
    """The split of every image, in the order of the data set's images; None: the image is not used."""

    of_image: tuple[SplitName | None, ...]
    reason: str
    findings: tuple[Finding, ...]


KNOWN_KEYS = frozenset(
    {"method", "ratio", "default_ratio", "seed", "splits", "custom_splits", "exclude_images", "source"}
)


def check_split_config(form: Mapping[str, Any]) -> None:
    """A user's CONFIG.split_config, before any data are there: a mistyped key must not be ignored.

    Raises:
        ConfigError: unknown keys, or values that make no sense.
    """
    unknown = sorted(set(form) - KNOWN_KEYS)
    if unknown:
        hint = f"Known keys: {', '.join(sorted(KNOWN_KEYS))}."
        raise ConfigError(f"CONFIG.split_config: unknown {', '.join(map(repr, unknown))}", hint=hint)
    parse_split_request(form, "CONFIG.split_config")


def parse_split_request(form: Mapping[str, Any], origin: str, error: type[JobError] = ConfigError) -> SplitRequest:
    """A request from any of the platform's forms: of a job or CONFIG, of a snapshot, of an annotation file.

    Raises:
        JobError: of the type ``error``, naming every field that makes no sense.
    """
    given = {key: value for key, value in form.items() if value is not None}
    splits = given.get("custom_splits") or given.get("splits") or {}
    method = given.get("method") or ("manual" if splits else "auto")
    fields = {
        "method": "manual" if method == "custom" else method,
        "ratio": given.get("ratio", given.get("default_ratio")),
        "seed": given.get("seed"),
        "splits": {str(key): value for key, value in splits.items()} if isinstance(splits, Mapping) else splits,
        "exclude_images": _as_text(given.get("exclude_images", [])),
        "source": given.get("source"),
    }
    try:
        return SplitRequest.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as invalid:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in invalid.errors()]
        raise error.of_problems(origin, problems, hint="Correct the split configuration.") from invalid


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
    ids = [str(image.id) for image in dataset.images]
    splits = _assign(ids, request, excluded, findings)
    for image_id in sorted((request.splits.keys() | excluded) - set(ids)):
        findings.add("DS034", f"id {image_id}")
    _fill_val(splits, dataset.images, findings)
    counts = ", ".join(f"{splits.count(name)} {name}" for name in SPLIT_NAMES)
    return ResolvedSplit(tuple(splits), f"{_describe(request)} from {origin}: {counts}", findings.findings)


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


def _levels(
    dataset: DiceDataset,
    config_split: Mapping[str, Any] | None,
    snapshot: Mapping[str, Any] | None,
    findings: FindingCounter,
) -> Iterator[tuple[str, SplitRequest]]:
    if config_split:
        request = parse_split_request(config_split, "CONFIG.split_config")
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


def _split_of_snapshot(snapshot: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
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
    ids: list[str], request: SplitRequest, excluded: frozenset[str], findings: FindingCounter
) -> list[SplitName | None]:
    fixed: Mapping[str, SplitName | None] = {} if request.method == "auto" else request.splits
    splits = [None if image_id in excluded else fixed.get(image_id) for image_id in ids]
    unassigned = [i for i, image_id in enumerate(ids) if splits[i] is None and image_id not in excluded]
    for image_id in (image_id for image_id in ids if image_id in excluded):
        findings.add("DS036", f"id {image_id}")
    if request.method != "auto":
        for i in unassigned:
            findings.add("DS032" if request.method == "manual" else "DS033", f"id {ids[i]}")
    if request.method != "manual":
        for i, name in zip(unassigned, auto_split(len(unassigned), request.ratio, request.seed), strict=True):
            splits[i] = name
    return splits


def _fill_val(splits: list[SplitName | None], images: Sequence[DiceImage], findings: FindingCounter) -> None:
    """Moves a fifth of train to an empty val, at least one image, always the same ones."""
    train = [i for i, name in enumerate(splits) if name == "train"]
    if not images or ("val" in splits and train):
        return
    if len(train) < 2:
        findings.add("DS031", f"{len(train)} train, {splits.count('val')} val, {splits.count('test')} test")
        return
    for i in sorted(random.Random(DEFAULT_SEED).sample(train, max(1, len(train) // 5))):
        splits[i] = "val"
        findings.add("DS030", images[i].file_name)


def _describe(request: SplitRequest) -> str:
    if request.method != "auto":
        return "assigned image by image"
    return f"automatic {':'.join(f'{part:g}' for part in request.ratio)}, seed {request.seed},"


def _as_text(ids: Any) -> Any:
    return [str(image_id) for image_id in ids] if isinstance(ids, list | tuple | set | frozenset) else ids

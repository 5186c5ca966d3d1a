"""The preflight: what was found in the annotations and in the pictures, before a GPU second is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict

from converters import Conversion, Finding
from converters.coco import CocoSplit
from converters.dice import DiceDataset, DiceImage
from converters.findings import FindingCounter, blocking, refuse_blocked
from converters.semantic import MaskLook, Masks, look_at_mask
from mmtrain.datasets.columns import columns_of
from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.look import Look, look_through
from mmtrain.datasets.picture_findings import Seen, count_copies, count_pictures
from mmtrain.datasets.pictures import Pictures, PicturesHere
from mmtrain.datasets.pool import each
from mmtrain.datasets.profile import Contents, DatasetProfile, make_profile, tiny_objects
from mmtrain.datasets.recommend import Recommendation, Trainable, recommend, trainable
from mmtrain.machine import available_cores
from trainer_sdk.tasks import Task

MOST_OPENED = 20_000
"""Pictures; about half a minute on four cores. A fault in one of a hundred pictures is then missed once in 10^87."""
MISSING_SHARE = 0.01
"""Of the listed images may lack their file; in sets of under 100 images none may."""
READERS = 8
"""Per process, where pictures come from a bucket and waiting takes longer than looking."""
CRASHED = Look("crashes the decoder")


class Findings(BaseModel):
    """``findings.json``."""

    model_config = ConfigDict(frozen=True)

    findings: tuple[Finding, ...]
    images: dict[str, int]
    objects: dict[str, int]
    classes: tuple[str, ...]
    split_reason: str
    profile: DatasetProfile
    trainable: tuple[Trainable, ...]
    recommendation: Recommendation | None

    @property
    def blocking(self) -> tuple[Finding, ...]:
        return blocking(self.findings)

    def raise_if_blocked(self) -> None:
        """Raises: DatasetError."""
        refuse_blocked(self.findings)


def look_at_images(
    fetched: FetchedDataset,
    report: Callable[[int, int], None],
    most: int | None = MOST_OPENED,
    pictures: Pictures | None = None,
) -> dict[str, Look]:
    """File name -> what opening the file said, for those that were opened.

    Args:
        pictures: where they are; by default in the data set's folder.
        most: pictures to open, evenly spread over the list; None for all. Those without an annotated size always are.
    """
    present = [image for image in fetched.dice.images if image.file_name in fetched.image_paths]
    chosen = set(evenly_spread(len(present), most))
    opened = [image.file_name for i, image in enumerate(present) if i in chosen or not (image.width and image.height)]
    paths = [fetched.image_paths[name] for name in opened]
    found: dict[int, Look] = {}
    look = partial(look_through, pictures or PicturesHere(fetched.root))
    here = pictures is None or isinstance(pictures, PicturesHere)
    for position, seen in each(look, paths, CRASHED, processes=available_cores(), threads=1 if here else READERS):
        found[position] = seen
        report(len(found), len(opened))
    return {name: found[position] for position, name in enumerate(opened)}


def look_at_mask_files(fetched: FetchedDataset, report: Callable[[int, int], None]) -> Masks:
    """Mask file -> what opening it said, for `convert`; all of them, since their numbers decide the classes."""
    names = sorted({image.mask_file for image in fetched.dice.images if image.mask_file})
    found = fetched.other_paths
    paths = [fetched.root / found[name] if name in found else None for name in names]
    masks: dict[str, MaskLook | str | None] = {}
    crashed: MaskLook | str | None = CRASHED.fault
    for position, seen in each(look_at_mask, paths, crashed, processes=available_cores()):
        masks[names[position]] = seen
        report(len(masks), len(names))
    return masks


def forget_damaged(fetched: FetchedDataset, looks: Mapping[str, Look]) -> None:
    """Takes unreadable copies out of the cache: perhaps only the copy is damaged, and the next job fetches it anew."""
    for name, seen in looks.items():
        if seen.fault:
            (fetched.root / fetched.image_paths[name]).unlink(missing_ok=True)


def most_opened(asked: Literal["all"] | int | None) -> int | None:
    """How many pictures to open, of CONFIG `inspect_images`; None for all."""
    return MOST_OPENED if asked is None else None if asked == "all" else asked


def evenly_spread(count: int, most: int | None) -> Sequence[int]:
    """At most `most` of the numbers 0..count-1, always the same ones, first and last included."""
    if most is None or count <= most:
        return range(count)
    return [int(place) for place in np.linspace(0, count - 1, most).round()]


def tolerably_missing(fetched: FetchedDataset) -> frozenset[str]:
    """Names of images without a file, if they are few enough to train without them; else none, and they block."""
    lacking = [image.file_name for image in fetched.dice.images if image.file_name not in fetched.image_paths]
    tolerated = len(lacking) <= int(MISSING_SHARE * len(fetched.dice.images))
    return frozenset(lacking) if tolerated else frozenset()


def with_real_sizes(dice: DiceDataset, looks: Mapping[str, Look]) -> DiceDataset:
    """The data set as the pixels have it, before boxes are judged against the picture's edges."""

    def real(image: DiceImage) -> DiceImage:
        seen = looks.get(image.file_name)
        if seen is None or seen.fault:
            return image
        return msgspec.structs.replace(image, width=seen.size[0], height=seen.size[1])

    return msgspec.structs.replace(dice, images=tuple(map(real, dice.images)))


def judge(
    conversion: Conversion,
    fetched: FetchedDataset,
    looks: Mapping[str, Look],
    missing: frozenset[str] = frozenset(),
) -> tuple[Conversion, Findings]:
    """Adds what was seen in the pictures that are used.

    Args:
        missing: images that were left out of the conversion because their file is missing (`tolerably_missing`).

    Returns:
        the conversion with file names below the data set's root, and all findings.
    """
    counter = FindingCounter(conversion.findings)
    for name in sorted(missing):
        counter.add("DS059", name)
    _count_shared_files(fetched, counter)
    seen = _seen(conversion, fetched, looks)
    count_pictures(seen, counter)
    count_copies(seen, counter)
    opened = sum(one.look is not None for one in seen)
    present = sum(one.present for one in seen)
    if opened < present:
        counter.add("DS090", f"{opened:,} of {present:,} were", count=present - opened)
    splits = {name: _with_paths(split, fetched.image_paths) for name, split in conversion.splits.items()}
    found = replace(conversion, splits=splits, findings=counter.findings)
    return found, findings_of(found, fetched.dice)


def findings_of(conversion: Conversion, dice: DiceDataset) -> Findings:
    """What the annotations alone say, and whatever else was counted into the conversion's findings."""
    columns = {name: columns_of(split) for name, split in conversion.splits.items()}
    profile = make_profile(columns, conversion.class_names, _contents(conversion, dice))
    return Findings(
        findings=conversion.findings,
        images=profile.images,
        objects=profile.objects,
        classes=conversion.class_names,
        split_reason=conversion.split_reason,
        profile=profile,
        trainable=trainable(profile),
        recommendation=recommend(profile),
    )


def at_input_size(findings: Findings, conversion: Conversion, imgsz: tuple[int, int]) -> Findings:
    """With DS058: objects that are too small once the images have the planned input size (width, height).

    Poses are looked for in crops, which are enlarged to it.
    """
    if conversion.task is Task.POSE:
        return findings
    counter, originals = FindingCounter(findings.findings), conversion.id_map.images
    for name, split in conversion.splits.items():
        names = tuple(originals[image.id].file_name for image in split.images)
        tiny_objects(name, replace(columns_of(split), file_names=names), imgsz, counter)
    return findings.model_copy(update={"findings": counter.findings})


def _contents(conversion: Conversion, dice: DiceDataset) -> Contents:
    seen = conversion.seen
    mask_files = any(image.mask_file for image in dice.images)
    return Contents(seen.boxes > 0, seen.masks > 0, seen.keypoints > 0, mask_files)


def _count_shared_files(fetched: FetchedDataset, counter: FindingCounter) -> None:
    """``001.png`` and ``images/001.png`` may be one file, which only a look at the folder can tell."""
    first: dict[str, str] = {}
    for name, path in fetched.image_paths.items():
        other = first.setdefault(path, name)
        if other != name:
            counter.add("DS009", f"{other} and {name} are {path}", file=name)


def _seen(conversion: Conversion, fetched: FetchedDataset, looks: Mapping[str, Look]) -> list[Seen]:
    annotated = {image.file_name: (image.width, image.height) for image in fetched.dice.images}
    return [
        Seen(
            file_name=image.file_name,
            split=split,
            annotated_size=annotated[image.file_name],
            present=image.file_name in fetched.image_paths,
            look=looks.get(image.file_name),
        )
        for split, dataset in conversion.splits.items()
        for image in dataset.images
    ]


def _with_paths(split: CocoSplit, paths: dict[str, str]) -> CocoSplit:
    images = [
        msgspec.structs.replace(image, file_name=paths.get(image.file_name, image.file_name)) for image in split.images
    ]
    return replace(split, images=images)

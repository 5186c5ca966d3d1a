"""Looks at every picture before a GPU second is spent, and fixes what is wrong about the paperwork only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
from PIL import ExifTags, Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from converters import Conversion, Finding
from converters.coco import CocoDataset
from converters.dice import DiceDataset, DiceImage
from converters.findings import FindingCounter
from mmtrain.datasets.fetch import FetchedDataset
from trainer_sdk.errors import DatasetError

Look = tuple[int, int] | str | None
"""Width and height in pixels as OpenCV will see them; why not, in words; None for no such file."""
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


class Findings(BaseModel):
    """``findings.json``."""

    model_config = ConfigDict(frozen=True)

    findings: tuple[Finding, ...]
    images: dict[str, int]
    objects: dict[str, int]
    classes: tuple[str, ...]
    split_reason: str

    def raise_if_blocked(self) -> None:
        """Raises: DatasetError, with every blocking finding."""
        blocking = [finding for finding in self.findings if finding.severity == "blocks"]
        if blocking:
            problems = [f"{finding.text} - {finding.hint}" for finding in blocking]
            raise DatasetError.of_problems(
                "the data set cannot be trained on", problems, hint="findings.json lists them all"
            )


def look_at_images(fetched: FetchedDataset, report: Callable[[int, int], None]) -> dict[str, Look]:
    """File name -> what opening the file said."""
    names = [image.file_name for image in fetched.dice.images]
    paths = [fetched.root / fetched.image_paths[name] if name in fetched.image_paths else None for name in names]
    looks: dict[str, Look] = {}
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        for done, (name, look) in enumerate(zip(names, pool.map(_look, paths), strict=True), start=1):
            looks[name] = look
            report(done, len(names))
    return looks


def with_real_sizes(dice: DiceDataset, looks: dict[str, Look]) -> DiceDataset:
    """The data set as the pixels have it, before boxes are judged against the picture's edges."""

    def real(image: DiceImage) -> DiceImage:
        look = looks[image.file_name]
        return msgspec.structs.replace(image, width=look[0], height=look[1]) if isinstance(look, tuple) else image

    return msgspec.structs.replace(dice, images=tuple(map(real, dice.images)))


def judge(conversion: Conversion, fetched: FetchedDataset, looks: dict[str, Look]) -> tuple[Conversion, Findings]:
    """Adds what was seen in the pictures that are used.

    Returns:
        the conversion with file names below the data set's root, and all findings.
    """
    counter = FindingCounter(conversion.findings)
    annotated = {image.file_name: (image.width, image.height) for image in fetched.dice.images}
    for split in conversion.splits.values():
        for image in split.images:
            _count(image.file_name, annotated[image.file_name], looks[image.file_name], counter)
    splits = {name: _with_paths(split, fetched.image_paths) for name, split in conversion.splits.items()}
    found = replace(conversion, splits=splits, findings=counter.findings)
    return found, Findings(
        findings=found.findings,
        images={name: len(split.images) for name, split in splits.items()},
        objects={name: len(split.annotations) for name, split in splits.items()},
        classes=found.class_names,
        split_reason=found.split_reason,
    )


def _look(path: Path | None) -> Look:
    """Decodes every pixel, then asks OpenCV, which does it in training, whether it can too."""
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            picture.load()
            size = picture.size
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
    except UnidentifiedImageError:
        return "not an image" if path.stat().st_size else "empty file"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)
    if not cv2.haveImageReader(str(path)):
        return "a format that OpenCV cannot read"
    return (size[1], size[0]) if turned else size  # OpenCV turns by EXIF, as browsers do; Pillow does not


def _count(name: str, annotated: tuple[int | None, int | None], look: Look, counter: FindingCounter) -> None:
    if look is None:
        counter.add("DS050", name)
    elif isinstance(look, str):
        counter.add("DS051", f"{name}: {look}")
    elif all(annotated) and annotated != look:
        counter.add("DS052", f"{name}: annotated {annotated[0]}x{annotated[1]}, is {look[0]}x{look[1]}")


def _with_paths(split: CocoDataset, paths: dict[str, str]) -> CocoDataset:
    images = [
        msgspec.structs.replace(image, file_name=paths.get(image.file_name, image.file_name)) for image in split.images
    ]
    return msgspec.structs.replace(split, images=images)

"""Looks at every picture before a GPU second is spent, and fixes what is wrong about the paperwork only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from converters import Conversion, Finding
from converters.coco import CocoDataset, CocoImage
from converters.findings import FindingCounter
from trainer_sdk.errors import DatasetError

Size = tuple[int, int]


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


def inspect(
    conversion: Conversion, root: Path, image_paths: dict[str, str], report: Callable[[int, int], None]
) -> tuple[Conversion, Findings]:
    """Opens every image of the conversion.

    Returns:
        the conversion with file names below `root` and sizes as the pixels have them, and all findings.
    """
    counter = FindingCounter(conversion.findings)
    checked = _check_images(conversion, root, image_paths, counter, report)
    splits = {name: _with_images(split, checked) for name, split in conversion.splits.items()}
    found = replace(conversion, splits=splits, findings=counter.findings)
    return found, Findings(
        findings=found.findings,
        images={name: len(split.images) for name, split in splits.items()},
        objects={name: len(split.annotations) for name, split in splits.items()},
        classes=found.class_names,
        split_reason=found.split_reason,
    )


def _check_images(
    conversion: Conversion,
    root: Path,
    image_paths: dict[str, str],
    counter: FindingCounter,
    report: Callable[[int, int], None],
) -> dict[int, CocoImage]:
    """COCO image id -> the image as it really is; unreadable ones are counted and left as annotated."""
    images = [image for split in conversion.splits.values() for image in split.images]
    paths = [root / image_paths[image.file_name] if image.file_name in image_paths else None for image in images]
    checked: dict[int, CocoImage] = {}
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        for done, (image, size) in enumerate(zip(images, pool.map(_look, paths), strict=True), start=1):
            checked[image.id] = _judged(image, image_paths.get(image.file_name), size, counter)
            report(done, len(images))
    return checked


def _look(path: Path | None) -> Size | str | None:
    """Width and height after decoding every pixel; a reason in words; None for no file."""
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.size
    except UnidentifiedImageError:
        return "not an image" if path.stat().st_size else "empty file"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)


def _judged(image: CocoImage, path: str | None, found: Size | str | None, counter: FindingCounter) -> CocoImage:
    if path is None or found is None:
        counter.add("DS050", image.file_name)
        return image
    if isinstance(found, str):
        counter.add("DS051", f"{image.file_name}: {found}")
        return image
    width, height = found
    if image.width and image.height and (width, height) != (image.width, image.height):
        counter.add("DS052", f"{image.file_name}: annotated {image.width}x{image.height}, is {width}x{height}")
    return msgspec.structs.replace(image, file_name=path, width=width, height=height)


def _with_images(split: CocoDataset, checked: dict[int, CocoImage]) -> CocoDataset:
    return msgspec.structs.replace(split, images=[checked[image.id] for image in split.images])

"""Reads DICE annotation files, in both living variants, into one form in memory.

A  the labeler's own: ``classes``, and ``images`` that contain their annotations
B  COCO-like: ``categories``, ``images``, and one list of ``annotations`` that name their image

The reader judges only what it would otherwise lose (annotations of unknown images, ids that contradict each
other). All other judgement is left to the conversion, so boxes and masks stay as they were found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from converters.findings import Finding, FindingCounter
from trainer_sdk.errors import DatasetError

BACKGROUND = "__background__"
"""Marks negative images; never a class to learn. Case matters."""

Id = int | str


class DiceClass(msgspec.Struct, frozen=True):
    """A declared class; ``id`` is any integer and says nothing about the order."""

    id: int
    name: str
    supercategory: str | None = None


class DiceAnnotation(msgspec.Struct, frozen=True):
    """One labelled object, unjudged: ``bbox`` and ``segmentation`` may hold anything JSON can."""

    id: Id | None = None
    class_id: int | None = None
    class_name: str | None = None
    bbox: Any = None
    bbox_format: str | None = None
    segmentation: Any = None
    area: Any = None
    iscrowd: bool = False


class DiceImage(msgspec.Struct, frozen=True):
    """An image and its annotations, in file order."""

    id: Id
    file_name: str
    width: int | None
    height: int | None
    split: str | None
    annotations: tuple[DiceAnnotation, ...]


class DiceDataset(msgspec.Struct, frozen=True):
    """A data set as its author wrote it; ``findings`` are those of the reader."""

    dataset_id: str | None
    task_type: str | None
    classes: tuple[DiceClass, ...]
    images: tuple[DiceImage, ...]
    split_config: dict[str, Any] | None = None
    storage_info: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()


class _FileAnnotation(msgspec.Struct):
    id: Id | None = None
    image_id: Id | None = None
    class_id: int | None = None
    category_id: int | None = None
    class_name: str | None = None
    category_name: str | None = None
    bbox: Any = None
    bbox_format: str | None = None
    segmentation: Any = None
    area: Any = None
    iscrowd: int | bool | None = None


class _FileImage(msgspec.Struct):
    id: Id
    file_name: str | None = None
    width: int | float | None = None
    height: int | float | None = None
    split: Any = None
    annotations: list[_FileAnnotation] | None = None
    annotation: _FileAnnotation | None = None


class _File(msgspec.Struct):
    images: list[_FileImage]
    classes: list[DiceClass] | None = None
    categories: list[DiceClass] | None = None
    annotations: list[_FileAnnotation] | None = None
    dataset_id: Id | None = None
    task_type: str | None = None
    split_config: Any = None
    storage_info: Any = None


def read_dice(raw: bytes) -> DiceDataset:
    """The data set in an annotation file, order kept.

    Raises:
        DatasetError: the bytes are not JSON (says where), or JSON of another structure (says which).
    """
    file = _decode(raw)
    findings = FindingCounter()
    elsewhere = _by_image(file, findings)
    images = tuple(_image(image, elsewhere.pop(str(image.id), ()), findings) for image in file.images)
    return DiceDataset(
        dataset_id=None if file.dataset_id is None else str(file.dataset_id),
        task_type=file.task_type,
        classes=tuple(file.classes if file.classes is not None else file.categories or ()),
        images=images,
        split_config=file.split_config if isinstance(file.split_config, dict) else None,
        storage_info=file.storage_info if isinstance(file.storage_info, dict) else None,
        findings=findings.findings,
    )


def _decode(raw: bytes) -> _File:
    try:
        # Not strict: "7" and 7.0 are accepted where 7 is meant.
        file = msgspec.json.decode(raw, type=_File, strict=False)
    except (ValueError, RecursionError):
        file = _decode_slowly(raw)
    if file.classes is None and file.categories is None:
        raise _unknown_structure(json.loads(raw))
    return file


def _decode_slowly(raw: bytes) -> _File:
    """For what the fast decoder refuses: a byte order mark, NaN and Infinity are let through, the rest is explained."""
    try:
        document = json.loads(raw)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair could never be written again
    except (ValueError, RecursionError) as error:
        raise _not_json(raw, error) from error
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise _unknown_structure(document)
    try:
        return msgspec.convert(document, _File, strict=False)
    except msgspec.ValidationError as error:
        raise DatasetError(
            f"The annotation file has a field of the wrong type: {error}", hint="Correct this field or save again."
        ) from error


def _not_json(raw: bytes, error: Exception) -> DatasetError:
    match error:
        case json.JSONDecodeError():
            byte = len(error.doc[: error.pos].encode(errors="replace"))
            where = f"at byte {byte} of {len(raw)} (line {error.lineno}, column {error.colno}): {error.msg}"
            cut = not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string")
        case UnicodeDecodeError():
            where, cut = f"at byte {error.start} of {len(raw)}: not UTF-8 text", error.end >= len(raw)
        case _:
            where, cut = f"in its {len(raw)} bytes: {error}", False
    if cut:
        hint = "It looks cut off: upload the file again, or save the data set again in the labeler."
    else:
        hint = "Save the data set again in the labeler, or correct the file at this place."
    return DatasetError(f"The annotation file is not valid JSON {where}", hint=hint)


def _unknown_structure(document: Any) -> DatasetError:
    if not isinstance(document, dict):
        return DatasetError(
            f"The annotation file holds a JSON {type(document).__name__}, not an object",
            hint="Accepted: DICE with classes and images, or COCO-like with categories, images and annotations.",
        )
    if {"class_summary", "data_summary"} & document.keys() or {"shapes", "imageHeight"} <= document.keys():
        return DatasetError(
            "The annotation file is DICE v0.9 (label_map.json and one file per image), which is not supported",
            hint="Open the data set in the labeler and save it as format_version 1.0.",
        )
    return DatasetError(
        f"The annotation file has an unknown structure: keys {', '.join(sorted(document)) or '(none)'}",
        hint="Accepted: lists 'classes' and 'images' (DICE), or 'categories', 'images' and 'annotations' (COCO-like).",
    )


def _by_image(file: _File, findings: FindingCounter) -> dict[str, list[_FileAnnotation]]:
    """The top-level annotations of variant B by image id; ids are compared as text, since 7 and "7" both occur."""
    grouped: dict[str, list[_FileAnnotation]] = {str(image.id): [] for image in file.images}
    for annotation in file.annotations or ():
        try:
            grouped[str(annotation.image_id)].append(annotation)
        except KeyError:
            findings.add("DS010", f"annotation {annotation.id}, image_id {annotation.image_id}")
    return grouped


def _image(image: _FileImage, elsewhere: Iterable[_FileAnnotation], findings: FindingCounter) -> DiceImage:
    nested = [*(image.annotations or ()), *([image.annotation] if image.annotation else [])]
    name = image.file_name or ""
    for annotation in nested:
        if annotation.image_id is not None and str(annotation.image_id) != str(image.id):
            findings.add("DS013", f"{name}: annotation {annotation.id}, image_id {annotation.image_id}")
    return DiceImage(
        id=image.id,
        file_name=name,
        width=_side(image.width),
        height=_side(image.height),
        split=None if image.split is None else str(image.split),
        annotations=tuple(_annotation(annotation, name, findings) for annotation in (*nested, *elsewhere)),
    )


def _annotation(found: _FileAnnotation, file_name: str, findings: FindingCounter) -> DiceAnnotation:
    if None not in (found.class_id, found.category_id) and found.class_id != found.category_id:
        where = f"{file_name}: annotation {found.id}"
        findings.add("DS007", f"{where}, class_id {found.class_id} but category_id {found.category_id}")
    return DiceAnnotation(
        id=found.id,
        class_id=found.class_id if found.class_id is not None else found.category_id,
        class_name=found.class_name or found.category_name or None,
        bbox=found.bbox,
        bbox_format=found.bbox_format,
        segmentation=found.segmentation,
        area=found.area,
        iscrowd=bool(found.iscrowd),
    )


def _side(length: float | None) -> int | None:
    """A width or height in pixels; None when missing, not positive, or not a whole number."""
    return int(length) if length and length > 0 and length % 1 == 0 else None

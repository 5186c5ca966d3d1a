"""Reads DICE annotation files, in both living variants, and plain COCO, into one form in memory.

A     the labeler's own: ``classes``, and ``images`` that contain their annotations
B     COCO-like: ``categories``, ``images``, and one list of ``annotations`` that name their image
COCO  is a case of B

The reader judges only what it would otherwise lose (annotations of unknown images, ids that contradict each
other). All other judgement is left to the conversion, so boxes and masks stay as they were found.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from converters.collection import collection_paused
from converters.dice import DiceAnnotation, DiceClass, DiceDataset, DiceImage, Id
from converters.findings import FindingCounter
from converters.json_pieces import NULL, chunks, joined
from trainer_sdk.errors import DatasetError

MAX_SIDE_PX, MAX_PIXELS = 2**20, 2**30
"""OpenCV's CV_IO_MAX_IMAGE_WIDTH and CV_IO_MAX_IMAGE_PIXELS: it opens nothing larger."""
ACCEPTED = "Accepted: lists 'classes' and 'images' (DICE), or 'categories', 'images' and 'annotations' (COCO-like)."


class _Label(msgspec.Struct):
    """Of an annotation, what is wanted at once; the geometry only has to have types that can be decoded later."""

    id: Id | None = None
    image_id: Id | None = None
    class_id: int | None = None
    category_id: int | None = None
    class_name: str | None = None
    category_name: str | None = None
    bbox_format: str | None = None
    iscrowd: int | bool | None = None
    mask_file: str | None = None


class _FileImage(msgspec.Struct):
    id: Id
    file_name: str | None = None
    width: int | float | None = None
    height: int | float | None = None
    split: Any = None
    annotations: list[msgspec.Raw] | None = None
    annotation: msgspec.Raw = NULL
    metadata: Any = None
    seg_file_name: str | None = None


class _File(msgspec.Struct):
    images: list[_FileImage]
    classes: list[DiceClass] | None = None
    categories: list[DiceClass] | None = None
    annotations: list[msgspec.Raw] | None = None
    dataset_id: Id | None = None
    task_type: str | None = None
    split_config: Any = None
    storage_info: Any = None


class _Gathered(msgspec.Struct):
    """An image while its annotations are being collected."""

    image: _FileImage
    annotations: list[DiceAnnotation]
    mask_file: str | None

    def take(self, label: _Label, raw: msgspec.Raw, findings: FindingCounter) -> None:
        if label.mask_file is not None and label.class_id is None and label.category_id is None:
            self.mask_file = label.mask_file  # it stands where annotations stand, but labels every pixel
            return
        class_id = label.category_id if label.class_id is None else label.class_id
        if label.category_id is not None and label.category_id != class_id:
            where = f"{self.image.file_name}: annotation {label.id}"
            findings.add("DS007", f"{where}, class_id {label.class_id} but category_id {label.category_id}")
        name = label.class_name or label.category_name or None
        # One string object per class name instead of one per annotation.
        self.annotations.append(DiceAnnotation(label.id, class_id, name and sys.intern(name), raw))


_LABELS = msgspec.json.Decoder(list[_Label], strict=False)  # not strict: "7" and 7.0 are accepted where 7 is meant


@collection_paused()
def read_dice(raw: bytes) -> DiceDataset:
    """The data set in an annotation file, order kept.

    Raises:
        DatasetError: the bytes are not JSON (says where), or JSON of another structure (says which).
    """
    file = _decode(raw)
    findings = FindingCounter()
    gathered = [_Gathered(image, [], None) for image in file.images]
    _gather_nested(gathered, findings)
    _gather_listed(gathered, file.annotations or [], findings)
    return DiceDataset(
        dataset_id=None if file.dataset_id is None else str(file.dataset_id),
        task_type=file.task_type,
        classes=tuple(file.classes if file.classes is not None else file.categories or ()),
        images=tuple(map(_image, gathered)),
        split_config=_split_config(file, findings),
        storage_info=file.storage_info if isinstance(file.storage_info, dict) else None,
        findings=findings.findings,
    )


def _decode(raw: bytes) -> _File:
    try:
        file = msgspec.json.decode(raw, type=_File, strict=False)
    except (ValueError, RecursionError):
        file = _decode_slowly(raw)
    if file.classes is None and file.categories is None:
        raise _unknown_structure(json.loads(raw))
    return file


def _decode_slowly(raw: bytes) -> _File:
    """For what the fast decoder refuses: a byte order mark, NaN and Infinity are let through, the rest is explained."""
    try:
        document = json.loads(raw, parse_constant=str, parse_float=_finite_or_text)
        text = json.dumps(document, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise _not_json(raw, error) from error
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise _unknown_structure(document)
    try:
        return msgspec.json.decode(text, type=_File, strict=False)
    except (ValueError, RecursionError) as error:
        raise _wrong_type(str(error)) from error


def _finite_or_text(literal: str) -> float | str:
    """As text, what is not finite is no number: the box that holds it is told and left out."""
    number = float(literal)
    return number if math.isfinite(number) else "Infinity"


def _wrong_type(text: str) -> DatasetError:
    return DatasetError(
        f"The annotation file has a field of the wrong type: {text}", hint="Correct this field or save again."
    )


def _not_json(raw: bytes, error: Exception) -> DatasetError:
    if not raw.strip():
        return DatasetError("The annotation file is empty", hint="Upload it again, or save the data set again.")
    match error:
        case json.JSONDecodeError():
            byte = len(error.doc[: error.pos].encode(errors="replace"))
            where = f"at byte {byte} of {len(raw)} (line {error.lineno}, column {error.colno}): {error.msg}"
            cut = not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string")
        case UnicodeDecodeError():
            where, cut = f"at byte {error.start} of {len(raw)}: not UTF-8 text", error.end >= len(raw)
        case RecursionError():
            where, cut = "that can be read: lists or objects in it are nested thousands deep", False
        case _:
            where, cut = f"in its {len(raw)} bytes: {error}", False
    if cut:
        hint = "It looks cut off: upload the file again, or save the data set again in the labeler."
    else:
        hint = "Save the data set again in the labeler, or correct the file at this place."
    return DatasetError(f"The annotation file is not valid JSON {where}", hint=hint)


JSON_WORDS: dict[type, str] = {
    type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object",
}  # fmt: skip


def _unknown_structure(document: Any) -> DatasetError:
    if not isinstance(document, dict):
        found = f"holds {JSON_WORDS.get(type(document), 'a number')}, not an object"
        return DatasetError(f"The annotation file {found}", hint=ACCEPTED)
    if {"class_summary", "data_summary"} & document.keys() or {"shapes", "imageHeight"} <= document.keys():
        return DatasetError(
            "The file is part of a DICE v0.9 data set (label_map.json and one file per image)",
            hint="Give the folder that holds label_map.json.",
        )
    for name in ("classes", "images"):
        if name in document and not isinstance(document[name], list):
            found = JSON_WORDS.get(type(document[name]), "a number")
            return DatasetError(f"The annotation file has {found} as '{name}', not a list", hint=ACCEPTED)
    keys = ", ".join(sorted(document)) or "(none)"
    return DatasetError(f"The annotation file has an unknown structure: keys {keys}", hint=ACCEPTED)


def _labelled(raws: Sequence[msgspec.Raw], where: str) -> Iterator[tuple[_Label, msgspec.Raw]]:
    """The labels of annotations, with the JSON they came from."""
    for start, end in chunks(raws):
        try:
            labels = _LABELS.decode(joined(raws[start:end]))
        except (ValueError, RecursionError) as error:
            raise _wrong_type(f"{where} {start} to {end - 1}: {error}") from error
        yield from zip(labels, raws[start:end], strict=True)


def _gather_nested(gathered: list[_Gathered], findings: FindingCounter) -> None:
    """The annotations inside each image: a list, or a single one in older files."""
    per_image = [[*(one.image.annotations or ()), *_single(one.image)] for one in gathered]
    flat = _labelled([raw for raws in per_image for raw in raws], "nested annotations")
    for one, raws in zip(gathered, per_image, strict=True):
        for label, raw in islice(flat, len(raws)):
            if label.image_id is not None and str(label.image_id) != str(one.image.id):
                example = f"{one.image.file_name}: annotation {label.id}, image_id {label.image_id}"
                findings.add("DS013", example)
            one.take(label, raw, findings)


def _split_config(file: _File, findings: FindingCounter) -> dict[str, Any] | None:
    if file.split_config and not isinstance(file.split_config, dict):
        findings.add("DS039", f"{file.split_config!r:.100}")
    return file.split_config if isinstance(file.split_config, dict) else None


def _single(image: _FileImage) -> list[msgspec.Raw]:
    return [] if bytes(image.annotation) == bytes(NULL) else [image.annotation]


def _gather_listed(gathered: list[_Gathered], raws: list[msgspec.Raw], findings: FindingCounter) -> None:
    """The top-level annotations of variant B; ids are compared as text, since 7 and "7" both occur."""
    by_id = {str(one.image.id): one for one in reversed(gathered)}
    for label, raw in _labelled(raws, "annotations"):
        one = by_id.get(str(label.image_id))
        if one is None:
            findings.add("DS010", f"annotation {label.id}, image_id {label.image_id}")
        else:
            one.take(label, raw, findings)


def _image(gathered: _Gathered) -> DiceImage:
    image = gathered.image
    width, height = _size(image)
    return DiceImage(
        id=image.id,
        file_name=image.file_name or "",
        width=width,
        height=height,
        split=None if image.split is None else str(image.split),
        annotations=tuple(gathered.annotations),
        mask_file=gathered.mask_file or image.seg_file_name,
        metadata=image.metadata if isinstance(image.metadata, dict) else None,
    )


def _size(image: _FileImage) -> tuple[int | None, int | None]:
    """Width and height in pixels; None when missing, not positive, not whole, or more than OpenCV would open."""
    width, height = (
        int(side) if side and 0 < side <= MAX_SIDE_PX and side % 1 == 0 else None
        for side in (image.width, image.height)
    )
    return (None, None) if (width or 0) * (height or 0) > MAX_PIXELS else (width, height)

"""Reads DICE v0.9, the LabelMe-like ancestor: ``label_map.json`` and one label file per image.

It is rewritten as the labeler's own variant and read as such, so everything after this is shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from converters.dice import BACKGROUND, DiceDataset
from converters.dice_reader import read_dice
from converters.findings import FindingCounter
from converters.geometry import finite_numbers, polygons_box_xywh
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

LABEL_MAP_FILE = "label_map.json"
BACKGROUND_V09 = "_background_"
READERS = 16
"""Label files are small and may lie on S3, where every one of them is a round trip."""

_ABSOLUTE = re.compile(r"[a-z0-9]+://|[/\\]|[a-z]:[/\\]", re.IGNORECASE)


class _Class(msgspec.Struct):
    name: str
    idx: int
    color: Any = None


class _ClassSummary(msgspec.Struct):
    classes: list[_Class]


class _Entry(msgspec.Struct):
    img_path: str | None = None
    label_path: str | None = None
    mask_path: str | None = None


class _LabelMap(msgspec.Struct):
    class_summary: _ClassSummary
    data_summary: list[_Entry]
    task_type: str | None = None


class _Shape(msgspec.Struct):
    label: str | None = None
    points: Any = None
    shape_type: str | None = None
    group_id: int | str | None = None


class _LabelFile(msgspec.Struct):
    shapes: list[_Shape] = []
    split: Any = None
    imageHeight: Any = None  # noqa: N815  (the file's own names)
    imageWidth: Any = None  # noqa: N815


def read_v09(label_map: bytes, read: Callable[[str], bytes | None]) -> DiceDataset:
    """The data set that a label map lists, images in its order, numbered from 1.

    Image paths may be relative, absolute or ``s3://``; file names are what follows their common ``images/`` folder (or
    simply their common folder), which becomes ``storage_info.image_root``.

    Args:
        read: a ``label_path`` as written in the label map -> the file, None if there is none; called from threads.

    Raises:
        DatasetError: the label map is not JSON, or of another structure. Label files are told as DS080.
    """
    try:
        listed = msgspec.json.decode(label_map, type=_LabelMap, strict=False)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{LABEL_MAP_FILE} cannot be read: {error}", hint="Save the data set again.") from error
    entries, findings = listed.data_summary, FindingCounter()
    root = _image_root([entry.img_path for entry in entries if entry.img_path])
    by_shape = _classified if listed.task_type == "cls" else _objects
    images, numbers = [], count(1)
    for number, (entry, file) in enumerate(_label_files(entries, read, findings), start=1):
        name = (entry.img_path or "").removeprefix(root)
        mask = None if entry.mask_path is None else {"mask_file": _mask_file(entry.mask_path)}
        found = by_shape(file.shapes, name, findings)
        numbered = [{"id": one_id, **one} for one, one_id in zip(found, numbers, strict=False)]
        image = {
            "id": number, "file_name": name, "width": file.imageWidth, "height": file.imageHeight, "split": file.split,
            "annotations": numbered, "annotation": mask,
        }  # fmt: skip
        images.append(msgspec.Raw(msgspec.json.encode(image)))
    document = {
        "task_type": _task(listed),
        "classes": [
            {"id": one.idx, "name": _name(one.name), "color": one.color} for one in listed.class_summary.classes
        ],
        "storage_info": {"image_root": root} if root else None,
        "images": images,
    }
    dataset = read_dice(msgspec.json.encode(document))
    return replace(dataset, findings=FindingCounter((*dataset.findings, *findings.findings)).findings)


def read_v09_folder(folder: Path) -> DiceDataset:
    """The data set of a local folder; label files are found below it, wherever the label map was written."""
    label_map = (folder / LABEL_MAP_FILE).read_bytes()
    return read_v09(label_map, lambda path: _read_below(folder, path))


def _read_below(folder: Path, path: str) -> bytes | None:
    """The file at the longest end of a path that exists in the folder: the beginning may be of another machine."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".")]
    if ".." in parts:
        return None
    for start in range(len(parts)):
        candidate = folder.joinpath(*parts[start:])
        if candidate.is_file():
            return candidate.read_bytes()
    return None


def _task(listed: _LabelMap) -> str:
    if listed.task_type == "cls":
        return Task.CLASSIFICATION.value
    return (Task.SEMANTIC if any(entry.mask_path for entry in listed.data_summary) else Task.DETECTION).value


def _label_files(
    entries: Sequence[_Entry], read: Callable[[str], bytes | None], findings: FindingCounter
) -> Iterator[tuple[_Entry, _LabelFile]]:
    """The images whose label file can be read, and what is in it."""
    with ThreadPoolExecutor(READERS) as pool:
        raws = pool.map(lambda entry: read(entry.label_path) if entry.label_path else None, entries)
        for entry, raw in zip(entries, raws, strict=True):
            where = f"{entry.img_path}: {entry.label_path}"
            if raw is None:
                findings.add("DS080", f"{where} is missing")
                continue
            try:
                file = msgspec.json.decode(raw, type=_LabelFile, strict=False)
            except (ValueError, RecursionError) as error:
                findings.add("DS080", f"{where}: {error}")
                continue
            yield entry, file


def _objects(shapes: Sequence[_Shape], image: str, findings: FindingCounter) -> Iterator[dict[str, Any]]:
    """Rectangles as boxes, polygons as masks; polygons of one label and group are parts of one object.

    Objects keep the order of their first shape: semantic masks are drawn in it.
    """
    objects: list[dict[str, Any]] = []
    parts_of_group: dict[tuple[int | str, str | None], list[list[float]]] = {}
    for shape in shapes:
        points = _flat_points(shape.points)
        if shape.shape_type == "rectangle" and points is not None and len(points) >= 4:
            objects.append({"class_name": _name(shape.label), "bbox": polygons_box_xywh([points])})
        elif shape.shape_type == "polygon" and points is not None:
            parts = [] if shape.group_id is None else parts_of_group.setdefault((shape.group_id, shape.label), [])
            if not parts:
                objects.append({"class_name": _name(shape.label), "segmentation": parts})
            parts.append(points)
        else:
            findings.add("DS081", f"{image}: {shape.label}, {shape.shape_type}", file=image)
    for one in objects:
        yield one if "bbox" in one else {**one, "bbox": polygons_box_xywh(one["segmentation"])}


def _classified(shapes: Sequence[_Shape], image: str, findings: FindingCounter) -> Iterator[dict[str, Any]]:
    """The labels of the whole image; where their shapes lie says nothing."""
    del image, findings
    for shape in shapes:
        yield {"class_name": _name(shape.label)}


def _flat_points(found: Any) -> list[float] | None:
    """``[[x, y], ...]`` as ``[x, y, ...]``."""
    if not isinstance(found, list) or not found:
        return None
    points = [finite_numbers(point) for point in found]
    if any(point is None or len(point) != 2 for point in points):
        return None
    return [number for point in points if point is not None for number in point]


def _name(name: str | None) -> str | None:
    return BACKGROUND if name == BACKGROUND_V09 else name


def _image_root(paths: Sequence[str]) -> str:
    """The folder that all paths begin with, with a slash at its end; empty for relative paths."""
    if not paths or not all(_ABSOLUTE.match(path) for path in paths):
        return ""
    steps = zip(*(path.split("/")[:-1] for path in paths), strict=False)  # commonpath would make s3:/ of s3://
    common = "".join(f"{step[0]}/" for step in takewhile(lambda step: len(set(step)) == 1, steps))
    images = common.find("/images/")
    return common if images < 0 else common[: images + len("/images/")]


def _mask_file(path: str) -> str:
    """From ``masks/`` on, as DICE 1.0 has it; a path without such a folder stays, for `layout.py` to search."""
    place = path.find("/masks/")
    return path if place < 0 or not _ABSOLUTE.match(path) else path[place + 1 :]

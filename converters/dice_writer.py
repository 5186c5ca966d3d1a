"""Writes a DICE annotation file, as the labeler's own variant has it: classes, and images that contain annotations.

Nothing is judged and nothing is lost: boxes, masks and areas pass as the JSON they are. Only keypoints change their
form, from COCO's flat list to DICE's points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from converters.collection import collection_paused
from converters.dice import DiceAnnotation, DiceClass, DiceDataset, DiceImage
from converters.json_pieces import NULL, decode_each, joined
from converters.layout import annotation_file_names
from converters.split import SPLIT_NAMES
from converters.whole_file import write_whole
from trainer_sdk.tasks import Task

FORMAT_VERSION = "1.0"
ANNOTATIONS_A_WRITE = 5_000


class _Found(msgspec.Struct):
    """What an annotation says, in either format; what is absent is `NULL`."""

    bbox: msgspec.Raw = NULL
    bbox_format: str | None = None
    area: msgspec.Raw = NULL
    iscrowd: int | bool | None = None
    segmentation: msgspec.Raw = NULL
    keypoints: msgspec.Raw = NULL
    num_keypoints: msgspec.Raw = NULL
    attributes: msgspec.Raw = NULL


class _Annotation(msgspec.Struct):
    id: Any
    image_id: Any
    class_id: Any
    class_name: Any
    bbox: Any
    bbox_format: Any
    area: Any
    iscrowd: int
    segmentation: Any
    keypoints: Any
    num_keypoints: Any
    attributes: Any


class _Image(msgspec.Struct):
    id: Any
    file_name: str
    width: int | None
    height: int | None
    split: str | None
    annotations: Any = UNSET
    annotation: Any = UNSET
    metadata: Any = UNSET


_FOUND = msgspec.json.Decoder(list[_Found], strict=False)
_FLAT = msgspec.json.Decoder(list[list[int | float] | None])


def write_dice(dataset: DiceDataset, task: Task, folder: Path, **header: Any) -> Path:
    """Writes the file under the name that the task asks for, whole or not at all; ``header`` as in `encode_dice`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / annotation_file_names(task)[0]
    with collection_paused():
        write_whole(path, encode_dice(dataset, task, **header))
    return path


def encode_dice(
    dataset: DiceDataset,
    task: Task,
    *,
    dataset_id: str | None = None,
    dataset_name: str | None = None,
    version: int = 1,
) -> Iterator[bytes]:
    """The annotation file, piece by piece; equal data sets give equal bytes, so no time of writing is in it.

    Args:
        dataset_id: where the data set has none of its own; the platform's is the name of its folder.
    """
    identity = dataset.dataset_id or dataset_id or dataset_name or "dataset"
    header = {
        "format_version": FORMAT_VERSION,
        "dataset_id": identity,
        "dataset_name": dataset_name or identity,
        "task_type": task.value,
        "version": version,
        "classes": [_class(declared) for declared in dataset.classes],
        "splits": _split_counts(dataset),
        "statistics": _statistics(dataset),
        **{key: value for key in ("split_config", "storage_info") if (value := getattr(dataset, key))},
    }
    yield msgspec.json.encode(header)[:-1] + b',"images":['
    names = {declared.id: declared.name for declared in dataset.classes}
    separator = b""
    for images in _runs(dataset.images):
        yield separator + msgspec.json.encode(_written(images, names))[1:-1]
        separator = b","
    yield b"]}"


def _class(declared: DiceClass) -> dict[str, Any]:
    form = msgspec.structs.asdict(declared)
    return {key: value for key, value in form.items() if value is not None}


def _split_counts(dataset: DiceDataset) -> dict[str, int]:
    counts = Counter(image.split for image in dataset.images if image.split)
    return {name: counts[name] for name in dict.fromkeys((*SPLIT_NAMES, *counts))}


def _statistics(dataset: DiceDataset) -> dict[str, Any]:
    names = {declared.id: declared.name for declared in dataset.classes}
    used = Counter(_class_name(one, names) for image in dataset.images for one in image.annotations)
    total = sum(used.values()) + sum(image.mask_file is not None for image in dataset.images)
    return {
        "total_images": len(dataset.images),
        "total_annotations": total,
        "avg_annotations_per_image": round(total / max(len(dataset.images), 1), 2),
        "class_distribution": {declared.name: used[declared.name] for declared in dataset.classes},
        "split_distribution": _split_counts(dataset),
        "num_classes": len(dataset.classes),
    }


def _runs(images: Sequence[DiceImage]) -> Iterator[Sequence[DiceImage]]:
    """Images in runs of some thousand annotations."""
    start = count = 0
    for position, image in enumerate(images):
        count += len(image.annotations) + 1
        if count >= ANNOTATIONS_A_WRITE:
            yield images[start : position + 1]
            start, count = position + 1, 0
    if start < len(images):
        yield images[start:]


def _written(images: Sequence[DiceImage], names: dict[int, str]) -> list[_Image]:
    found = _FOUND.decode(joined([annotation.json for image in images for annotation in image.annotations]))
    flat = decode_each([one.keypoints for one in found], _FLAT.decode)
    pieces = iter(zip(found, flat, strict=True))
    written = []
    for image in images:
        annotations = [_annotation(one, *next(pieces), image, names) for one in image.annotations]
        mask = {"mask_file": image.mask_file, "mask_format": "indexed_png", "num_classes": len(names)}
        written.append(
            _Image(
                image.id, image.file_name, image.width, image.height, image.split,
                annotations=annotations if annotations or image.mask_file is None else UNSET,
                annotation=UNSET if image.mask_file is None else mask,
                metadata=image.metadata or UNSET,
            )
        )  # fmt: skip
    return written


def _annotation(
    source: DiceAnnotation, found: _Found, flat: list[int | float] | None, image: DiceImage, names: dict[int, str]
) -> _Annotation:
    points = [flat[start : start + 3] for start in range(0, len(flat), 3)] if flat else None
    labelled = None if points is None else sum(len(point) == 3 and point[2] > 0 for point in points)
    return _Annotation(
        id=_given(source.id),
        image_id=image.id,
        class_id=_given(source.class_id),
        class_name=_given(_class_name(source, names)),
        bbox=_present(found.bbox),
        bbox_format=UNSET if _present(found.bbox) is UNSET else found.bbox_format or "xywh",
        area=_present(found.area),
        iscrowd=int(found.iscrowd or 0),
        segmentation=_present(found.segmentation),
        keypoints=_present(found.keypoints) if points is None else points,
        num_keypoints=_given(labelled) if _present(found.num_keypoints) is UNSET else found.num_keypoints,
        attributes={} if _present(found.attributes) is UNSET else found.attributes,
    )


def _class_name(annotation: DiceAnnotation, names: dict[int, str]) -> str | None:
    return annotation.class_name or (None if annotation.class_id is None else names.get(annotation.class_id))


def _given(value: Any) -> Any:
    return UNSET if value is None else value


def _present(raw: msgspec.Raw) -> Any:
    return UNSET if memoryview(raw).nbytes == len("null") and bytes(raw) == b"null" else raw

"""What was found as a DICE data set: pre-annotations that a labeler corrects, or a training takes as labels.

They wait in a file until all are known, since the head of a DICE file counts what follows; from there the converters'
own writer takes them, some thousand at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, overload

import msgspec
import orjson

from converters.dice import BACKGROUND, DiceAnnotation, DiceClass, DiceDataset, DiceImage
from converters.dice_writer import write_dice
from converters.semantic import BACKGROUND_CLASS
from mmtrain.predicting.found import Classes, Seen
from mmtrain.predicting.rows import dice_annotation
from mmtrain.predicting.writers import MASKS
from trainer_sdk.tasks import Task


class _Line(msgspec.Struct):
    """One picture in the spool."""

    id: int
    file_name: str
    width: int
    height: int
    annotations: list[msgspec.Raw]
    mask_file: str | None = None


class _Label(msgspec.Struct):
    id: int
    category_id: int


class Spool:
    """Pre-annotations on their way; pictures that could not be looked at are left out."""

    def __init__(self, path: Path, classes: Classes) -> None:
        self._path, self._classes = path, classes
        self._file = path.open("wb")
        self._offsets = array("q")
        self._numbers = count(1)

    def add(self, seen: Seen) -> None:
        if seen.error:
            return
        number = seen.item.number
        line: dict[str, Any] = {
            "id": number,
            "file_name": seen.item.file_name,
            "width": seen.width,
            "height": seen.height,
            "annotations": [dice_annotation(one, next(self._numbers), number, self._classes) for one in seen.objects],
        }
        if seen.painted is not None:
            path = Path(seen.item.path)
            line["mask_file"] = f"{MASKS}/{path.with_name(path.stem + '.png').as_posix()}"
        self._offsets.append(self._file.tell())
        self._file.write(orjson.dumps(line) + b"\n")

    def write(self, task: Task, folder: Path, points: Points | None = None) -> Path:
        """The DICE file in `folder`, under the name that the task asks for; the spool is gone then."""
        self._file.close()
        images = _Images(self._path, self._offsets, self._classes)
        declared = tuple(map(self._declared, range(len(self._classes)), [points] * len(self._classes)))
        dataset = DiceDataset(None, task.value, declared, images)  # type: ignore[arg-type]  # a tuple's verbs suffice
        written = write_dice(dataset, task, folder, dataset_name="predictions")
        self._path.unlink()
        return written

    def _declared(self, index: int, points: Points | None) -> DiceClass:
        name = self._classes.names[index]
        name = BACKGROUND if name == BACKGROUND_CLASS else name
        return DiceClass(id=self._classes.ids[index], name=name, keypoints=list(points.names) if points else None)


class Points(msgspec.Struct, frozen=True):
    """Of a pose model."""

    names: tuple[str, ...]


class _Images(Sequence[DiceImage]):
    """The pictures of a spool, read when they are asked for."""

    def __init__(self, path: Path, offsets: array[int], classes: Classes) -> None:
        self._path, self._offsets = path, offsets
        self._names = dict(zip(classes.ids, classes.names, strict=True))

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[DiceImage]:
        with self._path.open("rb") as file:
            yield from map(self._image, file)

    @overload
    def __getitem__(self, which: int) -> DiceImage: ...
    @overload
    def __getitem__(self, which: slice) -> list[DiceImage]: ...
    def __getitem__(self, which: int | slice) -> DiceImage | list[DiceImage]:
        if isinstance(which, int):
            return self[which : which + 1][0]
        start, stop, _ = which.indices(len(self))
        with self._path.open("rb") as file:
            file.seek(self._offsets[start])
            return [self._image(file.readline()) for _ in range(start, stop)]

    def _image(self, raw: bytes) -> DiceImage:
        line = msgspec.json.decode(raw, type=_Line)
        labels = [msgspec.json.decode(one, type=_Label) for one in line.annotations]
        annotations = tuple(
            DiceAnnotation(label.id, label.category_id, self._names[label.category_id], msgspec.Raw(bytes(one)))
            for label, one in zip(labels, line.annotations, strict=True)
        )
        return DiceImage(line.id, line.file_name, line.width, line.height, None, annotations, line.mask_file)

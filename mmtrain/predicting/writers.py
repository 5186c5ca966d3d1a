"""Writes what was found, picture by picture: nothing grows with the number of pictures but the files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import orjson
from PIL import Image
from pydantic import BaseModel, ConfigDict

from mmtrain.predicting.found import Classes, Found, Seen
from mmtrain.predicting.rows import Row, coco_rows, drawn_annotations, label_lines, platform_row
from mmtrain.reports.drawing import Skeleton, drawn, painted

PREDICTIONS, COCO_RESULTS = "predictions.json", "coco_results.json"
IMAGES, LABELS, CROPS, MASKS = "images", "labels", "crops", "masks"
NAMES = "classes.txt"
"""In `LABELS`: the names of the class indices."""


class Wanted(BaseModel):
    """Which files, by CONFIG's names."""

    model_config = ConfigDict(frozen=True)

    save_images: bool = True
    save_txt: bool = True
    save_conf: bool = True
    save_crop: bool = False


class Rows(NamedTuple):
    """What one picture adds to the files of all pictures."""

    platform: Row
    coco: list[Row]


class JsonList:
    """A JSON list that is written as it comes, inside an object if there is a `head`; there whole or not at all."""

    def __init__(self, path: Path, head: str = "") -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file: IO[bytes] = self._part.open("wb")
        self._file.write(f'{{"{head}":['.encode() if head else b"[")
        self._head, self._first = head, True

    def add(self, value: Any) -> None:
        self._file.write((b"\n" if self._first else b",\n") + orjson.dumps(value))
        self._first = False

    def close(self, tail: dict[str, Any] | None = None) -> None:
        """With what is only known in the end."""
        self._file.write(b"\n]")
        if self._head:
            self._file.write((b"," + orjson.dumps(tail)[1:]) if tail else b"}")
        self._file.close()
        self._part.replace(self._path)


class PictureFiles:
    """Writes the files of single pictures; called from several threads."""

    def __init__(self, folder: Path, classes: Classes, wanted: Wanted, skeleton: Skeleton | None = None) -> None:
        self._folder, self._classes, self._wanted = folder, classes, wanted
        self._skeleton = skeleton
        self._unpainted = [index for index, name in enumerate(classes.names) if name == "background"]
        if wanted.save_txt:
            (folder / LABELS).mkdir(parents=True, exist_ok=True)
            (folder / LABELS / NAMES).write_text("".join(f"{name}\n" for name in classes.names))

    def write(self, seen: Seen) -> Rows:
        """All that is wanted of it. Raises: OSError."""
        if seen.picture is not None:
            if self._wanted.save_images:
                self._annotated(seen)
            if self._wanted.save_crop:
                self._crops(seen)
        if not seen.error:
            if seen.painted is not None:
                self._mask(seen)
            elif self._wanted.save_txt:
                lines = label_lines(seen, with_confidence=self._wanted.save_conf)
                self._target(LABELS, seen, ".txt").write_text("".join(f"{line}\n" for line in lines))
        return Rows(platform_row(seen, self._classes), coco_rows(seen, self._classes))

    def _annotated(self, seen: Seen) -> None:
        assert seen.picture is not None
        height, width = seen.picture.shape[:2]
        rgb = np.asarray(seen.picture[..., ::-1], dtype=np.uint8)
        if seen.painted is not None:
            canvas = painted(rgb, seen.painted.indices, (width, height), self._unpainted)
        else:
            canvas = drawn(
                rgb,
                drawn_annotations(seen),
                self._classes.names,
                max_size=(width, height),
                masks=any(found.rle for found in seen.objects),
                skeleton=self._skeleton,
                label_size=max(11, min(height, width) // 45),
            )
        self._save(self._target(IMAGES, seen), np.asarray(canvas)[..., ::-1])

    def _crops(self, seen: Seen) -> None:
        assert seen.picture is not None
        for number, found in enumerate(seen.objects, start=1):
            part = cropped(seen.picture, found)
            if part.size:
                name = _safe(self._classes.names[found.label])
                target = self._target(f"{CROPS}/{name}", seen, f"_{number}.jpg")
                self._save(target, part)

    def _mask(self, seen: Seen) -> None:
        """The class map as a picture of the ids that the data set has for its classes, 255 for none."""
        assert seen.painted is not None
        table = np.full(256, 255, dtype=np.uint16)
        table[: len(self._classes)] = self._classes.ids
        ids = table[seen.painted.indices]
        small = ids.max() < 2**8
        Image.fromarray(ids.astype(np.uint8) if small else ids).save(self._target(MASKS, seen, ".png"))

    def _target(self, folder: str, seen: Seen, ending: str | None = None) -> Path:
        path = PurePosixPath(seen.item.path)
        target = self._folder / folder / (path if ending is None else path.with_name(path.stem + ending))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @staticmethod
    def _save(target: Path, picture: Any) -> None:
        whole, data = cv2.imencode(target.suffix.lower(), np.ascontiguousarray(picture))
        if not whole:
            raise OSError(f"OpenCV cannot write {target}")
        target.write_bytes(data.tobytes())


def cropped(picture: np.ndarray[Any, Any], found: Found) -> np.ndarray[Any, Any]:
    """What is in a box, as far as the box is in the picture."""
    height, width = picture.shape[:2]
    left, top, right, bottom = found.box_xyxy
    return picture[
        max(0, int(top)) : min(height, int(np.ceil(bottom))), max(0, int(left)) : min(width, int(np.ceil(right)))
    ]


def _safe(name: str) -> str:
    """A class name as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip(". ") or "_"

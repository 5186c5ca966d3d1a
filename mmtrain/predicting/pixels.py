"""From an address to pixels: files are decoded in threads, the frames of a video one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from mmtrain.predicting.found import FRAME_MARK, Bgr, Item
from mmtrain.predicting.inputs import SCHEME, Entry, Places, is_video, numbered, split_address
from trainer_sdk.errors import DatasetError
from trainer_sdk.storage.protocol import MissingObject


class Pending(NamedTuple):
    """A picture to be decoded, or a frame that already is."""

    item: Item
    frame: Bgr | None = None
    error: str = ""


def decoded(raw: bytes) -> Bgr:
    """The picture in the bytes of a file, turned by EXIF and reduced to 8 bits, as training sees it.

    Raises:
        DatasetError: it is none, or a damaged one.
    """
    if not raw:
        raise DatasetError("empty file (0 bytes)")
    try:
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than OpenCV allows
        raise DatasetError(f"OpenCV cannot decode it: {error.err}") from error
    if picture is None:
        raise DatasetError("not an image, or a damaged one")
    return np.asarray(picture, dtype=np.uint8)


def pending(found: Iterable[Entry], places: Places, folder: Path) -> Iterator[Pending]:
    """Every picture, and every frame of every video; `folder` holds a video of a bucket while it is read."""
    counter = count(1)
    for item in numbered(found):
        for one in frames(item, places, folder) if is_video(item.address) else (Pending(item),):
            yield one._replace(item=replace(one.item, number=next(counter)))


def frames(item: Item, places: Places, folder: Path) -> Iterator[Pending]:
    """The frames of a video; one error row for a video that cannot be opened."""
    with tempfile.TemporaryDirectory(dir=folder) as fetched:
        try:
            path = _here(item.address, places, Path(fetched))
        except DatasetError as error:
            yield Pending(item, error=error.message)
            return
        video = cv2.VideoCapture(str(path))
        try:
            seen = 0
            while (read := video.read())[0]:
                yield Pending(_frame_item(item, seen), np.asarray(read[1], dtype=np.uint8))
                seen += 1
            if not seen:
                yield Pending(item, error="no frame of this video can be decoded")
        finally:
            video.release()


def _here(address: str, places: Places, folder: Path) -> Path:
    if not address.startswith(SCHEME):
        return Path(address)
    bucket, key = split_address(address)
    target = folder / PurePosixPath(key).name
    try:
        places.storage(bucket).download(key, target)
    except MissingObject as error:
        raise DatasetError(f"there is no {address}") from error
    return target


def _frame_item(item: Item, position: int) -> Item:
    path = PurePosixPath(item.path)
    name = path.with_name(f"{path.stem}_{position:06d}.jpg").as_posix()
    return Item(item.number, f"{item.address}{FRAME_MARK}{position}", name, name)

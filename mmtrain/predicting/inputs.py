"""Which pictures to look at: folders, files, ``s3://`` prefixes, JSON lists, videos, one after the other.

Nothing is listed whole: a prefix of a million objects costs one page of a thousand names at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import orjson

from mmtrain.predicting.found import Box, Item
from trainer_sdk.errors import ConfigError, DatasetError
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage

SCHEME = "s3://"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
LIST = ".json"
INFERENCE_BUCKET = "inference-data"
"""The platform's, in its internal storage beside the checkpoints; every other bucket is an external one."""
FORMS = f"pictures ({', '.join(PICTURES)}), videos ({', '.join(VIDEOS)}), or a .json list of pictures"


class Entry(NamedTuple):
    """Something to open, not numbered yet."""

    address: str
    path: str
    """Relative, below the folder or prefix it was found in."""
    boxes_xyxy: tuple[Box, ...] = ()


class Places:
    """Where addresses lead to; one client for each bucket, used by all threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Storage] = {}

    def storage(self, bucket: str) -> Storage:
        """On the bucket's side of the platform (contract, section 5)."""
        if bucket not in self._open:
            ours = bucket in (self._settings.checkpoints.bucket, INFERENCE_BUCKET)
            side = self._settings.checkpoints if ours else self._settings.datasets
            self._open[bucket] = open_storage(side, bucket)
        return self._open[bucket]

    def read(self, address: str) -> bytes:
        """The bytes of a picture.

        Raises:
            OSError, DatasetError: it is gone or cannot be read.
            NetworkError: the storage cannot be reached or refuses us.
        """
        if not address.startswith(SCHEME):
            return Path(address).read_bytes()
        bucket, key = split_address(address)
        try:
            return self.storage(bucket).read(key)
        except MissingObject as error:
            raise DatasetError(f"there is no {address}") from error


def split_address(address: str) -> tuple[str, str]:
    """``s3://bucket/key`` -> (bucket, key). Raises: ConfigError."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ConfigError(f"{address!r} names no bucket", hint="give s3://bucket/prefix/")
    return bucket, key


def entries(sources: Sequence[str], places: Places) -> Iterator[Entry]:
    """All of them, in the order of the sources, each source's in order of name.

    Raises:
        ConfigError: a source that is none, or of an unknown form.
        DatasetError: a list that cannot be read.
        NetworkError: the storage cannot be reached or refuses us.
    """
    for source in sources:
        yield from _of_prefix(source, places) if source.startswith(SCHEME) else _of_path(_local(source), places)


def numbered(found: Iterable[Entry]) -> Iterator[Item]:
    """Items, from 1; of two that would write the same files, the later one has its number in its path."""
    seen: set[int] = set()
    for number, entry in enumerate(found, start=1):
        path = PurePosixPath(entry.path)
        stem = hash(path.with_suffix(""))  # numbers, not texts: a hundred thousand names would be kept
        if stem in seen:
            path = path.with_name(f"{path.stem}_{number}{path.suffix}")
        seen.add(stem)
        yield Item(number, entry.address, entry.path, path.as_posix(), entry.boxes_xyxy)


def none_found(sources: Sequence[str]) -> DatasetError:
    """What to say when the iterator was empty."""
    return DatasetError(f"no pictures in {', '.join(sources)}", hint=f"give {FORMS}")


def is_video(address: str) -> bool:
    """By its name."""
    return address.lower().endswith(VIDEOS)


def _local(source: str) -> Path:
    """``file:///folder`` is a folder too."""
    return Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)


def _of_path(path: Path, places: Places) -> Iterator[Entry]:
    if path.is_dir():
        files = (file for file in _walk(path) if file.suffix.lower() in PICTURES + VIDEOS)
        yield from (Entry(str(file), file.relative_to(path).as_posix()) for file in files)
    elif not path.is_file():
        raise ConfigError(f"there is no file or folder {path}", hint="IMAGES_PATH: a folder, a file or an s3:// prefix")
    elif path.suffix.lower() == LIST:
        yield from _of_list(path.read_bytes(), str(path), lambda name: str(path.parent / name), places)
    else:
        yield _single(str(path), path.name)


def _walk(folder: Path) -> Iterator[Path]:
    """Files below, in order of name, without holding those of other folders."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def _of_prefix(address: str, places: Places) -> Iterator[Entry]:
    bucket, key = split_address(address)
    name = key.rpartition("/")[2]
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == LIST:
        base = address.rpartition("/")[0]
        yield from _of_list(places.read(address), address, lambda entry: f"{base}/{entry}", places)
    elif suffix in PICTURES + VIDEOS:
        yield _single(address, name)
    else:
        prefix = f"{key.rstrip('/')}/" if key else ""
        keys = (
            one.key for one in places.storage(bucket).objects(prefix) if one.key.lower().endswith(PICTURES + VIDEOS)
        )
        yield from (Entry(f"{SCHEME}{bucket}/{key}", key.removeprefix(prefix)) for key in keys)


def _single(address: str, name: str) -> Entry:
    if not name.lower().endswith(PICTURES + VIDEOS):
        raise ConfigError(f"{address}: this is no picture by its name", hint=f"known are {FORMS}")
    return Entry(address, name)


def _of_list(raw: bytes, where: str, resolve: Callable[[str], str], places: Places) -> Iterator[Entry]:
    """``["a.jpg", "s3://...", {"file": "b.jpg", "boxes": [[x, y, w, h], ...]}]``; relative names are beside the list.

    Raises: DatasetError: all that is wrong in it.
    """
    try:
        listed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"{where} is no JSON: {error}") from error
    if not isinstance(listed, list):
        raise DatasetError(f"{where} holds {type(listed).__name__}, not a list", hint='give ["a.jpg", ...]')
    wrong = [f"entry {number}: {problem}" for number, one in enumerate(listed) if (problem := _problem(one))]
    if wrong:
        raise DatasetError.of_problems(where, wrong[:20])
    for one in listed:
        name = one if isinstance(one, str) else one["file"]
        boxes = () if isinstance(one, str) else tuple((x, y, x + w, y + h) for x, y, w, h in one.get("boxes", ()))
        address = name if name.startswith((SCHEME, "/")) else resolve(name)
        yield Entry(address, _below(name), boxes)


def _problem(one: object) -> str:
    if isinstance(one, dict):
        boxes = one.get("boxes", [])
        if not isinstance(boxes, list) or not all(_is_box(box) for box in boxes):
            return "boxes are [[x, y, width, height], ...]"
        one = one.get("file")
    if not isinstance(one, str) or not one:
        return "is neither a name nor {file, boxes}"
    return "" if one.lower().endswith(PICTURES + VIDEOS) else f"{one!r} is no picture by its name"


def _is_box(box: object) -> bool:
    numbers = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    return numbers and box[2] > 0 and box[3] > 0  # type: ignore[index]


def _below(name: str) -> str:
    """A relative path without steps upwards: output files stay in the job's folder."""
    if name.startswith((SCHEME, "/")):
        return name.rpartition("/")[2]
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part != "..")).as_posix()


def first_of(found: Iterator[Entry]) -> tuple[Entry | None, Iterator[Entry]]:
    """The first one, and all of them all the same."""
    first = next(found, None)
    return first, found if first is None else itertools.chain([first], found)

"""Where the bytes of a picture come from: a folder on this machine, or a bucket it stays in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mmtrain.datasets.stream import ImageStream, StreamedImages, open_stream
from trainer_sdk.errors import DatasetError
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.protocol import MAX_READ_BYTES


class Pictures(Protocol):
    """Reads a picture by its path below the data set; can be pickled for processes of their own."""

    def read(self, path: str) -> bytes:
        """Raises: OSError, DatasetError, NetworkError."""
        ...


@dataclass(frozen=True)
class PicturesHere:
    """In a folder."""

    root: Path

    def read(self, path: str) -> bytes:
        file = self.root / path
        if (size_bytes := file.stat().st_size) > MAX_READ_BYTES:
            raise DatasetError(f"has {size_bytes / 1e9:.1f} GB, {MAX_READ_BYTES / 1e9:.0f} GB at most")
        return file.read_bytes()


@dataclass
class PicturesElsewhere:
    """In a bucket, through the job's bounded cache."""

    storage: StorageSettings
    images: StreamedImages
    _stream: ImageStream | None = field(default=None, repr=False)

    def read(self, path: str) -> bytes:
        if self._stream is None:
            self._stream = open_stream(self.storage, self.images)
        return self._stream.read(self.images.uri_of(path))

    def __getstate__(self) -> dict[str, object]:
        return {"storage": self.storage, "images": self.images, "_stream": None}  # connections stay behind

"""Streamed images in MMEngine: ``s3://`` paths that every transform can open, and a sampler that reads ahead.

config.py names neither: its images merely have ``s3://`` paths (docs/decisions/0007).
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.registry import DATA_SAMPLERS

from mmtrain.config.slots import innermost
from mmtrain.datasets.image_cache import ImageCache
from mmtrain.datasets.stream import SCHEME, ImageStream, cache_capacity_bytes
from trainer_sdk.settings import Settings

READERS = 32
AHEAD = 64
"""Images on their way or waiting, beyond those that the loaders were told to read."""


class StreamBackend(BaseStorageBackend):
    """What MMEngine asks for the content of a path that begins with ``s3://``."""

    stream: ClassVar[ImageStream]  # of the class, as MMEngine makes the instances from what config.py says

    def get(self, filepath: str) -> bytes:
        """Raises: DatasetError, NetworkError."""
        return self.stream.read(str(filepath))

    def join_path(self, filepath: str, *others: str) -> str:
        """How MMEngine's own data set puts a path together."""
        return "/".join((str(filepath).rstrip("/"), *others))

    def get_text(self, filepath: str, encoding: str = "utf-8") -> str:
        """Raises: DatasetError, NetworkError."""
        return self.get(filepath).decode(encoding)


@DATA_SAMPLERS.register_module()
class ReadAheadSampler(DefaultSampler):
    """The same order as its parent's, but an image's turn comes when the image is near.

    It runs in the training process, some batches before the loaders' processes, so threads of the training process
    bring the images and the loaders find them on the disk. Of images that are near already, it costs a look each.
    """

    def __iter__(self) -> Iterator[int]:
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead")
        ahead: deque[tuple[int, Future[None] | None]] = deque()
        try:
            for index in super().__iter__():
                ahead.append((index, self._start(pool, index)))
                if len(ahead) > AHEAD:
                    yield _arrived(*ahead.popleft())
            while ahead:
                yield _arrived(*ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, index: int) -> Future[None] | None:
        uri = self.dataset.get_data_info(index)["img_path"]
        return None if StreamBackend.stream.is_near(uri) else pool.submit(StreamBackend.stream.read_ahead, uri)


def _arrived(index: int, image: Future[None] | None) -> int:
    if image is not None:
        image.result()
    return index


def register(stream: ImageStream) -> None:
    """Makes ``s3://`` paths readable in this process and in those it forks.

    MMEngine gives the prefix to a reader of its own, whose client is not public.
    """
    StreamBackend.stream = stream
    register_backend("stream", StreamBackend, prefixes="s3", force=True)


def read_ahead(config: Config) -> None:
    """Lets every loader of a configuration read ahead whose order is MMEngine's own."""
    for split in ("train", "val", "test"):
        sampler: dict[str, Any] = config[f"{split}_dataloader"].sampler
        if sampler["type"] == DefaultSampler.__name__:
            sampler["type"] = ReadAheadSampler.__name__


def reach_images(config: Config, settings: Settings, cache_dir: Path) -> None:
    """For a config.py that is used without its job: images in a bucket are read with the keys of ``settings``."""
    prefixes = innermost(config.train_dataloader.dataset).data_prefix
    if not any(prefix.startswith(SCHEME) for prefix in prefixes.values()):
        return
    cache_dir.mkdir(parents=True, exist_ok=True)
    capacity_bytes = cache_capacity_bytes(None, shutil.disk_usage(cache_dir).free)
    register(ImageStream(settings.datasets, ImageCache(cache_dir, capacity_bytes)))

"""Images that stay in their bucket: read when they are needed, through a local cache with a bound."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import tenacity
from pydantic import BaseModel, ConfigDict

from mmtrain.datasets.image_cache import ImageCache
from trainer_sdk.errors import DatasetError, NetworkError
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage

SCHEME = "s3://"
ELSEWHERE = "/.elsewhere/"
"""What follows is a whole key: the image lies outside the data set's prefix (where copies go, it leads to a folder)."""
CACHE_BYTES = 50 * 10**9
"""Ours to say when nobody does: room for most data sets, and little beside the disks that such sets are put on."""


PATIENCE_S, WAIT_AT_MOST_S = 600, 30
"""A training is worth more than the restart of a storage; beyond the client's own retries of a few seconds."""

log = logging.getLogger("trainer")


class StreamedImages(BaseModel):
    """Where the images of a data set are, and where and how many of their bytes may lie on this machine."""

    model_config = ConfigDict(frozen=True)

    uri: str
    """``s3://bucket/prefix`` without a slash at the end; also for a folder that plays a bucket."""
    cache_dir: Path
    cache_bytes: int

    def uri_of(self, path: str) -> str:
        """The address of an image, from its path below the data set."""
        return f"{self.uri}/{path}"


def cache_capacity_bytes(asked_gb: float | None, free_bytes: int) -> int:
    """What CONFIG `stream_cache_gb` asks for, else half of the free disk, at most 50 GB."""
    return min(CACHE_BYTES, free_bytes // 2) if asked_gb is None else int(asked_gb * 1e9)


def open_stream(settings: StorageSettings, images: StreamedImages) -> ImageStream:
    """For any process of the job; all of them share one cache."""
    return ImageStream(settings, ImageCache(images.cache_dir, images.cache_bytes))


class ImageStream:
    """Reads images by address. Safe in threads, and in processes that were forked after it was made."""

    def __init__(self, settings: StorageSettings, cache: ImageCache) -> None:
        self._settings = settings
        self._cache = cache
        self._storages: dict[tuple[int, str], Storage] = {}

    def read(self, uri: str) -> bytes:
        """The bytes of an image, from the cache or else the bucket.

        Raises:
            DatasetError: the bucket has no such image.
            NetworkError: the storage cannot be reached, or refuses us.
        """
        found = self._cache.take(uri)
        if found is None:
            found = self._fetch(uri)
            self._cache.keep(uri, found)
        return found

    def is_near(self, uri: str) -> bool:
        """Whether a `read` would find it in the cache."""
        return self._cache.has(uri)

    def read_ahead(self, uri: str) -> None:
        """Brings an image into the cache for a `read` that comes soon. Raises: as `read`."""
        data = self._fetch(uri)
        if not self._cache.keep(uri, data):
            self._cache.pass_on(uri, data)

    def _fetch(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix(SCHEME).partition("/")
        key = key.rpartition(ELSEWHERE)[2]
        try:
            return _patiently(lambda: self._storage(bucket).read(key))
        except MissingObject as error:
            raise DatasetError(
                f"the image {uri} is gone", hint="the data set changed during the job: run it again, or copy the data"
            ) from error

    def _storage(self, bucket: str) -> Storage:
        """One client per process: a connection must not be shared with a fork."""
        here = (os.getpid(), bucket)
        if here not in self._storages:
            self._storages[here] = open_storage(self._settings, bucket)
        return self._storages[here]


def _patiently(read: Callable[[], bytes]) -> bytes:
    """Tries for ten minutes while the storage cannot be reached, and says so."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, NetworkError) and error.retryable),
        wait=tenacity.wait_exponential(max=WAIT_AT_MOST_S),
        stop=tenacity.stop_after_delay(PATIENCE_S),
        before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    return retrying(read)

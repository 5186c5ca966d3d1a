"""Published weights: from a folder, the cache, a mirror, or upstream, always against their hash.

WEIGHTS_DIR is looked at first, and when it has the file nothing else is asked: that is how a machine without a network
trains. The cache is shared: one job fetches, the others wait for it, and a transfer that broke off is continued.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtrain import http_file
from mmtrain.checkpoint_file import MAX_BYTES
from mmtrain.recipes import Recipe, Weights
from trainer_sdk.errors import CheckpointError, NetworkError, ResourceError, disk_full
from trainer_sdk.settings import Settings, StorageSettings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage
from trainer_sdk.workspace import take_lock

log = logging.getLogger("trainer")

FROM_SCRATCH = "train from scratch with CONFIG.basic.pretrained=false"
FOREVER_S = float("inf")


def obtain_weights(recipe: Recipe, settings: Settings) -> Path:
    """The file of the recipe's weights: WEIGHTS_DIR, then the cache, the mirrors, upstream.

    Raises:
        CheckpointError: they cannot be had, or are not what they should be; names the ways out.
        ResourceError: the cache cannot be written.
    """
    weights = recipe.weights
    if weights is None:
        raise CheckpointError(f"upstream publishes no weights of {recipe.name}", hint=FROM_SCRATCH)
    if settings.weights_dir is not None and (settings.weights_dir / weights.file_name).is_file():
        return _checked(settings.weights_dir / weights.file_name, weights)
    tried = [f"WEIGHTS_DIR={settings.weights_dir} has no such file"] if settings.weights_dir else []
    cached = settings.weights_cache_dir / weights.file_name
    with _alone(cached):
        try:
            if _from_cache(cached, weights, tried) or _fetched(cached, weights, settings, tried):
                return cached
        except OSError as error:
            raise _unusable_cache(error, cached.parent) from error
    raise CheckpointError.of_problems(
        f"the published weights of {recipe.name} cannot be had", tried, hint=_ways_out(weights)
    )


def bucket_of(uri: str, settings: Settings) -> tuple[Storage, str]:
    """``s3://bucket/key`` -> the bucket and the key. The data sets' bucket is external, every other one is ours."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    keys: StorageSettings = settings.datasets if bucket == settings.datasets.bucket else settings.checkpoints
    return open_storage(keys, bucket), key


def _from_cache(cached: Path, weights: Weights, tried: list[str]) -> bool:
    if not cached.is_file():
        return False
    try:
        _checked(cached, weights)
    except CheckpointError as error:
        log.warning("%s - it is fetched again", error.message)
        tried.append(error.message)
        cached.unlink()
        return False
    return True


def _fetched(cached: Path, weights: Weights, settings: Settings, tried: list[str]) -> bool:
    part = cached.with_name(f".{cached.name}.part")
    for address in _addresses(weights, settings):
        try:
            _fetch_checked(address, part, weights, settings)
        except (CheckpointError, NetworkError) as error:
            tried.append(f"{address}: {error.message}")
        except MissingObject:
            tried.append(f"{address}: there is no such object")
        except OSError as error:
            if error.errno is not None:  # of our disk; the network's have words only
                raise
            tried.append(f"{address}: {error}")
        else:
            part.replace(cached)
            return True
    return False


def _fetch_checked(address: str, part: Path, weights: Weights, settings: Settings) -> None:
    continued = part.exists()
    while True:
        if address.startswith("s3://"):
            storage, key = bucket_of(address, settings)
            storage.download(key, part)
        else:
            http_file.fetch(address, part, max_bytes=MAX_BYTES, ca_bundle=settings.checkpoints.ca_bundle)
        try:
            _checked(part, weights)
        except CheckpointError:
            part.unlink()
            if not continued:
                raise
            continued = False  # what an earlier job had begun was of another file
        else:
            return


def _addresses(weights: Weights, settings: Settings) -> list[str]:
    mirrors = [settings.weights_mirror, f"s3://{settings.weights_bucket}" if settings.weights_bucket else None]
    return [*(f"{mirror.rstrip('/')}/{weights.file_name}" for mirror in mirrors if mirror), weights.url]


def _ways_out(weights: Weights) -> str:
    return (
        f"put {weights.file_name} into a folder and set WEIGHTS_DIR to it, set WEIGHTS_MIRROR to an http(s):// or "
        "s3:// folder that has it, start from a checkpoint of yours with CHECKPOINT_PATH, or " + FROM_SCRATCH
    )


def _checked(path: Path, weights: Weights) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(weights.sha256):
        raise CheckpointError(
            f"{path} is not the published file: its sha256 begins with {found[: len(weights.sha256)]}, "
            f"not with {weights.sha256}",
            hint="delete it, or " + _ways_out(weights),
        )
    return path


@contextmanager
def _alone(cached: Path) -> Iterator[None]:
    """Jobs that want the same file wait for the one that fetches it, and find it in the cache."""
    path = cached.with_name(f".{cached.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(path)
        if lock is None:
            log.info("another job fetches %s: waiting for it", cached.name)
            lock = take_lock(path, FOREVER_S)
    except OSError as error:
        raise _unusable_cache(error, cached.parent) from error
    assert lock is not None
    with lock:
        yield


def _unusable_cache(error: OSError, folder: Path) -> ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(error, folder)
    return ResourceError(
        f"the weights cache {folder} cannot be used: {error.strerror}",
        hint="set XDG_CACHE_HOME to a writable folder on a disk with locks, or WEIGHTS_DIR to one that has the weights",
    )

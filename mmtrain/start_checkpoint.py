"""CHECKPOINT_PATH: the file to start from instead of the published weights, from a disk, a bucket or the web."""

from __future__ import annotations

from pathlib import Path

from mmtrain import http_file
from mmtrain.checkpoint_file import MAX_BYTES, check_checkpoint_file, shown
from mmtrain.weights import bucket_of
from trainer_sdk.errors import CheckpointError
from trainer_sdk.settings import Settings
from trainer_sdk.storage.protocol import MissingObject

INSTEAD = "correct CHECKPOINT_PATH, or leave it out to start from the published weights"

FETCHED = "checkpoint.pth"


def obtain_checkpoint(address: str, settings: Settings, folder: Path) -> Path:
    """The file, fetched into `folder` unless it is on this machine.

    Raises:
        CheckpointError: it does not exist, cannot be had, or is no checkpoint.
        NetworkError: the storage cannot be reached or refuses us.
        OSError: `folder` cannot be written.
    """
    fetched = folder / FETCHED
    if address.startswith("s3://"):
        path = _from_bucket(address, settings, fetched)
    elif address.startswith(("http://", "https://")):
        path = _from_web(address, settings, fetched)
    else:
        path = Path(address.removeprefix("file://")).absolute()
    check_checkpoint_file(path, shown(address))
    return path


def _from_bucket(uri: str, settings: Settings, target: Path) -> Path:
    storage, key = bucket_of(uri, settings)
    try:
        storage.download(key, target)
    except MissingObject as error:
        raise CheckpointError(f"the checkpoint {uri} does not exist", hint=INSTEAD) from error
    return target


def _from_web(url: str, settings: Settings, target: Path) -> Path:
    part = target.with_suffix(".part")
    try:
        http_file.fetch(url, part, max_bytes=MAX_BYTES, ca_bundle=settings.checkpoints.ca_bundle)
    except OSError as error:
        if error.errno is not None:  # of our disk
            raise
        raise CheckpointError(f"the checkpoint {shown(url)} cannot be had: {error}", hint=INSTEAD) from error
    return part.replace(target)

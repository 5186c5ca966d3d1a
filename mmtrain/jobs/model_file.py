"""The model of a job that has one already: a checkpoint, or an exported package."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mmtrain.recipes import load_recipe
from mmtrain.start_checkpoint import FETCHED, obtain_checkpoint
from mmtrain.weights import bucket_of, obtain_weights
from trainer_sdk.errors import CheckpointError
from trainer_sdk.jobspec import ModelJobSpec
from trainer_sdk.settings import Settings
from trainer_sdk.storage.protocol import MissingObject

METADATA = "metadata.json"
PACKAGE = "package"
MAX_PACKAGE_BYTES = 16 * 10**9


class ModelFile(NamedTuple):
    """On this machine."""

    path: Path
    """A checkpoint, or the unpacked folder of a package."""
    package: bool
    name: str
    """What people call it."""


def obtain_model(spec: ModelJobSpec, settings: Settings, folder: Path) -> ModelFile:
    """The checkpoint or package of a request, fetched into `folder` unless it is on this machine.

    Raises:
        CheckpointError: it does not exist, cannot be had, or is neither; or there are no published weights.
        NetworkError: the storage cannot be reached or refuses us.
    """
    address = spec.checkpoint_path
    if address is None:
        assert spec.model_name is not None  # the request was refused otherwise
        recipe = load_recipe(spec.model_name, spec.task)
        return ModelFile(obtain_weights(recipe, settings), False, f"the published weights of {recipe.name}")
    if address.endswith(".zip"):
        return ModelFile(_unpacked(_fetched(address, settings, folder), folder / PACKAGE, address), True, address)
    local = Path(address.removeprefix("file://"))
    if local.is_dir():
        if not (local / METADATA).is_file():
            raise CheckpointError(f"the folder {local} is no exported package: it has no {METADATA}")
        return ModelFile(local.absolute(), True, address)
    return ModelFile(obtain_checkpoint(address, settings, folder), False, address)


def _fetched(address: str, settings: Settings, folder: Path) -> Path:
    if not address.startswith("s3://"):
        return Path(address.removeprefix("file://"))
    storage, key = bucket_of(address, settings)
    target = folder / FETCHED.replace(".pth", ".zip")
    try:
        storage.download(key, target)
    except MissingObject as error:
        raise CheckpointError(f"the package {address} does not exist", hint="correct CHECKPOINT_PATH") from error
    return target


def _unpacked(archive: Path, folder: Path, address: str) -> Path:
    """Its files, none of them outside `folder`, none of them ever run."""
    try:
        with zipfile.ZipFile(archive) as package:
            names = package.namelist()
            if METADATA not in names:
                raise CheckpointError(f"{address} is no exported package: it has no {METADATA}")
            if strange := [name for name in names if ".." in PurePosixPath(name).parts or name.startswith("/")]:
                raise CheckpointError(f"{address} is refused: it names {strange[0]!r}")
            if sum(entry.file_size for entry in package.infolist()) > MAX_PACKAGE_BYTES:
                raise CheckpointError(f"{address} unpacks to more than {MAX_PACKAGE_BYTES / 1e9:.0f} GB")
            package.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"the package {address} cannot be read: {error}") from error
    return folder

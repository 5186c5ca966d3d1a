"""How far a training came, kept in the storage beside its results: another machine goes on from there.

``checkpoints/<job id>/resume/progress.json`` names objects beside it, which never change: their names begin with their
hashes. It is written after them, and only then do those that it does not name leave. Whatever breaks off, and
wherever: it names a whole.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmtrain.checkpoint_file import check_checkpoint_file
from mmtrain.engine.order import BROUGHT, MESSAGES, RESUMABLE
from mmtrain.jobs.memory import MEMORY
from trainer_sdk.errors import CheckpointError
from trainer_sdk.session import JobSession
from trainer_sdk.settings import Settings
from trainer_sdk.storage.local import LocalStorage
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage
from trainer_sdk.workspace import fingerprint, write_json

RECORD = "progress.json"
KEPT = (BROUGHT, MESSAGES, MEMORY, "epoch_*.pth", "best_*.pth", "*/vis_data/events.*")
"""What a training needs to go on with whole curves and the same steps, by path in ``work/``; nothing else is."""


class StoredFile(BaseModel):
    """One object, as `trainer_sdk.workspace.fingerprint` describes a file."""

    model_config = ConfigDict(frozen=True)

    object: str
    sha256: str
    size_bytes: int


class Progress(BaseModel):
    """``progress.json``."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    """Of the training (mmtrain/jobs/identity.py)."""
    epoch: int = Field(ge=0)
    """Whole epochs that are done."""
    iteration: int = Field(ge=0)
    """Of the checkpoint, as far as the parent heard: a training that was stopped may have come a few further."""
    files: dict[str, StoredFile]
    """By path below ``work/``."""


@dataclass(frozen=True)
class ProgressStore:
    """The place of one job."""

    storage: Storage
    prefix: str
    """Ends with '/'."""

    @property
    def uri(self) -> str:
        return self.storage.uri(self.prefix)

    def read(self) -> Progress | None:
        """Raises: NetworkError; CheckpointError, for a record that cannot be understood."""
        try:
            return Progress.model_validate_json(self.storage.read(self.prefix + RECORD))
        except MissingObject:
            return None
        except ValidationError as error:
            raise CheckpointError(f"{self.uri}{RECORD} is damaged") from error

    def save(self, training: str, reached: tuple[int, int], files: Mapping[str, Path], scratch: Path) -> None:
        """Uploads what is not there yet, then the record, and removes what it does not name.

        Args:
            training: its fingerprint.
            reached: epoch and iteration, as in `Progress`.
            files: by path below ``work/``; they must not change meanwhile.
            scratch: a folder for the record.

        Raises:
            NetworkError: the storage cannot be reached or refuses us. What was there before is still whole.
        """
        there = self._keys()
        stored = {}
        for name, path in files.items():
            facts = fingerprint(path)
            stored[name] = StoredFile(object=f"{facts['sha256'][:12]}-{path.name}", **facts)
            if self.prefix + stored[name].object not in there:
                self.storage.upload(path, self.prefix + stored[name].object)
        epoch, iteration = reached
        progress = Progress(fingerprint=training, epoch=epoch, iteration=iteration, files=stored)
        write_json(scratch / RECORD, progress.model_dump(mode="json"))
        self.storage.upload(scratch / RECORD, self.prefix + RECORD)
        for key in there - {self.prefix + name for name in (RECORD, *(file.object for file in stored.values()))}:
            self.storage.delete(key)

    def bring(self, progress: Progress, work: Path) -> None:
        """Puts its files into ``work/``, all of them or none.

        Raises:
            NetworkError: the storage cannot be reached or refuses us.
            CheckpointError: one is not there, or not what the record says.
        """
        folder = work / "bringing"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            names = sorted(progress.files, key=lambda name: name == BROUGHT)  # last: the newest one is gone on with
            for name in names:
                if folder.resolve() not in (folder / name).resolve().parents or not _is_kept(name):
                    raise CheckpointError(f"{self.uri}{RECORD} names a file that is none of work/: {name!r}")
                self._bring_one(progress.files[name], folder / name)
            if BROUGHT not in progress.files:
                raise CheckpointError(f"{self.uri}{RECORD} names no checkpoint")
            for name in names:
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(work / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Removes everything, the record first. Raises: NetworkError."""
        for key in sorted(self._keys(), key=lambda key: not key.endswith(f"/{RECORD}")):
            self.storage.delete(key)

    def _keys(self) -> set[str]:
        return {found.key for found in self.storage.objects(self.prefix)}

    def _bring_one(self, file: StoredFile, target: Path) -> None:
        try:
            self.storage.download(self.prefix + file.object, target)
        except MissingObject as error:
            raise CheckpointError(f"{self.uri}{file.object} is not there") from error
        if fingerprint(target) != {"sha256": file.sha256, "size_bytes": file.size_bytes}:
            raise CheckpointError(f"{self.uri}{file.object} is damaged: it is not what {RECORD} says")
        if target.suffix == ".pth":
            check_checkpoint_file(target, f"{self.uri}{file.object}")


def _is_kept(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in KEPT)


def progress_store(settings: Settings, job_id: str) -> ProgressStore | None:
    """None without a storage, or when it would be lost together with the job folders."""
    if not settings.checkpoints.from_environment:
        return None
    storage, prefix = open_storage(settings.checkpoints), f"checkpoints/{job_id}/resume/"
    if isinstance(storage, LocalStorage) and Path(storage.uri(prefix)).is_relative_to(settings.workspace_dir):
        return None
    return ProgressStore(storage, prefix)


def bring_progress(store: ProgressStore, training: str, session: JobSession) -> None:
    """Looks whether this training came further elsewhere than here; what cannot be used is a warning.

    Raises:
        NetworkError: the storage cannot be asked, or broke off. A training that began anew then would soon replace what
            another run has reached.
    """
    work = session.workspace.work
    try:
        progress = store.read()
        if progress is None:
            return
        if progress.fingerprint != training:
            session.log(f"{store.uri} is of another training under this JOB_ID: it is not gone on with")
        elif progress.epoch > epochs_in(work):
            store.bring(progress, work)
            place = f"epoch {progress.epoch}, iteration {progress.iteration}"
            text = f"goes on from {place}, saved by an earlier run on another machine ({store.uri})"
            session.log(text, event_type="checkpoint")
    except CheckpointError as error:
        session.log(f"what an earlier run saved cannot be used: {error.message}", level="WARNING")


def epochs_in(work: Path) -> int:
    """Whole epochs of the furthest checkpoint there, as far as names say it; -1 when there is none."""
    found = [path for pattern in RESUMABLE for path in work.glob(pattern)]
    return max((int(path.stem.removeprefix("epoch_")) if "_" in path.stem else 0 for path in found), default=-1)

"""A completed job stays completed where its folder is gone: in the storage, beside its results, lies what it told."""

from __future__ import annotations

import hashlib

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from mmtrain.jobs.progress import progress_store
from trainer_sdk.errors import ConfigError, NetworkError
from trainer_sdk.events import Completed
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject

RECORD = "completed.json"


class CompletedJob(BaseModel):
    """``checkpoints/<job id>/completed.json``; written after the manifest."""

    model_config = ConfigDict(frozen=True)

    request_sha256: str
    """Not the request: a CHECKPOINT_PATH may be signed."""
    outcome: Completed
    files: dict[str, int]
    """Bytes of every published file, by its name."""


def completed_elsewhere(spec: TrainSpec, session: JobSession) -> Completed | None:
    """The outcome of an earlier run of the job; None when there was none or its results are gone.

    Raises:
        ConfigError: it was completed with another request.
        NetworkError: the storage cannot be asked. To start over then could spoil what is there (decision 0016).
    """
    if not session.settings.checkpoints.from_environment:
        return None
    storage, folder = open_storage(session.settings.checkpoints), f"checkpoints/{spec.job_id}/"
    try:
        earlier = CompletedJob.model_validate_json(storage.read(folder + RECORD))
        there = {found.key: found.size_bytes for found in storage.objects(folder)}
    except MissingObject:
        return None
    except ValidationError as error:
        session.log(f"whether an earlier run completed the job cannot be read: {error}", level="WARNING")
        return None
    if earlier.request_sha256 != _sha256(spec):
        hint = f"use another JOB_ID, or remove {storage.uri(folder)}"
        raise ConfigError(f"job {spec.job_id} was completed with another request", hint=hint)
    gone = sorted(name for name, size_bytes in earlier.files.items() if there.get(folder + name) != size_bytes)
    if gone:
        text = f"the job was completed by an earlier run, but is trained again: {storage.uri(folder)} lacks "
        session.log(text + ", ".join(gone), level="WARNING")
        return None
    session.log(f"job {spec.job_id} was completed by an earlier run; nothing is trained again")
    return earlier.outcome


def remember_completed(spec: TrainSpec, outcome: Completed, session: JobSession) -> None:
    """Puts the record into the storage, and takes away what was kept there to go on from.

    The results are published: that this fails is a warning.
    """
    session.complete(outcome)  # a signal from here on must not call interrupted what the storage knows as completed
    if not session.settings.checkpoints.from_environment:
        return
    space = session.workspace
    manifest = space.out / "manifest.json"
    files = {name: entry["size_bytes"] for name, entry in orjson.loads(manifest.read_bytes())["files"].items()}
    files[manifest.name] = manifest.stat().st_size
    space.save(RECORD, CompletedJob(request_sha256=_sha256(spec), outcome=outcome, files=files))
    store = progress_store(session.settings, spec.job_id)
    try:
        open_storage(session.settings.checkpoints).upload(space.path(RECORD), f"checkpoints/{spec.job_id}/{RECORD}")
        if store is not None:
            store.clear()
    except NetworkError as error:
        session.log(f"the storage does not know that the job is completed: {error.message}", level="WARNING")


def _sha256(spec: TrainSpec) -> str:
    """Of what differs from the defaults: a version with more keys knows the requests of earlier ones."""
    return hashlib.sha256(spec.model_dump_json(exclude_defaults=True).encode()).hexdigest()

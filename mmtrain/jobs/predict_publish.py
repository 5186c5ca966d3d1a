"""Puts predictions where the platform finds them (contract, section 5)."""

from __future__ import annotations

from pathlib import Path

from mmtrain.predicting.flow import in_order
from mmtrain.predicting.writers import PREDICTIONS
from trainer_sdk.jobspec import PredictSpec
from trainer_sdk.session import JobSession
from trainer_sdk.storage.opening import open_storage

UPLOADS = 8
"""At a time: most of them are small and wait for the storage."""


def publish_predictions(spec: PredictSpec, session: JobSession) -> str:
    """Uploads everything below ``out/``, predictions.json last; without a storage the job folder is the place.

    Returns:
        Where it is now.

    Raises:
        NetworkError: the storage cannot be reached or refuses us.
    """
    out = session.workspace.out
    if not session.settings.checkpoints.from_environment:
        return str(out)
    storage = open_storage(session.settings.checkpoints)
    prefix = f"inference-results/{spec.job_id}"

    def upload(file: Path) -> str:
        return storage.upload(file, f"{prefix}/{file.relative_to(out).as_posix()}")

    files = (file for file in out.rglob("*") if file.is_file() and file != out / PREDICTIONS)
    count = sum(1 for _ in in_order(files, upload, threads=UPLOADS, ahead=4 * UPLOADS))
    upload(out / PREDICTIONS)
    session.log(f"uploaded {count + 1} files to {storage.uri(prefix)}")
    return storage.uri(prefix)

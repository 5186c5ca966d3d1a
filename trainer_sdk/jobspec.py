"""What was asked, typed, frozen and without secrets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer_sdk.config.frozen import Address, Frozen
from trainer_sdk.config.model_jobs import EvaluateConfig, ExportConfig, ExportFormat, PredictConfig
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.tasks import Task

JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class DatasetRef(Frozen):
    """Which data set: a local DICE folder, or a prefix in a bucket (None: the configured data set bucket)."""

    id: str
    path: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    snapshot_id: str | None = None
    version_hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class TrainSpec(Frozen):
    """A train job."""

    kind: Literal["train"] = "train"
    job_id: str = Field(pattern=JOB_ID)
    task: Task | None
    model_name: str = Field(min_length=1, max_length=100)
    dataset: DatasetRef
    config: TrainConfig
    checkpoint_path: Address = None
    """Weights to start from instead of the published ones: a file, an s3:// URI or an https:// address."""
    notes: tuple[str, ...] = ()
    """What was in the request and had no effect, in words."""


class ModelJobSpec(Frozen):
    """A job that has its model already."""

    job_id: str = Field(pattern=JOB_ID)
    training_job_id: str | None = Field(None, pattern=JOB_ID)
    """The platform's: the job that made the checkpoint."""
    task: Task | None
    model_name: str | None = Field(None, min_length=1, max_length=100)
    """Needed for upstream's checkpoints; ours say it themselves."""
    checkpoint_path: Address
    """A file, an s3:// URI, an https:// address; an exported package too. None: the model's published weights."""
    notes: tuple[str, ...] = ()
    """What was in the request and had no effect, in words."""


class PredictSpec(ModelJobSpec):
    """A predict job."""

    kind: Literal["predict"] = "predict"
    images: tuple[str, ...] = Field(min_length=1)
    """Folders, files, s3:// prefixes or objects, in the order given."""
    config: PredictConfig


class ExportSpec(ModelJobSpec):
    """An export job."""

    kind: Literal["export"] = "export"
    format: ExportFormat
    dataset: DatasetRef | None = None
    """For the certificate's validation images and for calibration."""
    config: ExportConfig


class EvaluateSpec(ModelJobSpec):
    """An evaluate job."""

    kind: Literal["evaluate"] = "evaluate"
    dataset: DatasetRef
    config: EvaluateConfig


JobSpec = TrainSpec | PredictSpec | ExportSpec | EvaluateSpec

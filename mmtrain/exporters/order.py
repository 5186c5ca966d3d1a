"""What the parent asks of the process that exports, and what comes back."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mmtrain.engine.order import AloneOrder, ModelSource
from trainer_sdk.config.model_jobs import ExportConfig

EXPORTED = "exported.json"
FOLDER = "package"
"""In ``work/``: what becomes the zip."""


class ExportOrder(AloneOrder):
    """``work/worker.json``."""

    model: ModelSource
    export_format: str
    config: ExportConfig
    images_root: Path | None = None
    """With the next: of the certificate's validation images."""
    annotations: Path | None = None


class Exported(BaseModel):
    """``work/exported.json``."""

    model_config = ConfigDict(frozen=True)

    verdict: str
    failures: tuple[str, ...]
    model_bytes: int
    summary: str

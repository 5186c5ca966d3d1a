"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import torch

ASKED_BYTES = 2**20


def save_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Also after a power cut: what has the name is complete."""
    # Of one name for every process: the next one overwrites what a kill left of hundreds of megabytes.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            _save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """torch makes a RuntimeError of what the system said of a write; so the system is asked once more.

    Raises:
        OSError: with the system's own number.
    """
    try:
        torch.save(checkpoint, file)
    except RuntimeError:
        file.write(bytes(ASKED_BYTES))
        file.flush()
        raise


def let_mmengine_save_atomically() -> None:
    """Makes MMEngine's own saving ours, in this process; its own begins the file anew under its name."""
    from mmengine.runner import runner

    def save(checkpoint: dict[str, Any], filename: str, file_client_args: Any = None, backend_args: Any = None) -> None:
        save_atomically(checkpoint, Path(filename))

    runner.save_checkpoint = save

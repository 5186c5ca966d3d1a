"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import torch


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


class _Remembering:
    """A file that keeps what the system said: torch makes a RuntimeError without a number of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Raises: OSError, as the system said it."""
    remembering = _Remembering(file)
    try:
        torch.save(checkpoint, remembering)  # type: ignore[arg-type,unused-ignore]  # all it needs of a file
    except RuntimeError as error:
        if remembering.failure is None:
            raise
        raise remembering.failure from error


def let_mmengine_save_atomically() -> None:
    """Makes MMEngine's own saving ours, in this process; its own begins the file anew under its name."""
    from mmengine.runner import runner

    def save(checkpoint: dict[str, Any], filename: str, file_client_args: Any = None, backend_args: Any = None) -> None:
        save_atomically(checkpoint, Path(filename))

    runner.save_checkpoint = save

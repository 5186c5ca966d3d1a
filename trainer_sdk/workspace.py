"""A job's folder. Whatever a step decides or finds is a file in it that a person can open."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)

KEPT_ACROSS_RUNS = ("events.jsonl", "outbox.json")
"""What the backend was told survives a rerun of the same job; everything else is made again."""


class Workspace:
    """``$WORKSPACE_DIR/<job id>/``; the names inside are fixed, other tools rely on them."""

    def __init__(self, root: Path, job_id: str) -> None:
        self.folder = root / job_id
        self.out = self.folder / "out"
        self.dataset = self.folder / "dataset"
        self.work = self.folder / "work"
        self.folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Removes what an earlier run of the same job left, so that nothing of it can be taken for this run's."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in KEPT_ACROSS_RUNS:
                entry.unlink()
        for folder in (self.out, self.dataset, self.work):
            folder.mkdir()

    def path(self, name: str) -> Path:
        return self.folder / name

    def save(self, name: str, model: Model) -> Model:
        """Writes a model as JSON and hands it back, so that a step reads `plan = space.save(..., make_plan(...))`."""
        write_json(self.folder / name, model.model_dump(mode="json"))
        return model


def write_json(path: Path, value: Any) -> None:
    """Indented, with sorted keys: made to be read and compared."""
    write_atomically(
        path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    )


def write_atomically(path: Path, data: bytes) -> None:
    """The file is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

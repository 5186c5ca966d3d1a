"""Which versions were at work: for reports, checkpoints and manifests. Asks the package metadata, imports nothing."""

from __future__ import annotations

import importlib.metadata
import platform
import tomllib
from pathlib import Path

PACKAGES = {
    "torch": "torch",
    "mmcv": "onedl-mmcv",
    "mmengine": "onedl-mmengine",
    "mmdet": "onedl-mmdetection",
    "numpy": "numpy",
}


def versions() -> dict[str, str]:
    """Name -> version; the trainer's own comes from pyproject.toml, since it runs from its checkout."""
    installed = {name: importlib.metadata.version(package) for name, package in PACKAGES.items()}
    return {"openmmlab-trainer": trainer_version(), "python": platform.python_version(), **installed}


def trainer_version() -> str:
    """As in pyproject.toml."""
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    return str(tomllib.loads(pyproject.read_text())["project"]["version"])

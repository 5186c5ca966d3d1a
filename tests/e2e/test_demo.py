"""`make demo`: it learns, and it says where to look."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_the_demo_learns_and_names_report_and_checkpoint(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "WORKSPACE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    score = re.search(r"mAP50 on the test images: ([0-9.]+)", done.stdout)
    assert score is not None
    assert float(score[1]) > 0.5
    for name in ("report.html", "best.pth"):
        assert str(tmp_path / "demo" / "out" / name) in done.stdout
        assert (tmp_path / "demo" / "out" / name).exists()

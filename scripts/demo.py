"""`make demo`: the whole job on a data set drawn in code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = Path(os.environ.get("WORKSPACE_DIR") or ROOT / "workspace").absolute()
JOB_ID = "demo"
CONFIG = {
    "basic": {"epochs": 20, "batch": 8, "imgsz": 128, "device": "cpu", "pretrained": False},
    "advanced": {"mosaic": 0, "val_interval": 2},
}
"""From scratch, so without mosaic: few and easy pictures first."""


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from mmtrain.datasets.shapes import write_shapes

    shutil.rmtree(WORKSPACE / JOB_ID, ignore_errors=True)  # a completed job is not trained again
    shapes = write_shapes(WORKSPACE / "demo-shapes", counts={"train": 120, "val": 24, "test": 24})
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/tmp"),
        "TERM": os.environ.get("TERM", "dumb"),
        "WORKSPACE_DIR": str(WORKSPACE),
        "JOB_ID": JOB_ID,
        "MODEL_NAME": "rtmdet-tiny",
        "TASK_TYPE": "object_detection",
        "DATASET_PATH": str(shapes),
        "CONFIG": json.dumps(CONFIG),
    }
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which stops in order and says so
    exit_code = subprocess.run([sys.executable, str(ROOT / "train.py")], env=environment, check=False).returncode
    if exit_code == 0:
        show(WORKSPACE / JOB_ID / "out")
    return exit_code


def show(out: Path) -> None:
    metrics = json.loads((out / "report.json").read_text())["metrics"]
    print(f"\nmAP50 on the test images: {metrics['mAP@0.5']:.3f} (mAP {metrics['mAP@0.5:0.95']:.3f})")
    print(f"report to open:  {out / 'report.html'}")
    print(f"checkpoint:      {out / 'best.pth'}")


if __name__ == "__main__":
    sys.exit(main())

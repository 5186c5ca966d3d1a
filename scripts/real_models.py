"""`make real-models`: other detectors on real data, from scratch at 320 px on the CPU; flip only, as in `make real`.

The same command goes on where an interrupted one stopped: Ctrl-C ends the job in order, and its JOB_ID is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = Path(os.environ.get("WORKSPACE_DIR") or ROOT / "workspace").absolute()
BASIC = {"batch": 8, "imgsz": 320, "device": "cpu", "workers": 2, "pretrained": False, "optimizer": "SGD"}
ADVANCED = {
    "lr_scheduler": "cosine", "warmup_epochs": 1, "mosaic": 0, "mixup": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0,
    "scale": 0, "ema": False, "val_interval": 5, "checkpoint_interval": 1,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "yolox-tiny": {"lr0": 0.005},  # four times upstream's 0.01 at 64 images: 780 steps have to do
    "faster-rcnn-r50": {"lr0": 0.01, "grad_clip": 10},  # upstream's 0.02 at 16; early steps from scratch are steep
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a DICE folder with boxes and its own splits")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=30, help="an interrupted job goes on only with the same number")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which stops in order
    for model in options.models:
        code = train(model, options.data.resolve(), options.epochs)
        if code:
            return code
    for model in options.models:
        print(line(model))
    return 0


def train(model: str, data: Path, epochs: int) -> int:
    """The job's exit code."""
    own = dict(MODELS[model])
    basic = BASIC | {"lr0": own.pop("lr0"), "epochs": epochs}
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TERM") if name in os.environ} | {
        "WORKSPACE_DIR": str(WORKSPACE),
        "JOB_ID": f"real-{model}",
        "MODEL_NAME": model,
        "TASK_TYPE": "object_detection",
        "DATASET_PATH": str(data),
        "CONFIG": json.dumps({"basic": basic, "advanced": ADVANCED | own}),
    }
    return subprocess.run([sys.executable, ROOT / "train.py"], env=environment, check=False).returncode


def line(model: str) -> str:
    """Of the table in docs/results.md."""
    report = json.loads((WORKSPACE / f"real-{model}" / "out" / "report.json").read_text())
    metrics = report["metrics"]
    return (
        f"{model}: mAP50 {metrics['mAP@0.5']:.3f}, mAP {metrics['mAP@0.5:0.95']:.3f} on {report['evaluated_on']}, "
        f"best epoch {report['best_epoch']:g}, trained in {report['duration_s']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())

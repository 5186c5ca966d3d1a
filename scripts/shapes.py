"""`make shapes`: a job of each task on shapes drawn in code, from scratch on the CPU, and the score it has to reach."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmtrain.datasets.pose_shapes import write_arrows  # noqa: E402
from mmtrain.datasets.shapes import write_shapes  # noqa: E402

WORKSPACE = Path(os.environ.get("WORKSPACE_DIR") or ROOT / "workspace").absolute()
COUNTS = {"train": 120, "val": 24, "test": 24}
COMMON = {"device": "cpu", "pretrained": False}


class Proof(NamedTuple):
    """One task: what is drawn and trained, and the report's metric with the value to exceed."""

    draw: Callable[[Path], Path]
    model: str
    config: dict[str, Any]
    metric: str
    above: float


PROOFS = {
    "instance_segmentation": Proof(
        partial(write_shapes, task="instance_segmentation", counts=COUNTS),
        "rtmdet-ins-tiny",
        {"imgsz": 128, "epochs": 40, "batch": 8, "val_interval": 10, "mosaic": 0},
        "mAP@0.5(M)",
        0.6,
    ),
    "semantic_segmentation": Proof(
        partial(write_shapes, task="semantic_segmentation", counts=COUNTS),
        "segformer-b0",
        {"imgsz": 128, "epochs": 14, "batch": 8, "val_interval": 7, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0},
        "mIoU",
        0.8,
    ),
    "pose_estimation": Proof(
        partial(write_arrows, counts={"train": 400, "val": 24, "test": 24}),
        "rtmpose-t",
        {"imgsz": 96, "epochs": 40, "batch": 32, "val_interval": 10, "lr0": 1e-3, "degrees": 0, "scale": 0.1}
        | {"warmup_epochs": 3, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0},
        "OKS-AP",
        0.6,
    ),
}
"""Settings that are quick from scratch: small pictures, nothing mixed together, and colours that tell classes apart.

Arrows point anywhere by themselves. At four times this rate a pose often learns nothing for half of the training.
"""


def main() -> int:
    """Exit code 1 when a score is not reached."""
    parser = argparse.ArgumentParser(description="Trains on drawn shapes, from scratch on the CPU.")
    parser.add_argument("--task", choices=PROOFS, help="default: each in turn")
    asked = parser.parse_args().task
    results = [prove(task) for task in ([asked] if asked else PROOFS)]
    return 0 if all(results) else 1


def prove(task: str) -> bool:
    """Draws, trains, and says what came of it."""
    proof, job = PROOFS[task], f"shapes-{task}"
    shutil.rmtree(WORKSPACE / job, ignore_errors=True)  # a completed job is not trained again
    data = proof.draw(WORKSPACE / f"{job}-data")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/tmp"),
        "WORKSPACE_DIR": str(WORKSPACE),
        "JOB_ID": job,
        "MODEL_NAME": proof.model,
        "TASK_TYPE": task,
        "DATASET_PATH": str(data),
        "CONFIG": json.dumps(COMMON | proof.config),
    }
    started = time.monotonic()
    done = subprocess.run([sys.executable, str(ROOT / "train.py")], env=environment, check=False)
    if done.returncode:
        return False
    report = json.loads((WORKSPACE / job / "out" / "report.json").read_text())
    score = report["metrics"][proof.metric]
    print(
        f"\n{task}, {proof.model}: {proof.metric} {score:.3f} on {report['evaluated_on']} (to exceed: {proof.above}) "
        f"after {time.monotonic() - started:.0f} s, of which {report['duration_s']:.0f} s training\n"
    )
    return bool(score > proof.above)


if __name__ == "__main__":
    sys.exit(main())

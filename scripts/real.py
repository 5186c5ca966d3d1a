"""`make real`: the job on real data beside a plain MMDetection run of the same recipe on the same machine.

Three trainings of RTMDet-tiny from scratch at 320 px on the CPU: plain MMDetection, the job from a local folder, and
the job through a real S3 server and a real callback receiver over HTTP. Prints a table and writes workspace/real.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = ROOT / "workspace"
CONFIG = {
    "basic": {
        "epochs": 20, "batch": 8, "lr0": 0.002, "optimizer": "AdamW", "imgsz": 320,
        "device": "cpu", "workers": 2, "pretrained": False,
    },
    "advanced": {
        "lr_scheduler": "cosine", "warmup_epochs": 1, "mosaic": 0, "mixup": 0, "ema": False,
        "val_interval": 4, "checkpoint_interval": 1,
    },
}  # fmt: skip
"""Word for word what scripts/reference_mmdet.py does."""
JOB = {"MODEL_NAME": "rtmdet-tiny", "TASK_TYPE": "object_detection", "CONFIG": json.dumps(CONFIG)}
NEEDED = ("annotations_detection.json", "images")


def main() -> int:
    options = parse_arguments()
    data = options.data.resolve()
    missing = [name for name in NEEDED if not (data / name).exists()]
    if missing:
        print(f"{data} is not a DICE detection folder: {', '.join(missing)} missing. Name one: make real DATA=folder")
        return 3
    runs = {"reference": reference, "local": local_job, "s3_http": remote_job}
    chosen = options.only or list(runs)
    results = {name: runs[name](data) for name in chosen}
    report(results)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a DICE folder with boxes and its own splits")
    parser.add_argument("--only", nargs="+", choices=("reference", "local", "s3_http"))
    return parser.parse_args()


def reference(data: Path) -> dict[str, Any]:
    """Plain MMDetection on the converted annotations; converting is not in its time."""
    work_dir = fresh(WORKSPACE / "real-reference")
    run([sys.executable, "-m", "converters", data, work_dir / "coco"], base_environment())
    started = time.time()
    command = [
        sys.executable, ROOT / "scripts" / "reference_mmdet.py", "--annotations", work_dir / "coco",
        "--images", data / "images", "--work-dir", work_dir / "mm", "--started", started,
    ]  # fmt: skip
    with (work_dir / "log").open("w") as log:
        run(command, base_environment(), output=log)
    metrics = json.loads((work_dir / "mm" / "result.json").read_text())["metrics"]
    return {
        "wall_s": round(time.time() - started, 1),
        "test_mAP50": metrics["coco/bbox_mAP_50"],
        "test_mAP": metrics["coco/bbox_mAP"],
    }


def local_job(data: Path) -> dict[str, Any]:
    return job("9001", {"DATASET_PATH": str(data)})


def remote_job(data: Path) -> dict[str, Any]:
    """Through moto's S3 server and a receiver that refuses what the platform would refuse, each a process."""
    calls = fresh(WORKSPACE / "real-servers") / "calls.jsonl"
    with (
        Server("tests.doubles.s3", "--folder", data, "--dataset", "ds_real") as s3,
        Server("tests.doubles.backend", "--jobs", "9002", "--log", calls) as backend,
    ):
        storage = {
            f"{role}_STORAGE_{part}": value
            for role in ("EXTERNAL", "INTERNAL")
            for part, value in (("ENDPOINT", s3.url), ("ACCESS_KEY", "testing"), ("SECRET_KEY", "testing"))
        }
        cache = fresh(WORKSPACE / "real-cache")
        environment = {"DATASET_ID": "ds_real", "CALLBACK_URL": backend.url, "DATASET_CACHE_DIR": str(cache)}
        result = job("9002", environment | storage)
    answers = [json.loads(line) for line in calls.read_text().splitlines()]
    return result | {"callbacks": len(answers), "rejected": sum(answer["status"] >= 400 for answer in answers)}


def job(job_id: str, environment: dict[str, str]) -> dict[str, Any]:
    shutil.rmtree(WORKSPACE / job_id, ignore_errors=True)
    started = time.time()
    run([sys.executable, ROOT / "train.py"], base_environment() | JOB | environment | {"JOB_ID": job_id})
    wall_s = time.time() - started
    folder = WORKSPACE / job_id
    metrics = json.loads((folder / "out" / "report.json").read_text())["metrics"]
    timings_s = json.loads((folder / "outcome.json").read_text())["timings_s"]
    return {
        "wall_s": round(wall_s, 1),
        "test_mAP50": round(metrics["mAP@0.5"], 4),
        "test_mAP": round(metrics["mAP@0.5:0.95"], 4),
        "steps_s": timings_s,
    }


class Server:
    """A test server in a process of its own; its first line is its URL."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._command = [sys.executable, "-m", module, "--port", "0", *map(str, arguments)]

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def base_environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/tmp"),
        "WORKSPACE_DIR": str(WORKSPACE),
        "PYTHONPATH": str(ROOT),
    }


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def run(command: list[object], environment: dict[str, str], output: Any = None) -> None:
    arguments = [str(part) for part in command]
    subprocess.run(arguments, env=environment, check=True, stdout=output, stderr=output)


def report(results: dict[str, dict[str, Any]]) -> None:
    print(json.dumps(results, indent=2))
    (WORKSPACE / "real.json").write_text(json.dumps(results, indent=2))
    reference_s = results.get("reference", {}).get("wall_s")
    print(f"\n{'run':12} {'wall s':>8} {'vs plain':>9} {'test mAP50':>11} {'test mAP':>9}")
    for name, result in results.items():
        ratio = f"{result['wall_s'] / reference_s - 1:+.1%}" if reference_s else ""
        print(f"{name:12} {result['wall_s']:8.1f} {ratio:>9} {result['test_mAP50']:11.3f} {result['test_mAP']:9.3f}")


if __name__ == "__main__":
    sys.exit(main())

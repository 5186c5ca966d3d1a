"""The data decide, and stay where they are: MODEL_NAME=auto, images read from their bucket while training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunScript, ScriptRun

TRAIN_S = 400.0
CONFIG = {
    "epochs": 1, "batch": 4, "workers": 1, "imgsz": 64, "pretrained": False, "device": "cpu", "data_access": "stream",
}  # fmt: skip


@pytest.fixture
def streamed(run_script: RunScript, s3: Any, tmp_path: Path) -> tuple[ScriptRun, dict[str, str]]:
    """A job that was told neither model nor task."""
    data = write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 3, "test": 3})
    s3.put_folder(data, "training-datasets", "datasets/ds_shapes/")
    environment = {
        "JOB_ID": "streamed",
        "MODEL_NAME": "auto",
        "DATASET_ID": "ds_shapes",
        "DATASET_CACHE_DIR": str(tmp_path / "cache"),
        "CONFIG": orjson.dumps(CONFIG).decode(),
        **s3.environment(),
    }
    return run_script(environment, timeout_s=TRAIN_S), environment


def test_the_data_choose_the_model_and_their_images_stay_in_the_bucket(
    streamed: tuple[ScriptRun, dict[str, str]], tmp_path: Path
) -> None:
    run, environment = streamed
    assert run.exit_code == 0, run.stdout[-3000:]
    plan = orjson.loads((run.folder / "plan.json").read_bytes())
    findings = orjson.loads((run.folder / "findings.json").read_bytes())
    assert plan["model"]["value"] == findings["recommendation"]["model"] == plan["recipe"]
    assert plan["model"]["origin"] == "data"
    assert findings["recommendation"]["task_reason"] in plan["model"]["reason"]
    assert findings["images"] == {"train": 8, "val": 3, "test": 3}
    assert "s3://training-datasets/datasets/ds_shapes" in (run.folder / "config.py").read_text()
    copies = [path for folder in (run.folder, tmp_path / "cache") for path in folder.rglob("shape_*.png")]
    assert copies == [] and not (run.folder / "work" / "stream_cache").exists()
    page = (run.folder / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64") >= 2 * 3  # samples of test: truth and prediction
    assert (run.folder / "out" / "data.html").is_file()
    secret = environment["EXTERNAL_STORAGE_SECRET_KEY"].encode()
    assert [path for path in run.folder.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    browse = [sys.executable, "-m", "mmtrain.browse", run.folder, "--count", "3", "--out", tmp_path / "sheet"]
    done = subprocess.run(browse, cwd=ROOT, env=_with_path(environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sheet" / "browse.png").is_file()


def _with_path(environment: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}

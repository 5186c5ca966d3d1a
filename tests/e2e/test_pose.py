"""Poses from labels to a report: a job of one epoch with a top-down model, told to a backend."""

from __future__ import annotations

import math
from pathlib import Path

import orjson

from mmtrain.datasets.pose_shapes import CLASSES, NAMES, write_arrows
from mmtrain.shown import read_shown
from tests.conftest import RunScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import JOB_FILES, TRAIN_S, files_in, request

COUNTS = {"train": 8, "val": 4, "test": 3}


def test_a_pose_job_is_told_measured_and_drawn(run_script: RunScript, backend: ContractBackend, tmp_path: Path) -> None:
    data = write_arrows(tmp_path / "arrows", counts=COUNTS, classes=2)
    environment = {**request("rtmpose_t"), "TASK_TYPE": "pose", "DATASET_PATH": str(data), "CALLBACK_URL": backend.url}
    run = run_script(environment, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    assert backend.rejected == []
    assert backend.status_of(123) == "completed"
    assert files_in(run.folder) >= JOB_FILES

    report = orjson.loads((run.folder / "out/report.json").read_bytes())
    assert report["task"] == "pose_estimation"
    assert report["class_names"] == list(CLASSES)
    assert report["primary_metric"]["name"] == "OKS-AP"
    assert 0 <= report["metrics"]["OKS-AP"] <= 1
    assert set(report["splits"]["test"]["keypoints"]) == set(NAMES)
    assert any("boxes of the ground truth" in note for note in report["notes"])
    assert "data:image/jpeg" in (run.folder / "out/report.html").read_text()

    truth, rows = (
        orjson.loads((run.folder / path).read_bytes()) for path in ("dataset/val.json", "work/predictions_val.json")
    )
    given = {(o["image_id"], o["category_id"], tuple(round(side) for side in o["bbox"])) for o in truth["annotations"]}
    assert {(r["image_id"], r["category_id"], tuple(round(side) for side in r["bbox"])) for r in rows} == given
    assert all(len(row["keypoints"]) == 3 * len(NAMES) for row in rows)
    plan = orjson.loads((run.folder / "plan.json").read_bytes())
    train = orjson.loads((run.folder / "dataset/train.json").read_bytes())["annotations"]
    assert plan["iters_per_epoch"]["value"] == math.ceil(len(train) / 4)  # a crop of each arrow

    told = [event["body"] for event in run.events if event["kind"] == "validation"]
    assert {"OKS-AP", "PCK@0.2", "PCK"} <= told[0]["metrics"].keys()
    assert math.isclose(told[0]["metrics"]["PCK"], report["splits"]["val"]["metrics"]["PCK@0.2"], abs_tol=0.01)
    shown = read_shown(run.folder / "work/browse")
    assert shown.problem is None
    assert shown.keypoint_names == NAMES

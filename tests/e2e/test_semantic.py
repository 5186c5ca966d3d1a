"""Class maps from mask files to a report: a job of two epochs, told to a backend."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from mmtrain.datasets.shapes import CLASSES, write_shapes
from tests.conftest import RunScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import JOB_FILES, TRAIN_S, request

NAMES = [*CLASSES, "background"]


def test_a_semantic_job_is_told_measured_and_drawn(
    run_script: RunScript, backend: ContractBackend, tmp_path: Path
) -> None:
    counts = {"train": 5, "val": 3, "test": 3}
    data = write_shapes(
        tmp_path / "shapes", counts=counts, size=(90, 70), task="semantic_segmentation", mask_files=True
    )
    environment = {
        **request("bisenetv2", {"epochs": 2}),
        "TASK_TYPE": "semantic_segmentation",
        "DATASET_PATH": str(data),
        "CALLBACK_URL": backend.url,
    }
    run = run_script(environment, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    assert backend.rejected == []
    assert backend.status_of(123) == "completed"
    masks = {f"dataset/masks/{number:06}.png" for number in range(1, 12)}
    found = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    assert found >= JOB_FILES | masks | {f"dataset/masks/{split}.json" for split in counts}

    report = orjson.loads((run.folder / "out/report.json").read_bytes())
    assert report["task"] == "semantic_segmentation"
    assert report["class_names"] == NAMES == list(report["per_class"])
    assert report["primary_metric"]["name"] == "mIoU"
    assert 0 < report["metrics"]["mIoU"] <= 1
    assert sum(map(sum, report["confusion_matrix"])) == 90 * 70 * 3
    plan = orjson.loads((run.folder / "plan.json").read_bytes())
    assert (plan["drop_last"]["value"], plan["iters_per_epoch"]["value"]) == (True, 1)  # the fifth picture is alone

    told = [event["body"] for event in run.events if event["kind"] == "validation"]
    assert all(0 <= one["primary_metric_value"] <= 1 for one in told)
    last = told[-1]
    assert math.isclose(last["metrics"]["mIoU"], report["splits"]["val"]["metrics"]["mIoU"])
    points = {point["epoch"]: point["metrics"]["mIoU"] for point in report["curves"]["validation"]}
    best = points[report["best_epoch"]]
    assert math.isclose(
        best, report["splits"]["val"]["metrics"]["mIoU"], abs_tol=1e-4
    )  # upstream rounds to 0.01 points

    with Image.open(run.folder / "work/predictions_test/000009.png") as picture:
        assert picture.size == (90, 70)
        assert np.asarray(picture).max() < len(NAMES)
    assert "data:image/jpeg" in (run.folder / "out/report.html").read_text()

"""Evaluate jobs as processes: the numbers of the training again, told as a test run; and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from tests.conftest import ROOT, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.exports.conftest import MODELS, Trained, TrainedOn, renamed

EVALUATE_S = 200.0


def evaluated(run_script: RunScript, trained: Trained, config: dict[str, Any], **environ: str) -> ScriptRun:
    asked = {
        "TEST_RUN_ID": "123",
        "CHECKPOINT_S3_URI": str(trained.checkpoint),
        "DATASET_S3_URI": str(trained.data),
        "CONFIG": json.dumps({"device": "cpu", "batch_size": 16, "workers": 0, **config}),
        **environ,
    }
    return run_script(asked, script=ROOT / "evaluate.py", timeout_s=EVALUATE_S)


def report_of(folder: Path) -> dict[str, Any]:
    return dict(orjson.loads((folder / "out" / "report.json").read_bytes()))


@pytest.mark.parametrize("task", MODELS)
def test_the_numbers_are_those_of_the_training(
    run_script: RunScript, backend: ContractBackend, trained_on: TrainedOn, task: str
) -> None:
    trained = trained_on(task)
    run = evaluated(run_script, trained, {"task_type": task, "dataset_split": "val"}, CALLBACK_URL=backend.url)
    assert run.exit_code == 0, run.stdout
    assert backend.rejected == []
    assert [call.what for call in backend.calls] == ["results"]
    theirs, ours = report_of(trained.folder)["splits"]["val"], report_of(run.folder)
    assert (ours["kind"], ours["evaluated_on"], ours["task"]) == ("evaluate", "val", task)
    for name, value in theirs["metrics"].items():
        if value is None or name in ("precision", "recall", "f1"):  # read at a score that may be another one
            continue
        assert math.isclose(ours["metrics"][name], value, abs_tol=0.02), name
    assert ours["class_names"] == theirs["class_names"]
    told = backend.test_runs[123]
    assert (told.status, told.task_type, told.num_images) == ("completed", task, 4)
    assert told.class_names == theirs["class_names"]
    assert (told.primary_metric_value is None) == (task == "semantic_segmentation")
    with Image.open(run.folder / "out" / "plots" / "confusion_matrix.png") as picture:
        assert min(picture.size) > 100
    page = (run.folder / "out" / "report.html").read_text()
    assert "data:image/jpeg" in page
    assert "<h2>Training</h2>" not in page


def test_data_and_checkpoint_from_buckets_results_into_one(run_script: RunScript, untrained: Trained, s3: Any) -> None:
    s3.put_folder(untrained.data, prefix="datasets/ds_shapes/")
    s3.put("training-checkpoints", "checkpoints/7/best.pt", untrained.checkpoint.read_bytes())
    run = evaluated(
        run_script,
        untrained,
        {},
        CHECKPOINT_S3_URI="s3://training-checkpoints/checkpoints/7/best.pt",
        DATASET_S3_URI="s3://training-datasets/datasets/ds_shapes/",
        **s3.environment(),
    )
    assert run.exit_code == 0, run.stdout
    keys = set(s3.keys("training-checkpoints", "test-runs/123/"))
    assert keys >= {f"test-runs/123/{name}" for name in ("report.html", "report.json", "predictions.json")}
    assert "test-runs/123/plots/confusion_matrix.png" in keys
    told = run.events[-1]["body"]
    assert told["predictions_json_uri"] == "s3://training-checkpoints/test-runs/123/predictions.json"
    assert told["visualization_urls"]["PR_curve"].endswith("test-runs/123/plots/PR_curve.png")


def test_classes_are_matched_by_name(run_script: RunScript, untrained: Trained, tmp_path: Path) -> None:
    data = renamed(untrained.data, tmp_path / "renamed", {"b": "stranger"})
    run = evaluated(run_script, untrained, {"split": "all"}, DATASET_S3_URI=str(data))
    assert run.exit_code == 0, run.stdout
    report = report_of(run.folder)
    assert report["images"] == {"all": 15}
    assert report["class_names"] == ["a", "stranger", "triangle", "b"]
    assert report["per_class"]["stranger"]["ap_50_95"] == 0
    notes = " ".join(report["notes"])
    assert "The model does not know stranger, triangle" in notes
    assert "The data have no class b" in notes


@pytest.mark.parametrize(
    ("config", "change", "exit_code", "said"),
    [
        ({}, {"CHECKPOINT_S3_URI": "nowhere.pth"}, 3, "[CheckpointError]"),
        ({"task_type": "pose"}, {}, 3, "[ConfigError]"),
        ({"imgsz": 64, "device": "3"}, {}, 4, "[ResourceError]"),
        ({"split_config": {"ratio": [1.0, 0.0]}, "split": "test"}, {}, 3, "[DatasetError]"),
    ],
)
def test_refusals(
    run_script: RunScript,
    backend: ContractBackend,
    untrained: Trained,
    config: dict[str, Any],
    change: dict[str, str],
    exit_code: int,
    said: str,
) -> None:
    run = evaluated(run_script, untrained, config, CALLBACK_URL=backend.url, **change)
    assert run.exit_code == exit_code, run.stdout
    assert backend.rejected == []
    told = backend.test_runs[123]
    assert told.status == "failed"
    assert told.error_message is not None
    assert told.error_message.startswith(said)


def test_an_exported_package_is_measured_too(run_script: RunScript, untrained: Trained, tmp_path: Path) -> None:
    asked = {"JOB_ID": "9", "CHECKPOINT_PATH": str(untrained.checkpoint), "EXPORT_FORMAT": "onnx"}
    exported = run_script(asked, script=ROOT / "export.py", timeout_s=EVALUATE_S)
    package = exported.folder / "out/export_9.zip"
    assert package.is_file(), exported.stdout
    runs = [
        evaluated(run_script, untrained, {"split": "all"}, TEST_RUN_ID=number, CHECKPOINT_S3_URI=str(model))
        for number, model in (("123", untrained.checkpoint), ("124", package))
    ]
    assert [run.exit_code for run in runs] == [0, 0], runs[-1].stdout
    ours, theirs = (report_of(run.folder)["metrics"]["mAP@0.5:0.95"] for run in runs)
    assert math.isclose(ours, theirs, abs_tol=0.01)

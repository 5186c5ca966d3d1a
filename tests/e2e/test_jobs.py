"""Whole jobs: train.py as a process, on data drawn in code, against real HTTP and real S3 on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from mmtrain.datasets.shapes import CLASSES, write_shapes
from mmtrain.engine.safe_load import load_checkpoint_safely
from tests.conftest import ROOT, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend

TRAIN_S = 240.0
COUNTS = {"train": 8, "val": 4, "test": 3}
JOB_FILES = {
    "job.json", "findings.json", "plan.json", "config.py", "events.jsonl", "outcome.json",
    "dataset/train.json", "dataset/val.json", "dataset/test.json", "dataset/id_map.json",
    "out/best.pth", "out/last.pth", "out/report.json", "out/report.html", "out/data.html", "out/browse.png",
    "out/manifest.json",
}  # fmt: skip


def request(model: str, basic: dict[str, Any] | None = None, **advanced: Any) -> dict[str, str]:
    """A job of one epoch on tiny pictures."""
    small = {"epochs": 1, "batch": 4, "imgsz": 64, "device": "cpu", "workers": 0, "pretrained": False}
    config = {"basic": small | (basic or {}), "advanced": {"mosaic": 0, **advanced}}
    return {"JOB_ID": "123", "MODEL_NAME": model, "CONFIG": json.dumps(config)}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def local_job(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    """One job without server, network or credentials, looked at by several tests."""
    folder = tmp_path_factory.mktemp("local")
    data = write_shapes(folder / "shapes", counts=COUNTS)
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DATASET_PATH": str(data)}
    environment |= request("rtmdet-tiny", {"epochs": 2, "workers": 1}, mosaic=0.5, mixup=0.5)
    done = subprocess.run(
        [sys.executable, ROOT / "train.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    run = ScriptRun(done.returncode, done.stdout, done.stderr, folder / "workspace" / "123", 0.0)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_a_local_job_leaves_every_file_it_promises(local_job: ScriptRun) -> None:
    assert files_in(local_job.folder) >= JOB_FILES
    assert list((local_job.folder / "out" / "tensorboard").glob("events.out.tfevents.*"))
    assert local_job.outcome["status"] == "completed"
    assert set(local_job.outcome["timings_s"]) >= {"fetch", "inspect", "plan", "train", "report", "publish"}


def test_the_log_of_a_job_is_one_json_object_per_line(local_job: ScriptRun) -> None:
    lines = [json.loads(line) for line in local_job.stdout.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert local_job.stderr == ""


def test_events_tell_the_story_in_order(local_job: ScriptRun) -> None:
    kinds = [event["kind"] for event in local_job.events if event["kind"] != "log"]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert kinds.count("validation") == 3  # two epochs, and the best one again with everything
    rows = [event["body"] for event in local_job.events if event["body"].get("metrics") and event["kind"] == "progress"]
    assert [row["current_epoch"] for row in rows] == [1, 2]
    assert all(row["metrics"]["loss"] > 0 and "mAP@0.5" in row["metrics"]["extra_metrics"] for row in rows)


def test_the_report_has_the_fixed_keys_and_shows_every_class(local_job: ScriptRun) -> None:
    report = json.loads((local_job.folder / "out" / "report.json").read_text())
    assert report["task"] == "object_detection"
    assert report["primary_metric"]["name"] == "mAP@0.5:0.95"
    assert report["primary_metric"]["value"] == report["metrics"]["mAP@0.5:0.95"]
    assert report["class_names"] == list(CLASSES) == list(report["per_class"])
    assert [len(row) for row in report["confusion_matrix"]] == [len(CLASSES) + 1] * (len(CLASSES) + 1)
    assert report["evaluated_on"] == "test"
    page = (local_job.folder / "out" / "report.html").read_text()
    shown = json.loads((local_job.folder / "work" / "browse" / "shown.json").read_text())["pictures"]
    assert page.count("data:image/jpeg;base64") == 2 * COUNTS["test"] + len(shown)
    assert 4 <= len(shown) <= 12
    assert "<script src" not in page
    assert "https://" not in page


def test_a_job_can_be_browsed_with_its_own_pipeline(local_job: ScriptRun, tmp_path: Path) -> None:
    browse = [sys.executable, "-m", "mmtrain.browse", local_job.folder, "--split", "val", "--out", tmp_path]
    done = subprocess.run(browse, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "browse.html").read_text()
    assert page.count("data:image/jpeg;base64,") == COUNTS["val"]
    assert "rtmdet-tiny on shapes" in page
    assert "val split, without augmentation" in page
    assert "resize to fit into 64 × 64" in page


def test_checkpoints_say_what_they_are(local_job: ScriptRun) -> None:
    best = torch.load(local_job.folder / "out" / "best.pth", weights_only=True)
    said = best["meta"]["trainer"]
    assert said["classes"] == list(CLASSES)
    assert (said["task"], said["recipe"], said["input_size_wh"]) == ("object_detection", "rtmdet-tiny", [64, 64])
    assert len(said["dataset"]["annotations_sha256"]) == 64
    assert {"torch", "mmcv", "mmdet", "mmengine"} <= said["versions"].keys()
    assert "CocoDataset" in said["config"]
    assert "optimizer" not in best
    last = load_checkpoint_safely(local_job.folder / "out" / "last.pth")
    assert {"optimizer", "param_schedulers", "state_dict"} <= last.keys()
    assert last["meta"]["trainer"]["epoch"] == 2


def test_the_manifest_is_written_last_and_matches_the_files(local_job: ScriptRun) -> None:
    manifest_path = local_job.folder / "out" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    for entry in manifest["files"].values():
        data = (local_job.folder / entry["path"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry["sha256"], entry["size_bytes"])
        assert (local_job.folder / entry["path"]).stat().st_mtime <= manifest_path.stat().st_mtime


def test_the_config_trains_without_our_code(local_job: ScriptRun, tmp_path: Path) -> None:
    config = local_job.folder / "config.py"
    code = (
        "import sys; from mmengine.config import Config; from mmengine.runner import Runner\n"
        f"config = Config.fromfile({str(config)!r}); config.work_dir = {str(tmp_path / 'plain')!r}\n"
        "config.train_cfg.max_epochs = 1\n"
        "Runner.from_cfg(config).train()\n"
        "assert not [name for name in sys.modules if name.startswith(('mmtrain', 'trainer_sdk', 'converters'))]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "plain" / "epoch_1.pth").exists()


def test_the_published_weights_run_in_mmdetections_own_tool(local_job: ScriptRun) -> None:
    code = (
        "from mmdet.apis import inference_detector, init_detector\n"
        f"model = init_detector({str(local_job.folder / 'config.py')!r}, "
        f"{str(local_job.folder / 'out' / 'best.pth')!r}, device='cpu')\n"
        f"assert model.dataset_meta['classes'] == {list(CLASSES)!r}, model.dataset_meta\n"
        f"found = inference_detector(model, {str(local_job.folder.parents[1] / 'shapes/images/shape_0001.png')!r})\n"
        "assert found.pred_instances.bboxes.shape[1] == 4"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_rerun_of_a_completed_job_trains_nothing(local_job: ScriptRun) -> None:
    before = (local_job.folder / "out" / "best.pth").stat().st_mtime_ns
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    environment |= {"DATASET_PATH": str(local_job.folder.parents[1] / "shapes")}
    environment |= request("rtmdet-tiny", {"epochs": 2, "workers": 1}, mosaic=0.5, mixup=0.5)
    done = subprocess.run(
        [sys.executable, ROOT / "train.py"], cwd=local_job.folder.parents[1], env=environment, check=False
    )
    assert done.returncode == 0
    assert (local_job.folder / "out" / "best.pth").stat().st_mtime_ns == before


def test_masks_through_s3_and_http(run_script: RunScript, backend: ContractBackend, s3: Any, tmp_path: Path) -> None:
    """Variant B with ids 17, 3, 90, a negative image, a degenerate box and the split of a snapshot."""
    data = write_shapes(tmp_path / "shapes", counts={"train": 12}, task="instance_segmentation", variant="B")
    document = orjson.loads((data / "annotations_segmentation.json").read_bytes())
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] != 2]
    document["annotations"][0] |= {"bbox": [5, 5, 0, 0], "segmentation": [[5, 5, 5, 5, 5, 5]]}
    (data / "annotations_segmentation.json").write_bytes(orjson.dumps(document))
    s3.put_folder(data, "training-datasets", "datasets/ds_masks/")
    splits = {str(image): "val" if image > 9 else "train" for image in range(1, 13)}
    snapshot = {"split_config": {"source": "job_override", "method": "manual", "splits": splits}}
    s3.put("training-checkpoints", "snapshots/snap_0123456789ab/metadata.json", orjson.dumps(snapshot))
    environment = {
        **request("mask_rcnn_r50"),
        "TASK_TYPE": "segmentation",
        "DATASET_S3_URI": "s3://training-datasets/datasets/ds_masks/",
        "SNAPSHOT_ID": "snap_0123456789ab",
        "DATASET_CACHE_DIR": str(tmp_path / "cache"),
        "CALLBACK_URL": backend.url,
        **s3.environment(),
    }
    run = run_script(environment, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    assert backend.rejected == []
    assert backend.status_of(123) == "completed"
    findings = orjson.loads((run.folder / "findings.json").read_bytes())
    assert findings["images"] == {"train": 9, "val": 3, "test": 0}
    assert {"DS015", "DS025"} <= {finding["code"] for finding in findings["findings"]}
    id_map = orjson.loads((run.folder / "dataset" / "id_map.json").read_bytes())
    assert [id_map["classes"][str(index)]["id"] for index in range(3)] == [17, 3, 90]
    uploaded = s3.keys("training-checkpoints", "checkpoints/123/")
    assert {f"checkpoints/123/{name}" for name in ("best.pt", "last.pt", "report.html", "manifest.json")} <= set(
        uploaded
    )
    manifest = orjson.loads(s3.get("training-checkpoints", "checkpoints/123/manifest.json"))
    best = s3.get("training-checkpoints", "checkpoints/123/best.pt")
    assert hashlib.sha256(best).hexdigest() == manifest["files"]["best.pt"]["sha256"]
    report = orjson.loads((run.folder / "out" / "report.json").read_bytes())
    assert report["task"] == "instance_segmentation"
    assert {"mAP@0.5:0.95", "mAP@0.5:0.95(M)"} <= report["metrics"].keys()


@pytest.mark.parametrize("model", ["rtmdet-s", "faster-rcnn-r50"])
def test_the_other_recipes_train_too(model: str, run_script: RunScript, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2})
    environment = request(model, {"batch": 2, "optimizer": "SGD", "lr0": 0.001}, ema=True, lr_scheduler="step")
    run = run_script({**environment, "DATASET_PATH": str(data)}, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    assert files_in(run.folder) >= JOB_FILES

"""export.py as the platform starts it: a proven package in the storage, or a rejected one and a failed job."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.exporters.comparing import matched
from mmtrain.recipes import load_recipe
from tests.conftest import JOB_ID, ROOT, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.exports.alone import Alone
from tests.exports.models import build

pytestmark = pytest.mark.short
EXPORT_S = 500.0
LEAST = 0.02
CLASSES = ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of ours, of a model with random weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    built = build(load_recipe("rtmdet-tiny"), folder, (128, 128), CLASSES)
    description = built.description | {"dataset": {"original_class_ids": [4, 7, 9]}}
    meta = {"trainer": description, "dataset_meta": {"classes": CLASSES}, "epoch": 1}
    torch.save({"meta": meta, "state_dict": dict(built.model.state_dict())}, folder / "best.pth")
    return folder / "best.pth"


def environment(checkpoint: Path, data: Path | None, **config: Any) -> dict[str, str]:
    found = {"JOB_ID": str(JOB_ID), "CHECKPOINT_PATH": str(checkpoint), "EXPORT_FORMAT": "onnx"}
    found["EXPORT_CONFIG"] = json.dumps(config)
    return found | ({"DATASET_PATH": str(data)} if data else {})


def test_an_export_is_proven_packed_published_and_told(
    run_script: Any, s3: Any, backend: ContractBackend, checkpoint: Path, tmp_path: Path
) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 2, "val": 3}, size=(96, 80))
    asked = environment(checkpoint, data, input_shape=[1, 3, 128, 128], opset_version=17)
    done: ScriptRun = run_script(
        asked | s3.environment() | {"CALLBACK_URL": backend.url}, script=ROOT / "export.py", timeout_s=EXPORT_S
    )
    assert done.exit_code == 0, done.stdout + done.stderr
    certificate = orjson.loads((done.folder / "out" / "certificate.json").read_bytes())
    assert certificate["verdict"] == "pass"
    assert certificate["validation"]["images"] == 3
    assert [row["batch"] for row in certificate["speed"]["exported"]] == [1, 8]
    keys = s3.keys("training-checkpoints", "exports/")
    assert f"exports/{JOB_ID}/export_{JOB_ID}.zip" in keys
    archive = tmp_path / "export.zip"
    archive.write_bytes(s3.get("training-checkpoints", f"exports/{JOB_ID}/export_{JOB_ID}.zip"))
    assert not backend.rejected
    told = backend.exports[JOB_ID]
    assert (told.status, told.export_results["verdict"]) == ("completed", "pass")
    assert told.file_size_bytes == certificate["file"]["size_bytes"]
    package = unpacked(archive, tmp_path / "package")
    metadata = json.loads((package / "metadata.json").read_text())
    assert (metadata["input_shape"], metadata["class_ids"]) == ([1, 3, 128, 128], [4, 7, 9])
    image = tmp_path / "images" / "image.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    alone = Alone(package, tmp_path / "environment")
    assert [alone.has(name) for name in ("cv2", "torch")] == [True, False]
    found = alone.predict(image, "--conf", str(LEAST))
    assert_seen_alike(found, predicted(run_script, checkpoint, image.parent))


def predicted(run_script: Any, checkpoint: Path, images: Path) -> list[dict[str, Any]]:
    """What predict.py says of the one image, by the checkpoint itself."""
    config = json.dumps({"conf": LEAST, "max_det": 300, "device": "cpu", "save_images": False})
    asked = {"JOB_ID": "5", "CHECKPOINT_PATH": str(checkpoint), "IMAGES_PATH": str(images), "CONFIG": config}
    done: ScriptRun = run_script(asked, script=ROOT / "predict.py", timeout_s=EXPORT_S)
    assert done.exit_code == 0, done.stdout + done.stderr
    (row,) = orjson.loads((done.folder / "out" / "predictions.json").read_bytes())["results"]
    return list(row["predictions"])


def assert_seen_alike(found: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
    """The same objects: of random weights one in fifty may be another of several like boxes."""
    assert len(found["boxes"]) > 20
    theirs = {
        "boxes": np.array([one["bbox"] for one in predictions]),
        "scores": np.array([one["confidence"] for one in predictions]),
        "labels": np.array([CLASSES.index(one["class_name"]) for one in predictions]),
    }
    ours = {name: np.array(found[name]) for name in theirs}
    pairs = matched(ours, theirs)
    assert len(pairs) >= 0.98 * max(len(ours["boxes"]), len(theirs["boxes"]))
    first, second = (
        {name: values[pairs[:, side]] for name, values in of.items()} for side, of in ((0, ours), (1, theirs))
    )
    np.testing.assert_allclose(first["boxes"], second["boxes"], atol=0.02)
    np.testing.assert_allclose(first["scores"], second["scores"], atol=1e-3)


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as package:
        assert {"model.onnx", "metadata.json", "certificate.json", "LICENCES.md", "README.md"} <= set(
            package.namelist()
        )
        package.extractall(folder)
    return folder


def test_a_file_that_is_not_the_model_is_rejected(run_script: Any, s3: Any, checkpoint: Path) -> None:
    """A tolerance that no computer meets stands for a broken exporter."""
    asked = environment(checkpoint, None, tolerance=1e-12, input_shape=[1, 3, 64, 64])
    done: ScriptRun = run_script(asked | s3.environment(), script=ROOT / "export.py", timeout_s=EXPORT_S)
    assert (done.exit_code, done.outcome["code"]) == (1, "FrameworkError")
    assert "is not the trained model" in done.outcome["message"]
    keys = s3.keys("training-checkpoints")
    assert any(key.startswith(f"rejected/exports/{JOB_ID}/") and key.endswith(".zip") for key in keys)
    assert not [key for key in keys if key.startswith("exports/")]
    assert orjson.loads((done.folder / "out" / "certificate.json").read_bytes())["verdict"] == "fail"


def test_tensorrt_without_tensorrt_is_refused_before_anything_is_moved(run_script: Any, checkpoint: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    nowhere = checkpoint.parent / "no data"
    asked = environment(checkpoint, nowhere) | {"EXPORT_FORMAT": "tensorrt"}
    done: ScriptRun = run_script(asked, script=ROOT / "export.py")
    assert (done.exit_code, done.outcome["code"], done.outcome["phase"]) == (4, "ResourceError", "check")
    assert "needs TensorRT, which is not installed" in done.outcome["message"]


def test_what_a_format_cannot_do_is_refused_by_name(run_script: Any, checkpoint: Path) -> None:
    asked = environment(checkpoint, None, fp16=True, raw_outputs=True, nms=True, workspace_size_gb=2)
    done: ScriptRun = run_script(asked, script=ROOT / "export.py")
    assert (done.exit_code, done.outcome["code"], done.outcome["phase"]) == (3, "ConfigError", "check")
    for name in ("fp16", "raw_outputs and nms", "workspace_size_gb"):
        assert name in done.outcome["message"]

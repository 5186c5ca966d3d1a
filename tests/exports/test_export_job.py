"""export.py as the platform starts it: a proven package in the storage, or a rejected one and a failed job."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.recipes import load_recipe
from tests.conftest import JOB_ID, ROOT, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.exports.models import build

EXPORT_S = 500.0
WITHOUT_TORCH = ("numpy", "cv2", "onnxruntime", "google", "packaging", "flatbuffers", "coloredlogs", "sympy", "mpmath")


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
    assert [row["batch"] for row in certificate["speed"]["exported"]] == [1]
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
    assert_runs_without_torch(package, tmp_path)


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as package:
        assert {"model.onnx", "metadata.json", "certificate.json", "LICENCES.md", "README.md"} <= set(
            package.namelist()
        )
        package.extractall(folder)
    return folder


def assert_runs_without_torch(package: Path, folder: Path) -> None:
    """The packaged file in an interpreter that has nothing but what its requirements name."""
    from mmtrain.exporters.runtime.predict_standalone import Predictor

    image = np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "image.png"), image)
    site = folder / "site"
    site.mkdir()
    installed = Path(np.__file__).parents[1]
    for entry in installed.iterdir():
        if entry.name.partition(".")[0].lower() in {*WITHOUT_TORCH, "opencv_python_headless"}:
            (site / entry.name).symlink_to(entry)
    script = package / "runtimes" / "python" / "predict_standalone.py"
    code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[0] = {str(script)!r}; import runpy\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__'); assert 'torch' not in sys.modules"
    plain = [sys.executable, "-I", "-S", "-c", code]
    target = folder / "found.json"
    subprocess.run([*plain, str(package), str(folder / "image.png"), "--json", str(target)], check=True, timeout=120)
    assert subprocess.run([*plain[:-1], "import torch"], capture_output=True, check=False).returncode != 0
    found, here = json.loads(target.read_text()), Predictor(package).predict(image)
    np.testing.assert_allclose(found["boxes"], here["boxes"], atol=1e-3)
    np.testing.assert_allclose(found["scores"], here["scores"], atol=1e-6)
    assert len(found["boxes"]) > 0


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

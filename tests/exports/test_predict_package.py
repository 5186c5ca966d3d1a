"""A checkpoint and the package that was exported from it see the same, within what is said here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmtrain.engine.model_of import load_model
from mmtrain.exporters.export import export
from mmtrain.exporters.worker import source_of
from mmtrain.predicting.shapes import decoded
from tests.conftest import ROOT, RunScript
from tests.exports.looking import look
from tests.exports.sources import small_probes
from tests.exports.untrained import MODELS, write_checkpoint, write_pictures
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.tasks import Task

JOB_S = 500.0
SCORE, PIXELS = 2e-3, 0.05
MASK_IOU = 0.95
SAME = 0.98
"""Share of objects, or of pixels of a class map, that both see: where two scores are alike, rounding decides."""
FORMATS = [("rtmdet-tiny", kind) for kind in ("onnx", "openvino", "torchscript")]
FORMATS += [(name, "onnx") for name in MODELS if name != "rtmdet-tiny"]
Row = dict[str, Any]


@pytest.mark.parametrize(("name", "kind"), FORMATS)
def test_packages_see_what_the_checkpoint_sees(name: str, kind: str, tmp_path: Path) -> None:
    checkpoint, pictures = write_checkpoint(name, MODELS[name], tmp_path), write_pictures(tmp_path / "in")
    if MODELS[name] is Task.SEMANTIC:  # of other shapes a file of one size sees less: docs/exports.md
        for number in (1, 2):
            (pictures / f"{number}.png").write_bytes((pictures / "0.png").read_bytes())
    with small_probes():
        export(source_of(load_model(checkpoint)), ExportConfig(), kind, tmp_path / "package", measure_speed=False)
    asked = {"conf": 0.05, "max_det": 50} | ({"iou": 0.5} if MODELS[name] is Task.DETECTION else {})
    ours = look(checkpoint, pictures, tmp_path / "ours", **asked)
    theirs = look(tmp_path / "package", pictures, tmp_path / "theirs", **asked)
    if MODELS[name] is Task.SEMANTIC:
        pairs = zip(maps(tmp_path / "ours"), maps(tmp_path / "theirs"), strict=True)
        shares = [float((one == other).mean()) for one, other in pairs]
        assert len(shares) == 3
        assert min(shares) >= SAME
        return
    assert share_seen(ours, theirs) >= SAME
    assert share_seen(theirs, ours) >= SAME
    if MODELS[name] is Task.POSE:
        pages = [cv2.imread(str(tmp_path / who / "out/images/1.png")) for who in ("ours", "theirs")]
        assert np.abs(pages[0].astype(int) - pages[1]).mean() < 2  # the same limbs are drawn


def maps(folder: Path) -> Iterator[Any]:
    """The class maps of every picture."""
    for path in sorted((folder / "out/masks").glob("*.png")):
        yield cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def share_seen(said: Row, other: Row) -> float:
    """Share of the objects in `said` that the other one has too: class, score, box, mask, points."""
    seen = [
        any(same(one, rival) for rival in others["predictions"])
        for row, others in zip(said["results"], other["results"], strict=True)
        for one in row["predictions"]
    ]
    assert seen
    return sum(seen) / len(seen)


def same(one: Row, other: Row) -> bool:
    alike = one["class_id"] == other["class_id"] and abs(one["confidence"] - other["confidence"]) <= SCORE
    if not alike or np.abs(np.subtract(one["bbox"], other["bbox"])).max() > PIXELS:
        return False
    if "rle" in one:
        a, b = decoded(one["rle"]) > 0, decoded(other["rle"]) > 0
        return bool((a & b).sum() >= MASK_IOU * max(1, (a | b).sum())) or not (a | b).any()
    return "keypoints" not in one or bool(np.abs(np.subtract(one["keypoints"], other["keypoints"])).max() <= PIXELS)


def test_an_exported_zip_is_predicted_with(run_script: RunScript, tmp_path: Path) -> None:
    """As jobs: export.py, then predict.py with the zip it has left."""
    checkpoint = write_checkpoint("rtmdet-tiny", Task.DETECTION, tmp_path)
    pictures = write_pictures(tmp_path / "in")
    asked = {"JOB_ID": "9", "CHECKPOINT_PATH": str(checkpoint), "EXPORT_FORMAT": "onnx"}
    exported = run_script(asked, script=ROOT / "export.py", timeout_s=JOB_S)
    package = exported.folder / "out/export_9.zip"
    assert package.is_file(), exported.stdout + exported.stderr
    asked = {"JOB_ID": "21", "CHECKPOINT_PATH": str(package), "IMAGES_PATH": str(pictures)}
    asked["CONFIG"] = json.dumps({"conf": 0.05, "iou": 0.5, "max_det": 50, "device": "cpu"})
    run = run_script(asked, script=ROOT / "predict.py", timeout_s=JOB_S)
    assert run.exit_code == 0, run.stdout + run.stderr
    theirs = json.loads((run.folder / "out/predictions.json").read_text())
    ours = look(checkpoint, pictures, tmp_path / "ours", conf=0.05, iou=0.5, max_det=50)
    assert share_seen(ours, theirs) >= SAME

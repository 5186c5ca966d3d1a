"""Predicting with PyTorch: whole jobs as processes, and every task through the worker's own function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from converters.dice_reader import read_dice
from tests.conftest import JOB_ID, ROOT, RunScript
from tests.doubles.backend import ContractBackend
from tests.exports.looking import LOW, look
from tests.exports.untrained import MODELS, write_checkpoint, write_pictures
from trainer_sdk.tasks import Task

JOB_S = 300.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pictures(tmp_path_factory.mktemp("pictures") / "in")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_checkpoint(name, task, tmp_path_factory.mktemp(name)) for name, task in MODELS.items()}


def test_a_job_from_bucket_to_bucket_and_backend(
    checkpoints: dict[str, Path], pictures: Path, run_script: RunScript, s3: Any, backend: ContractBackend
) -> None:
    s3.client.create_bucket(Bucket="inference-data")
    for path in pictures.iterdir():
        s3.client.upload_file(str(path), "inference-data", f"inference/u/{path.name}")
    s3.client.upload_file(str(checkpoints["rtmdet-tiny"]), "training-checkpoints", "checkpoints/1/best.pt")
    environ = s3.environment() | {
        "INFERENCE_JOB_ID": str(JOB_ID),
        "CHECKPOINT_S3_URI": "s3://training-checkpoints/checkpoints/1/best.pt",
        "IMAGES_S3_URI": "s3://inference-data/inference/u/",
        "CALLBACK_URL": backend.url,
        "CONFIG": json.dumps({"conf": LOW, "max_det": 5, "device": "cpu", "save_dice": True, "save_crop": True}),
    }
    run = run_script(environ, script=ROOT / "predict.py", timeout_s=JOB_S)
    assert run.exit_code == 0, run.stdout + run.stderr
    said = json.loads((run.folder / "out/predictions.json").read_text())
    assert [row["image_name"] for row in said["results"]] == ["0.png", "1.png", "2.png", "broken.jpg"]
    assert "not an image" in said["results"][3]["error"]
    assert [len(row["predictions"]) for row in said["results"]] == [5, 5, 5, 0]
    keys = set(s3.keys("training-checkpoints", f"inference-results/{JOB_ID}/"))
    wanted = ("predictions.json", "report.html", "images/0.png", "labels/2.txt", "annotations_detection.json")
    assert {f"inference-results/{JOB_ID}/{name}" for name in wanted} <= keys
    assert not backend.rejected
    dice = read_dice((run.folder / "out/annotations_detection.json").read_bytes())
    assert [len(image.annotations) for image in dice.images] == [5, 5, 5]


@pytest.mark.parametrize("how", [{}, {"flip": True}, {"tiles": (64, 64)}, {"batch": 3}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_task_in_every_way(
    name: str, how: dict[str, Any], checkpoints: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    said = look(checkpoints[name], pictures, tmp_path, **how)
    assert said["unreadable_images"] == 1
    rows = [row for row in said["results"] if "error" not in row]
    assert len(rows) == 3
    found = [one for row in rows for one in row["predictions"]]
    assert found
    for row in rows:
        assert cv2.imread(str(tmp_path / "out/images" / row["image_name"])).shape[:2] == (row["height"], row["width"])
        for one in row["predictions"]:
            left, top, right, bottom = one["bbox"]
            far = 2 * max(row["width"], row["height"])  # the padding of a letterbox is a part of what the model sees
            assert -far < left <= right < far
            assert -far < top <= bottom < far
    if MODELS[name] in (Task.INSTANCE, Task.SEMANTIC):
        assert all(one["rle"]["size"] == [row["height"], row["width"]] for row in rows for one in row["predictions"])
    if MODELS[name] is Task.SEMANTIC:
        assert all(sum(one["pixels"] for one in row["predictions"]) == row["width"] * row["height"] for row in rows)
        assert all(0 < one["confidence"] <= 1 for one in found)
    if MODELS[name] is Task.POSE:
        assert all(len(point) == 3 for one in found for point in one["keypoints"])


def test_fewer_bits_are_used_only_where_they_see_the_same(
    checkpoints: dict[str, Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(checkpoints["rtmdet-tiny"], pictures, tmp_path / "one", precision="bf16")
    (note,) = json.loads((tmp_path / "one/work/predicted.json").read_text())["notes"]
    assert "bf16" in note
    monkeypatch.setattr("mmtrain.predicting.worker.LEAST", 1.1)  # nothing agrees so well
    said = look(checkpoints["rtmdet-tiny"], pictures, tmp_path / "two", precision="bf16")
    (note,) = json.loads((tmp_path / "two/work/predicted.json").read_text())["notes"]
    assert "not used but float32" in note
    plain = look(checkpoints["rtmdet-tiny"], pictures, tmp_path / "three")
    assert [row["predictions"] for row in said["results"]] == [row["predictions"] for row in plain["results"]]


def test_boxes_are_those_of_det_inferencer(checkpoints: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    from mmdet.apis import DetInferencer

    from mmtrain.engine.model_of import load_model
    from mmtrain.predicting.found import Classes
    from mmtrain.predicting.options import Options
    from mmtrain.predicting.torch_model import TorchPredictor

    paths = sorted(pictures.glob("*.png"))
    loaded = load_model(checkpoints["rtmdet-tiny"])
    loaded.cfg.dump(tmp_path / "config.py")
    upstream = DetInferencer(
        str(tmp_path / "config.py"), str(checkpoints["rtmdet-tiny"]), device="cpu", show_progress=False
    )
    expected = upstream([str(path) for path in paths], no_save_vis=True)["predictions"]
    classes = Classes.of(loaded.class_names, loaded.class_ids)
    limits = Options(conf=0.001, max_det=300)  # upstream's own of RTMDet
    ours = TorchPredictor(loaded.model, loaded.cfg, loaded.task, classes, limits)
    for path, theirs in zip(paths, expected, strict=True):
        (sight,) = ours.infer(ours.prepare(cv2.imread(str(path)), ()))
        assert len(sight.objects) == len(theirs["scores"]) > 0
        order = sorted(sight.objects, key=lambda found: -found.score)
        np.testing.assert_allclose([found.score for found in order], theirs["scores"], atol=1e-4)
        boxes = np.array(theirs["bboxes"])
        labels = np.array(theirs["labels"])
        for found in order[:50]:
            same = boxes[labels == found.label]
            assert np.abs(same - found.box_xyxy).max(axis=1).min() < 1e-3


def test_folded_batch_norms_compute_the_same_where_convolutions_are_shared() -> None:
    import torch
    from mmcv.cnn import ConvModule
    from torch import nn

    from mmtrain.predicting.faster import fuse

    torch.manual_seed(0)
    layers = nn.ModuleList([ConvModule(3, 4, 3, norm_cfg={"type": "BN"}) for _ in range(2)])
    layers[1].conv = layers[0].conv
    for layer in layers:
        layer.bn.running_mean.normal_()
        layer.bn.running_var.uniform_(0.5, 2)
        layer.bn.weight.data.normal_()
        layer.bn.bias.data.normal_()
    layers.eval()
    picture = torch.randn(1, 3, 8, 8)
    before = [layer(picture) for layer in layers]
    fuse(layers)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in layers.modules())
    for one, layer in zip(before, layers, strict=True):
        torch.testing.assert_close(layer(picture), one, rtol=1e-5, atol=1e-6)

"""Models to predict, export and evaluate with: one tiny training a task, shared by all tests of a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from mmtrain.datasets.pose_shapes import write_arrows
from mmtrain.datasets.shapes import write_shapes
from mmtrain.recipes import load_recipe
from tests.conftest import ROOT
from tests.exports.models import build
from tests.exports.table import row

__all__ = ["row"]

MODELS = {
    "object_detection": "rtmdet-tiny",
    "instance_segmentation": "rtmdet-ins-tiny",
    "semantic_segmentation": "bisenetv2",
    "pose_estimation": "rtmpose-t",
}
COUNTS = {"train": 8, "val": 4, "test": 3}


@dataclass(frozen=True)
class Trained:
    """A completed training and the data that it learnt from."""

    folder: Path
    data: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "out" / "best.pth"


def drawn(task: str, folder: Path) -> Path:
    """A data set of a task."""
    if task == "pose_estimation":
        return write_arrows(folder, counts=COUNTS)
    return write_shapes(folder, counts=COUNTS, task=task, mask_files=task == "semantic_segmentation")


TrainedOn = Callable[[str], Trained]


@pytest.fixture(scope="session")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> TrainedOn:
    """``trained_on("object_detection")``: two epochs at 64 px on drawn shapes, once a session."""

    @cache
    def train(task: str) -> Trained:
        folder = tmp_path_factory.mktemp(task)
        data = drawn(task, folder / "shapes")
        config = {"epochs": 2, "batch": 4, "imgsz": 64, "device": "cpu", "workers": 0, "pretrained": False, "mosaic": 0}
        environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME")},
            "JOB_ID": "7",
            "MODEL_NAME": MODELS[task],
            "TASK_TYPE": task,
            "DATASET_PATH": str(data),
            "CONFIG": json.dumps(config),
        }
        done = subprocess.run(
            [sys.executable, ROOT / "train.py"], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Trained(folder / "workspace" / "7", data)

    return train


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A detector with random weights and data of its classes a and b, and one more: made in seconds."""
    folder = tmp_path_factory.mktemp("untrained")
    built = build(load_recipe("rtmdet-tiny"), folder, (64, 64))
    meta = {"trainer": built.description, "dataset_meta": {"classes": list(built.plan.class_names)}}
    shapes = drawn("object_detection", folder / "shapes")
    model = Trained(folder, renamed(shapes, folder / "data", {"circle": "a", "square": "b"}))
    model.checkpoint.parent.mkdir()
    torch.save({"meta": meta, "state_dict": dict(built.model.state_dict())}, model.checkpoint)
    return model


def renamed(data: Path, target: Path, names: dict[str, str]) -> Path:
    """A copy whose classes have other names."""
    shutil.copytree(data, target)
    (file,) = target.glob("annotations*.json")
    text = file.read_text()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    file.write_text(text)
    return target

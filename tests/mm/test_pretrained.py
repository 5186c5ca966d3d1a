"""Published weights really reach the model: the backbone comes from the file, the head of another size is new."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from converters import convert, write_conversion
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.fetch import fetch
from mmtrain.datasets.inspect import judge, look_at_images, with_real_sizes
from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.order import WorkerOrder
from mmtrain.plan import make_plan
from mmtrain.recipes import load_recipe
from tests.conftest import ROOT
from tests.unit.test_plan import CPU
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace

MAKE_WEIGHTS = """
import sys, torch
from mmtrain import compat; compat.apply()
from mmengine.config import Config
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmtrain.engine.fit import upstream_config
from mmtrain.recipes import load_recipe
register_all_modules()
config = Config(upstream_config(load_recipe("rtmdet-tiny")))
config.model.backbone.init_cfg = None
torch.manual_seed(7)
torch.save({"state_dict": MODELS.build(config.model).state_dict(), "meta": {}}, sys.argv[1])
"""


def test_the_backbone_is_loaded_and_the_head_is_new(tmp_path: Path) -> None:
    weights = tmp_path / "published.pth"
    subprocess.run([sys.executable, "-c", MAKE_WEIGHTS, str(weights)], cwd=ROOT, check=True, capture_output=True)
    space = prepare(tmp_path, weights)
    done = subprocess.run(
        [sys.executable, "-m", "mmtrain.engine.worker", str(space.work)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    published = torch.load(weights, weights_only=True)["state_dict"]
    trained = torch.load(space.out / "best.pth", weights_only=True)["state_dict"]
    name = "backbone.stem.0.conv.weight"
    assert torch.allclose(published[name], trained[name], atol=1e-6)
    head = "bbox_head.rtm_cls.0.weight"
    assert (published[head].shape[0], trained[head].shape[0]) == (80, 3)


def prepare(folder: Path, weights: Path | None) -> Workspace:
    """A job folder at the point where the worker takes over: one epoch at a learning rate that changes nothing."""
    data = write_shapes(folder / "shapes", counts={"train": 4, "val": 2})
    space = Workspace(folder / "jobs", "1")
    space.clear()
    ref = DatasetRef(id="shapes", path=str(data))
    fetched = fetch(ref, Task.DETECTION, Settings.from_env({}), lambda done, total: None)
    looks = look_at_images(fetched, lambda done, total: None)
    conversion, findings = judge(convert(with_real_sizes(fetched.dice, looks), Task.DETECTION), fetched, looks)
    write_conversion(conversion, space.dataset)
    config = TrainConfig(epochs=1, batch=2, imgsz=64, lr0=1e-9, workers=0, mosaic=0, ema=False)
    spec = TrainSpec(job_id="1", task=None, model_name="rtmdet-tiny", dataset=ref, config=config)
    plan = make_plan(
        spec,
        load_recipe("rtmdet-tiny"),
        CPU,
        class_names=conversion.class_names,
        profile=findings.profile,
        weights_file=str(weights) if weights else None,
    )
    files = DatasetFiles(
        images=fetched.root, train=space.dataset / "train.json", val=space.dataset / "val.json", test=None
    )
    order = WorkerOrder(plan=plan, files=files, dataset={}, fingerprint="of this test", parent=os.getpid())
    space.save("work/worker.json", order)
    return space

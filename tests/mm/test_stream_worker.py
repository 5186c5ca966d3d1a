"""The worker process trains on images that stay in their bucket; so does whoever has its config.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson

from mmtrain.datasets.stream import StreamedImages
from mmtrain.engine.launch import launch
from mmtrain.engine.order import WorkerOrder
from mmtrain.engine.supervise import supervise
from tests.conftest import ROOT
from tests.doubles.s3 import ACCESS_KEY, DATASETS, SECRET_KEY, S3Double
from tests.mm.test_pretrained import prepare


def test_a_training_without_a_copy(s3: S3Double, tmp_path: Path) -> None:
    space = prepare(tmp_path, weights=None)
    shapes = tmp_path / "shapes"
    s3.put_folder(shapes / "images", DATASETS, "datasets/shapes/images/")
    shutil.rmtree(shapes)
    order = WorkerOrder.model_validate_json((space.work / "worker.json").read_bytes())
    images = StreamedImages(
        uri=f"s3://{DATASETS}/datasets/shapes", cache_dir=space.work / "stream_cache", cache_bytes=10**9
    )
    files = order.files.model_copy(update={"images": images})
    space.save("work/worker.json", order.model_copy(update={"files": files}))
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **s3.environment()}
    process = launch(space.work, processes=1, threads=1, gpus=(), environ=environ, streaming=True)
    finished = supervise(process, space.work, lambda news: None)
    assert finished.epochs == 1
    assert isinstance(orjson.loads((space.work / "predictions_val.json").read_bytes()), list)
    assert len(list((images.cache_dir / "kept").iterdir())) == 6
    for path in (path for path in space.folder.rglob("*") if path.is_file()):
        assert not any(key.encode() in path.read_bytes() for key in (ACCESS_KEY, SECRET_KEY)), path

    config = space.folder / "config.py"
    assert "python -m mmtrain.engine.by_hand" in config.read_text().splitlines()[1]
    command = [sys.executable, "-m", "mmtrain.engine.by_hand", str(config)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (space.folder / "by_hand" / "epoch_1.pth").exists()

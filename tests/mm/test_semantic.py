"""Upstream's own configurations with our edits: nothing of their data set is left, and their parts can be built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtrain.recipes import all_recipes
from tests.conftest import ROOT
from trainer_sdk.tasks import Task

RECIPES = [recipe.name for recipe in all_recipes() if recipe.task is Task.SEMANTIC]

EDIT_ALL = """
from mmtrain import compat; compat.apply()
from mmtrain.config.build import build_config
from mmtrain.config.slots import parts
from mmtrain.engine.fit import upstream_config
from mmtrain.recipes import load_recipe
from tests.unit.test_config import FILES
from tests.unit.test_plan import plan_of
from trainer_sdk.tasks import Task
from pathlib import Path
found = {}
for name in json.loads(sys.argv[1]):
    recipe = load_recipe(name, Task.SEMANTIC)
    config = build_config(upstream_config(recipe), recipe, plan_of(recipe, imgsz=(64, 96)), FILES, Path("/j/work"))
    nodes = list(parts(config["model"]))
    found[name] = {
        "classes": [node["num_classes"] for node in nodes if "num_classes" in node],
        "class_weight": [node["class_weight"] for node in nodes if "class_weight" in node],
        "heads": sum("loss_decode" in node or "loss_cls" in node for node in nodes),
        "downloads": any(word in repr(config["model"]) for word in ("Pretrained", "http", "open-mmlab:")),
        "sync": "SyncBN" in repr(config["model"]),
        "size": config["model"]["data_preprocessor"]["size"],
        "imports": config.get("custom_imports"),
    }
print(json.dumps(found))
"""

READ = """
from mmtrain import compat; compat.apply()
compat.import_quietly("mmseg.datasets")
from mmengine.registry import DATASETS, init_default_scope
from mmtrain.config.semantic import dataset, train_pipeline
from mmtrain.config.files import DatasetFiles
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import plan_of
from pathlib import Path
import numpy as np
init_default_scope("mmseg")
folder = Path(sys.argv[1])
recipe = load_recipe("pidnet-s")
plan = plan_of(recipe, imgsz=(40, 32), fliplr=1.0, flipud=1.0, scale=0, hsv_h=0, hsv_s=0, hsv_v=0)
files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "train.json", test=None)
built = DATASETS.build(dataset(plan, files, "train", train_pipeline(recipe, plan)))
sample = built[0]
truth = sample["data_samples"]
print(json.dumps({
    "inputs": sample["inputs"].numpy().tolist(),
    "seg": truth.gt_sem_seg.data[0].numpy().tolist(),
    "edges": sorted(set(truth.gt_edge_map.data[0].numpy().ravel().tolist())),
    "img_id": truth.img_id,
    "path": truth.img_path,
}))
"""

READ_STREAMED = """
from mmtrain import compat; compat.apply()
compat.import_quietly("mmseg.datasets")
from mmengine.registry import DATASETS, init_default_scope
from mmtrain.config.semantic import dataset, test_pipeline
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.stream import StreamedImages
from mmtrain.engine import stream
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import plan_of
from pathlib import Path
init_default_scope("mmseg")
folder, asked = Path(sys.argv[1]), []
class Bucket:
    def read(self, uri):
        asked.append(uri)
        return (folder / "in_bucket.png").read_bytes()
stream.register(Bucket())
recipe = load_recipe("segformer-b0")
images = StreamedImages(uri="s3://b/datasets/d", cache_dir=folder, cache_bytes=1)
files = DatasetFiles(images=images, train=folder / "train.json", val=folder / "train.json", test=None)
plan = plan_of(recipe, imgsz=(40, 32))
built = DATASETS.build(dataset(plan, files, "val", test_pipeline(recipe, plan)))
truth = built[0]["data_samples"]
print(json.dumps([asked, sorted(set(truth.gt_sem_seg.data.numpy().ravel().tolist()))]))
"""


def run_python(code: str, *arguments: str) -> Any:
    command = [sys.executable, "-c", "import json, sys\n" + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def edited() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = run_python(EDIT_ALL, json.dumps(RECIPES))
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_of_upstreams_data_set_is_left(name: str, edited: dict[str, dict[str, Any]]) -> None:
    found = edited[name]
    assert len(found["classes"]) == found["heads"] > 0
    assert set(found["classes"]) == {2}
    assert all(weights in (None, [1.0, 1.0, 0.1]) for weights in found["class_weight"])
    assert (found["downloads"], found["sync"], found["size"]) == (False, False, [96, 64])
    assert (found["imports"] is not None) == (name == "mask2former-r50")  # its parts are mmdet's


def test_image_mask_and_edges_turn_together_and_any_name_is_read(tmp_path: Path) -> None:
    name = " odd\nname .png"
    pixels = np.zeros((32, 40), np.uint8)
    pixels[:10, :15] = 1
    pixels[20:, 30:] = 255
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / name)
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks/000007.png")
    entry = {"img_id": 7, "img_path": name, "seg_map_path": "000007.png"}
    common = {"label_map": None, "reduce_zero_label": False, "seg_fields": []}
    (tmp_path / "masks/train.json").write_text(json.dumps({"metainfo": {}, "data_list": [entry | common]}))
    found = run_python(READ, str(tmp_path))
    turned = pixels[::-1, ::-1]
    assert np.array_equal(np.asarray(found["seg"]), turned)
    assert np.array_equal(np.asarray(found["inputs"])[0], turned)
    assert found["edges"] == [0, 1]
    assert (found["img_id"], found["path"]) == (7, str(tmp_path / name))


def test_pictures_come_from_the_bucket_and_masks_from_here(tmp_path: Path) -> None:
    pixels = np.zeros((32, 40), np.uint8)
    pixels[:10] = 1
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / "in_bucket.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks/000001.png")
    entry = {"img_id": 1, "img_path": "nested/a b.png", "seg_map_path": "000001.png"}
    common = {"label_map": None, "reduce_zero_label": False, "seg_fields": []}
    (tmp_path / "masks/train.json").write_text(json.dumps({"metainfo": {}, "data_list": [entry | common]}))
    assert run_python(READ_STREAMED, str(tmp_path)) == [["s3://b/datasets/d/nested/a b.png"], [0, 1]]

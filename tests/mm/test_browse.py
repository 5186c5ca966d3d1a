"""What is drawn is what the model gets: boxes sit on objects after mosaic, crop and flip; no training notices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmtrain.datasets.shapes import CLASSES, COLOURS, write_shapes
from mmtrain.reports.browse import SHEET_TILE, report_section, sheet_columns
from mmtrain.shown import JOB_FOLDER, Shown, ShownPicture, read_shown
from tests.conftest import ROOT

RUN_SHOW = """
import pickle, random, sys
from pathlib import Path
import numpy as np, torch
from mmtrain import browse, compat
compat.apply()
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmtrain.engine.browse import show, show_config

def state():
    return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))

folder = Path(sys.argv[1])
options = browse._parser().parse_args(sys.argv[2:])
config = Config(browse.of_dataset(options, folder).config)
init_default_scope("mmdet")
compat.import_quietly("mmdet.datasets")
dataset = DATASETS.build(config.train_dataloader.dataset)
pipeline = config.train_dataloader.to_dict()["dataset"]["pipeline"]
infos = [dataset.get_data_info(i) for i in range(len(dataset))]
for name in ("a", "b"):
    before = state()
    show(dataset, pipeline, folder / name, count=8, seed=7)
    assert state() == before, "showing moved the random state of the training"
    random.random(), np.random.rand(), torch.rand(1)  # what is shown does not depend on it either
assert [dataset.get_data_info(i) for i in range(len(dataset))] == infos, "showing changed the data set"
caches = [t.results_cache for t in dataset.pipeline.transforms if hasattr(t, "results_cache")]
assert caches == [[], []], "showing filled the caches that the training fills itself"
show_config(config, folder / "val", split="val", count=9, seed=7)
print("undisturbed")
"""


def run_python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", counts={"train": 12, "val": 4}, size=(160, 120))


def test_boxes_sit_on_objects_and_the_training_is_not_disturbed(detection: Path, tmp_path: Path) -> None:
    augmentation = ("--imgsz", "256", "--mosaic", "1", "--mixup", "0.3")
    done = run_python("-c", RUN_SHOW, tmp_path, detection, *augmentation, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "undisturbed" in done.stdout
    shown = read_shown(tmp_path / "a")
    assert shown == read_shown(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert shown.class_names == CLASSES
    assert all((picture.width, picture.height) == (256, 256) for picture in shown.pictures)
    assert all("CachedMosaic" in picture.steps for picture in shown.pictures)
    assert any("RandomFlip" in picture.steps for picture in shown.pictures)
    unmixed = [picture for picture in shown.pictures if "CachedMixUp" not in picture.steps]
    shares = [share for picture in unmixed for share in colour_shares(shown, picture, tmp_path / "a")]
    assert len(shares) > 8
    assert np.median(shares) > 0.5  # a triangle fills half of its box; others may lie on it
    assert min(shares) > 0.1
    val = read_shown(tmp_path / "val")
    assert sorted(picture.file_name for picture in val.pictures) == [f"images/shape_{n:04}.png" for n in range(13, 17)]
    shares = [share for picture in val.pictures for share in colour_shares(val, picture, tmp_path / "val")]
    assert np.median(shares) > 0.5


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def colour_shares(shown: Shown, picture: ShownPicture, folder: Path) -> list[float]:
    """Of each box of some size: how much of it is coloured more like its class than like the others."""
    pixels = np.asarray(cv2.imread(str(folder / picture.picture)), dtype=np.float64)[..., ::-1]
    shares = []
    for thing in picture.objects:
        x, y, width, height = (round(side) for side in thing.bbox)
        if min(width, height) >= 8:
            inside = nearest_class(pixels[y : y + height, x : x + width])
            shares.append(float((inside == thing.category_id).mean()))
    return shares


def nearest_class(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    """(h, w, 3) RGB -> (h, w) class index, -1 for the grey background."""
    channel = pixels.argmax(axis=-1)  # red circles, green squares, blue triangles
    assert [int(np.argmax(colour)) for colour in COLOURS] == [0, 1, 2]
    colourful = pixels.max(axis=-1) - pixels.min(axis=-1) > 40
    return np.where(colourful, channel, -1)


def test_a_failure_costs_the_pictures_and_not_the_training(tmp_path: Path) -> None:
    from mmengine.config import Config

    from mmtrain.engine.hooks import BrowseHook

    loader = {"dataset": {"pipeline": [{"type": "NoSuchTransform"}]}}
    runner = SimpleNamespace(
        cfg=Config({"train_dataloader": loader}), train_dataloader=SimpleNamespace(dataset=SimpleNamespace())
    )
    BrowseHook(tmp_path, seed=1).before_train(runner)
    section = report_section(tmp_path / JOB_FOLDER)
    assert section.tiles == ()
    assert "NoSuchTransform" in section.problem


def test_masks_are_drawn_on_a_sheet_and_a_page(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 2}, task="instance_segmentation", variant="B")
    command = ("-m", "mmtrain.browse", data, "--count", "10", "--imgsz", "192", "--mosaic", "1", "--out", "seen")
    done = run_python(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["seen/browse.png", "seen/browse.html"]
    sheet = np.asarray(Image.open(tmp_path / "seen" / "browse.png"), dtype=np.int64)
    assert sheet.shape[1] == sheet_columns(10) * (SHEET_TILE + 10) + 10
    assert (np.abs(sheet - [0x44, 0x77, 0xAA]).sum(axis=-1) < 6).sum() > 500  # boxes and names of the first class
    page = (tmp_path / "seen" / "browse.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 10
    assert "mosaic of four pictures on 384 × 384" in page
    assert "read boxes and masks" in page
    assert all(f"</i>{name}</span>" in page for name in CLASSES)
    assert "http" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["."], "neither a job (no plan.json) nor a data set"),
        ([".", "--model", "rtmdet-tin"], "did you mean 'rtmdet-tiny'"),
        ([".", "--task", "image_classification"], "no model does image_classification"),
        (["DATA", "--mosaic", "2", "--seed", "-1"], "2 problems"),
        (["JOB", "--mosaic", "0", "--imgsz", "64"], "is a job and has decided already: --imgsz, --mosaic"),
        (["JOB"], "never came to its training"),
    ],
)
def test_what_cannot_be_shown_is_said_without_a_traceback(
    detection: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "plan.json").write_text("{}")
    places = {"DATA": str(detection), "JOB": str(job)}
    done = run_python("-m", "mmtrain.browse", *(places.get(word, word) for word in arguments), folder=tmp_path)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_pasted_is_shown(tmp_path: Path) -> None:
    """CopyPaste gets its other picture from a wrapper of the data set, which a sheet has to do without."""
    import numpy as np
    from mmengine.config import Config

    from mmtrain.config.detection import dataset, train_pipeline
    from mmtrain.config.files import DatasetFiles
    from mmtrain.engine.browse import show_config
    from mmtrain.recipes import load_recipe
    from tests.unit.test_plan import plan_of

    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(tmp_path / "one.png")
    polygon = [10.0, 10.0, 40.0, 10.0, 40.0, 40.0, 10.0, 40.0]
    coco = {
        "images": [{"id": 1, "file_name": "one.png", "width": 80, "height": 60}],
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
        "annotations": [
            {
                "id": number, "image_id": 1, "category_id": 0, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0,
                "segmentation": [polygon],
            }
            for number in (1, 2)
        ],
    }  # fmt: skip
    (tmp_path / "train.json").write_bytes(orjson.dumps(coco))
    files = DatasetFiles(images=tmp_path, train=tmp_path / "train.json", val=tmp_path / "train.json", test=None)
    recipe = load_recipe("mask-rcnn-r50")
    plan = plan_of(recipe, copy_paste=1, imgsz=96)
    loader = {"dataset": dataset(plan, files, "train", train_pipeline(recipe, plan))}
    config = Config({"default_scope": "mmdet", "train_dataloader": loader})
    shown = show_config(config, tmp_path / "shown", count=12, seed=1)
    assert [len(shown.pictures), {(one.width, one.height) for one in shown.pictures}] == [12, {(96, 96)}]
    assert {"CopyPaste" in one.steps for one in shown.pictures} >= {True}
    assert {len(one.objects) for one in shown.pictures} - {2}

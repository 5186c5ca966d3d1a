"""What an evaluation does before and after the model looks: classes by name, splits, plots, the callback's names."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from mmtrain.datasets.classes import matched
from mmtrain.datasets.fetch import FetchedDataset, fetch
from mmtrain.datasets.preflight import preflight
from mmtrain.datasets.shapes import CLASSES, write_shapes
from mmtrain.display import Display
from mmtrain.engine.evaluate_worker import without_nan
from mmtrain.engine.order import ModelFacts
from mmtrain.jobs.alone import one_device
from mmtrain.jobs.evaluate import Chosen, choose
from mmtrain.jobs.evaluated import callback_metrics
from mmtrain.machine import Machine
from mmtrain.reports.models import Evaluation, PrCurve, PrCurves
from mmtrain.reports.plot_files import write_plots
from tests.unit.test_plan import CPU, FOUR_GPUS
from trainer_sdk.errors import ConfigError, DatasetError, ResourceError
from trainer_sdk.jobspec import EvaluateSpec
from trainer_sdk.request.reading import read_evaluate_spec
from trainer_sdk.session import JobSession
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace

COUNTS = {"train": 6, "val": 3, "test": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", counts=COUNTS, size=(64, 64))


def asked(data: Path, config: str = "{}") -> EvaluateSpec:
    return read_evaluate_spec({"JOB_ID": "1", "CHECKPOINT_PATH": "x.pth", "DATASET_PATH": str(data), "CONFIG": config})


def fetched(spec: EvaluateSpec, task: Task = Task.DETECTION) -> FetchedDataset:
    return fetch(spec.dataset, task, Settings.from_env({}), lambda done, total: None)


def chosen(spec: EvaluateSpec, folder: Path, classes: tuple[str, ...] = CLASSES, task: Task = Task.DETECTION) -> Chosen:
    space = Workspace(folder, "1")
    space.clear()
    session = cast(JobSession, SimpleNamespace(workspace=space, settings=Settings.from_env({})))
    facts = ModelFacts(
        recipe="rtmdet-tiny",
        task=task,
        class_names=classes,
        class_ids=(0, 1, 2),
        size_wh=(64, 64),
        primary_metric="coco/bbox_mAP",
    )
    return choose(spec, facts, fetched(spec, task), session, Display("checking", unit="images"))


@pytest.mark.parametrize(
    ("config", "split", "images"),
    [
        ("{}", "test", 2),
        ('{"split": "val"}', "val", 3),
        ('{"split": "train"}', "train", 6),
        ('{"split": "all"}', "all", 11),
        ('{"split": "all", "split_config": {"exclude_images": [1, 2]}}', "all", 9),
        ('{"split": "val", "split_config": {"method": "auto", "ratio": [0.5, 0.5], "seed": 1}}', "val", 5),
    ],
)
def test_which_images(data: Path, tmp_path: Path, config: str, split: str, images: int) -> None:
    found = chosen(asked(data, config), tmp_path)
    assert (found.split, len(found.matched.conversion.splits["val"].images)) == (split, images)


def test_a_data_set_with_nothing_but_test_images_can_be_measured(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"test": 3}, size=(64, 64))
    assert len(chosen(asked(data), tmp_path).matched.conversion.splits["val"].images) == 3


def test_masks_in_files_have_no_objects_and_are_measured(tmp_path: Path) -> None:
    data = write_shapes(
        tmp_path / "shapes", counts=COUNTS, size=(64, 64), task="semantic_segmentation", mask_files=True
    )
    classes = (*CLASSES, "background")
    found = chosen(asked(data), tmp_path, classes, Task.SEMANTIC)
    assert found.matched.conversion.class_names == classes
    assert found.matched.labels == (0, 1, 2, 3)


def test_a_split_without_images(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2}, size=(64, 64))
    with pytest.raises(DatasetError, match="nothing to measure in test: the data set has 4 train, 2 val, 0 test"):
        chosen(asked(data, '{"split": "test"}'), tmp_path)


def test_damaged_data_are_refused_as_before_a_training(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    next(copy.rglob("*.png")).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"DS05[01]"):
        chosen(asked(copy, '{"split": "all"}'), tmp_path)


def test_classes_of_model_and_data_are_matched_by_name(data: Path) -> None:
    spec = asked(data)
    conversion, _ = preflight(fetched(spec), Task.DETECTION, lambda done, total: None)
    same = matched(conversion, CLASSES)
    assert (same.labels, same.conversion.class_names, same.remarks()) == ((0, 1, 2), CLASSES, [])
    other = matched(conversion, ("square", "star", "circle"))
    assert other.conversion.class_names == (*CLASSES, "star")
    assert other.labels == (1, 3, 0)
    assert [category.name for category in other.conversion.splits["test"].categories] == [*CLASSES, "star"]
    assert (other.only_in_data, other.only_in_model) == (("triangle",), ("star",))
    assert [remark.split()[0] for remark in other.remarks()] == ["The", "The"]
    with pytest.raises(DatasetError, match="no class in common: circle, square, triangle in the data, cat in"):
        matched(conversion, ("cat",))


def test_one_device() -> None:
    gpus = Machine(cores=4, gpus=FOUR_GPUS.gpus, shm_free_bytes=0)
    assert one_device(None, CPU) == ("cpu", ())
    assert one_device("cpu", gpus) == ("cpu", ())
    assert one_device(None, gpus) == ("cuda:0", (0,))
    assert one_device("2", gpus) == ("cuda:0", (2,))
    with pytest.raises(ResourceError, match="this machine has none"):
        one_device("0", CPU)
    with pytest.raises(ConfigError, match="names several GPUs"):
        one_device("0-1", gpus)


def test_the_callback_gets_the_names_that_the_backend_looks_for() -> None:
    boxes = {"mAP@0.5:0.95": 0.25, "mAP@0.5": 0.5}
    assert callback_metrics(boxes) == {**boxes, "mAP50-95": 0.25, "mAP50": 0.5}
    masks = {**boxes, "mAP@0.5:0.95(M)": 0.125}
    assert callback_metrics(masks)["mAP50-95"] == 0.125
    assert callback_metrics({"mIoU": 0.5}) == {"mIoU": 0.5}


def test_predictions_that_are_no_numbers_are_left_out() -> None:
    sound = {"score": 0.5, "bbox": [0.0, 1.0, 2.0, 3.0]}
    rows = [sound, {**sound, "score": math.nan}, {**sound, "keypoints": [1.0, math.inf, 0.5]}]
    assert without_nan(rows) == ([sound], 2)


def evaluation(**fields: Any) -> Evaluation:
    return Evaluation(task=Task.DETECTION, images=1, class_names=["a", "$b_1$"], metrics={}, **fields)


def test_plots_are_pictures(tmp_path: Path) -> None:
    recall = [place / 100 for place in range(101)]
    curves = PrCurves(recall=recall, classes={"$b_1$": PrCurve(precision=[1.0] * 101, score=[0.5] * 101)})
    rows = {"a": {"ap_50_95": 0.5}, "$b_1$": {"ap_50_95": None}}
    whole = evaluation(confusion_matrix=[[3, 1, 0], [0, 2, 0], [1, 0, 0]], pr_curves=curves, per_class=rows)
    written = write_plots(whole, tmp_path)
    assert {path.name for path in written} == {"confusion_matrix.png", "PR_curve.png", "per_class.png"}
    for path in written:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 1
    assert write_plots(evaluation(per_class={}), tmp_path / "none") == []

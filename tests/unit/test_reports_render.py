"""The page and the pictures: self-contained, escaped, deterministic, and whole with or without data."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmtrain.datasets.pictures import PicturesHere
from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import (
    Curves,
    Evaluation,
    Finding,
    ImageScore,
    PlanEntry,
    PrimaryMetric,
    ReportFile,
    Sample,
    TrainReport,
    ValidationPoint,
    build_report,
)
from mmtrain.reports.pose import evaluate_pose
from mmtrain.reports.render import render_html, write_report
from mmtrain.reports.samples import draw_samples, draw_semantic_samples
from mmtrain.reports.semantic import evaluate_semantic
from tests.pages import Page
from trainer_sdk.tasks import Task

NASTY = "<script>alert(1)</script>"
NAMES = [NASTY, "$x_1$ größe 細胞", "n" * 90]
XYWH = [20.0, 10.0, 30.0, 20.0]
POLYGON = [20.0, 10.0, 50.0, 10.0, 50.0, 30.0, 20.0, 30.0]


@pytest.fixture
def split(tmp_path: Path) -> tuple[Path, Path]:
    """20 grey images with one object each; every fourth is missed, and the classes take turns."""
    images = [{"id": i, "file_name": f"{i:02}.png", "width": 600, "height": 100} for i in range(20)]
    for image in images:
        cv2.imwrite(str(tmp_path / str(image["file_name"])), np.full((100, 600, 3), 128, np.uint8))
    objects = [
        {"id": i + 1, "image_id": i, "category_id": i % 3, "bbox": XYWH, "area": 600,
         "iscrowd": 0, "segmentation": [POLYGON]}
        for i in range(20)
    ]  # fmt: skip
    mask = coco_mask.frPyObjects([POLYGON], 100, 600)[0]
    rle = mask | {"counts": mask["counts"].decode()}
    found = [
        {k: o[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9, "segmentation": rle} for o in objects
    ]
    truth = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([f for i, f in enumerate(found) if i % 4]))
    return tmp_path / "truth.json", tmp_path / "found.json"


def drawn_samples(split: tuple[Path, Path], task: Task, folder: Path) -> list[Sample]:
    return draw_samples(*split, PicturesHere(folder), evaluate(*split, task=task, score_threshold=0.5))


@pytest.fixture
def samples(split: tuple[Path, Path]) -> list[Sample]:
    return drawn_samples(split, Task.DETECTION, split[0].parent)


@pytest.fixture
def report(split: tuple[Path, Path]) -> TrainReport:
    return build_report(
        {"test": evaluate(*split, task="object_detection")},
        "test",
        "mAP@0.5:0.95",
        job_id="7",
        model_name=NASTY,
        dataset_id="cells",
        best_epoch=2,
        curves=Curves(
            train=[{"epoch": e / 10, "loss": 3.0 / (e + 1), "loss_cls": math.inf, "lr": 1e-3} for e in range(900)]
            + [{"epoch": 90, "data_share": 0.3, "peak_rss_bytes": 2_500_000_000}],
            validation=[ValidationPoint(epoch=e, metrics={"mAP@0.5:0.95": 0.1 * e, "odd $name": None}) for e in (1, 2)],
        ),
        findings=[Finding(code="c", severity="warning", title=NASTY, count=3, examples=[NASTY, {"id": 4}])],
        plan=[PlanEntry(name="lr0", value=0.1, origin="spec", reason=NASTY)],
        files=[ReportFile(name="best.pth", sha256="ab" * 32, size_bytes=58_200_133)],
        versions={"torch": "2.13.0"},
        notes=[NASTY],
    )  # fmt: skip


def test_the_page_is_self_contained_and_escaped(report: TrainReport, samples: list[Sample]) -> None:
    html = render_html(report, samples)
    page = Page(html)
    assert not re.search(r"https?://", html)
    assert all(reference.startswith(("data:image/jpeg;base64,", "#")) for reference in page.references)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert html.count("&lt;script&gt;") > 5
    assert html.count("<figure>") == 12
    assert page.tags.count("img") == 24  # truth and prediction
    assert page.tags.count("svg") == 5
    assert "58.2 MB" in html
    assert "30 % went by waiting for data" in html
    assert "The training process had up to 2.5 GB of memory." in html


def test_a_bare_report_says_what_is_missing() -> None:
    bare = TrainReport(
        task="pose_estimation", job_id="1", model_name="m", dataset_id="d", evaluated_on="val",
        primary_metric=PrimaryMetric(name="OKS", value=None), metrics={"OKS": None},
    )  # fmt: skip
    html = render_html(bare)
    assert html.count('<p class="soft small">') == 10
    assert "<svg" not in html
    assert "waiting for data" not in html


def test_many_classes_keep_their_colours_and_lose_their_counts(report: TrainReport) -> None:
    names = [f"{i} {NASTY} {'w' * 80}" for i in range(80)]
    matrix = (np.eye(81, dtype=int) * 977_531).tolist()
    many = report.model_copy(update={"class_names": names, "confusion_matrix": matrix})
    html = render_html(many)
    assert ">977531<" not in html
    assert html.count(": 977531") == 81
    assert "script" not in Page(html).tags


def test_written_json_is_the_report_without_pictures(
    report: TrainReport, samples: list[Sample], tmp_path: Path
) -> None:
    as_json, as_html = write_report(report, samples, tmp_path / "out")
    data = json.loads(as_json.read_text())
    assert {"task", "primary_metric", "metrics", "per_class", "confusion_matrix", "class_names", "splits"} <= set(data)
    assert data["primary_metric"] == {"name": "mAP@0.5:0.95", "value": report.metrics["mAP@0.5:0.95"]}
    assert isinstance(data["per_class"][NASTY]["support"], int)
    assert TrainReport.model_validate(data) == report
    assert sorted(path.name for path in as_html.parent.iterdir()) == ["report.html", "report.json"]
    assert data["curves"]["train"][0]["loss_cls"] is None  # was infinite


def test_samples_mix_mistakes_and_classes(samples: list[Sample]) -> None:
    assert len({sample.file_name for sample in samples}) == 12
    assert [sample.mistakes for sample in samples[:4]] == [1, 1, 1, 1]
    assert {sample.reason for sample in samples[:4]} == {"among the worst, F1 0.00"}
    assert {sample.reason for sample in samples[4:6]} == {"among the best, F1 1.00"}
    assert {sample.reason for sample in samples[6:]} == {f"shows {name}" for name in NAMES}


def test_samples_are_the_same_every_time_and_small(split: tuple[Path, Path], samples: list[Sample]) -> None:
    assert samples == drawn_samples(split, Task.DETECTION, split[0].parent)
    picture = decoded(samples[0].truth_jpeg)
    assert picture.shape == (80, 480, 3)


def decoded(jpeg: str) -> NDArray[np.uint8]:
    """(H, W, 3), BGR."""
    return np.asarray(cv2.imdecode(np.frombuffer(b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)


def test_masks_tint_the_inside(split: tuple[Path, Path]) -> None:
    drawn = drawn_samples(split, Task.INSTANCE, split[0].parent)
    blue = next(sample for sample in drawn if sample.reason == f"shows {NASTY}")
    picture = decoded(blue.truth_jpeg)
    b, _, r = (int(v) for v in picture[20, 32])  # the box spans x 16..40, y 8..24 after scaling by 0.8
    assert b > r + 15


def test_unreadable_images_are_left_out(split: tuple[Path, Path]) -> None:
    assert drawn_samples(split, Task.DETECTION, Path("/nowhere")) == []


def test_a_page_of_pixels_has_their_table_and_no_boxes(tmp_path: Path) -> None:
    truth, found = {}, {}
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((40, 60, 3), 90, np.uint8))
        labels = np.full((40, 60), 2, np.uint8)
        labels[:20, :30] = i % 2
        for name, masks, pixels in (("t", truth, labels), ("f", found, np.roll(labels, i, axis=1))):
            masks[i] = tmp_path / f"{name}{i:06}.png"
            cv2.imwrite(str(masks[i]), pixels)
    names = {i: f"{i}.png" for i in truth}
    evaluation = evaluate_semantic(truth, found, [NASTY, "tree", "background"], file_names=names)
    samples = draw_semantic_samples(truth, found, names, PicturesHere(tmp_path), evaluation)
    assert [sample.reason for sample in samples[:2]] == [
        f"among the worst, mIoU {s.score:.2f}" for s in _worst(evaluation)
    ]
    tree, ground = decoded(samples[0].truth_jpeg)[10, 15], decoded(samples[0].truth_jpeg)[30, 45]
    assert np.ptp(tree.astype(int)) > 40
    assert np.ptp(ground.astype(int)) < 10
    html = render_html(build_report({"test": evaluation}, "test", "mIoU", **ABOUT), samples)
    assert "IoU</th>" in html
    assert "Percent of the pixels" in html
    assert '<td style="--s:1.0" class="deep" title="7,800">' not in html  # the background lost some of its pixels
    for absent in ("Precision and recall", "Keypoints", "Mistakes", "score ≥", NASTY):
        assert absent not in html


def test_a_page_of_poses_has_a_row_for_each_point(tmp_path: Path) -> None:
    pose = {"image_id": 1, "category_id": 0, "bbox": XYWH, "keypoints": [25, 15, 2, 30, 20, 2]}
    truth = {
        "images": [{"id": 1, "file_name": "1.png", "width": 600, "height": 100}],
        "annotations": [pose | {"id": 1, "area": 600, "iscrowd": 0, "num_keypoints": 2}],
        "categories": [{"id": 0, "name": "cat"}],
    }
    cv2.imwrite(str(tmp_path / "1.png"), np.full((100, 600, 3), 128, np.uint8))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([pose | {"score": 0.9}]))
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    evaluation = evaluate_pose(*paths, [0.1, 0.1], names=["left_ear", NASTY], flip_pairs=[(0, 1)])
    samples = draw_samples(*paths, PicturesHere(tmp_path), evaluation)
    assert [(sample.reason, sample.mistakes) for sample in samples] == [("shows cat", None)]
    html = render_html(build_report({"test": evaluation}, "test", "OKS-AP", **ABOUT), samples)
    assert "left_ear" in html
    assert "at OKS 0.5 and score" in html
    assert NASTY not in html


def test_mistakes_are_drawn_by_kind(report: TrainReport) -> None:
    html = render_html(report)
    assert "5 (100%)" in html  # every fourth of twenty objects is missed
    assert "localisation" in html


ABOUT = {"job_id": "7", "model_name": "m", "dataset_id": "d"}


def _worst(evaluation: Evaluation) -> list[ImageScore]:
    assert evaluation.ranking is not None
    return evaluation.ranking.worst[:2]

"""The page and the pictures: self-contained, escaped, deterministic, and whole with or without data."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import (
    Curves,
    Finding,
    PlanEntry,
    PrimaryMetric,
    ReportFile,
    Sample,
    TrainReport,
    ValidationPoint,
    build_report,
)
from mmtrain.reports.render import render_html, write_report
from mmtrain.reports.samples import draw_samples

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
    found = [{k: o[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9} for o in objects]
    truth = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([f for i, f in enumerate(found) if i % 4]))
    return tmp_path / "truth.json", tmp_path / "found.json"


@pytest.fixture
def samples(split: tuple[Path, Path]) -> list[Sample]:
    return draw_samples(*split, split[0].parent, task="object_detection", score_threshold=0.5)


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
            train=[{"epoch": e / 10, "loss": 3.0 / (e + 1), "loss_cls": math.inf, "lr": 1e-3} for e in range(900)],
            validation=[ValidationPoint(epoch=e, metrics={"mAP@0.5:0.95": 0.1 * e, "odd $name": None}) for e in (1, 2)],
        ),
        findings=[Finding(code="c", severity="warning", title=NASTY, count=3, examples=[NASTY, {"id": 4}])],
        plan=[PlanEntry(name="lr0", value=0.1, origin="spec", reason=NASTY)],
        files=[ReportFile(name="best.pth", sha256="ab" * 32, size_bytes=58_200_133)],
        versions={"torch": "2.13.0"},
        notes=[NASTY],
    )  # fmt: skip


class Page(HTMLParser):
    """Counts tags and gathers every attribute that could reach out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]


def test_the_page_is_self_contained_and_escaped(report: TrainReport, samples: list[Sample]) -> None:
    html = render_html(report, samples)
    page = Page(html)
    assert not re.search(r"https?://", html)
    assert all(reference.startswith(("data:image/jpeg;base64,", "#")) for reference in page.references)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert html.count("&lt;script&gt;") > 5
    assert html.count("<figure>") == 12
    assert page.tags.count("img") == 24  # truth and prediction
    assert page.tags.count("svg") == 4
    assert "58.2 MB" in html


def test_a_bare_report_says_what_is_missing() -> None:
    bare = TrainReport(
        task="pose_estimation", job_id="1", model_name="m", dataset_id="d", evaluated_on="val",
        primary_metric=PrimaryMetric(name="OKS", value=None), metrics={"OKS": None},
    )  # fmt: skip
    html = render_html(bare)
    assert html.count('<p class="soft small">') == 9
    assert "<svg" not in html


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
    assert {sample.reason for sample in samples[4:]} == {f"shows {name}" for name in NAMES}


def test_samples_are_the_same_every_time_and_small(split: tuple[Path, Path], samples: list[Sample]) -> None:
    assert samples == draw_samples(*split, split[0].parent, task="object_detection", score_threshold=0.5)
    picture = decoded(samples[0].truth_jpeg)
    assert picture.shape == (80, 480, 3)


def decoded(jpeg: str) -> NDArray[np.uint8]:
    """(H, W, 3), BGR."""
    return np.asarray(cv2.imdecode(np.frombuffer(b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)


def test_masks_tint_the_inside(split: tuple[Path, Path]) -> None:
    drawn = draw_samples(*split, split[0].parent, task="instance_segmentation", score_threshold=0.5)
    blue = next(sample for sample in drawn if sample.reason == f"shows {NASTY}")
    picture = decoded(blue.truth_jpeg)
    b, _, r = (int(v) for v in picture[20, 32])  # the box spans x 16..40, y 8..24 after scaling by 0.8
    assert b > r + 15


def test_unreadable_images_are_left_out(split: tuple[Path, Path]) -> None:
    assert draw_samples(*split, Path("/nowhere"), task="object_detection", score_threshold=0.5) == []

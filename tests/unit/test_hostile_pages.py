"""Pages and pictures about data whose names break out of everything that quotes them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from converters import write_conversion
from mmtrain.datasets.pictures import PicturesHere
from mmtrain.datasets.shapes import write_shapes
from mmtrain.doctor import check
from mmtrain.reports.browse import write_browse
from mmtrain.reports.data_page import DataPage, render_data_page
from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import Curves, build_report
from mmtrain.reports.plot_files import write_plots
from mmtrain.reports.render import render_html
from mmtrain.reports.samples import draw_samples
from mmtrain.shown import Shown, ShownObject, ShownPicture
from trainer_sdk.tasks import Task

NAMES = (
    '<script>alert(1)</script>" onmouseover="alert(1)" x=\'',
    "two\nlines\x1b[2J\u202e\x00--><svg onload=alert(1)>",
    "]]></svg>{{ 7*7 }}{% raw %}$\\frac{$'\"&lt;",
)
FILE = "<img src=x onerror=alert(1)>\n\"'.png"


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts += data


def assert_harmless(page: str) -> Elements:
    found = Elements(page)
    assert {"script", "iframe", "object", "embed", "link", "form", "base"}.isdisjoint(found.tags)
    assert not {name for name in found.attributes if name.startswith("on")}
    assert "49" not in found.texts.replace(NAMES[2], "") or "7*7" in found.texts
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_shapes(tmp_path / "d", counts={"train": 3, "val": 2}, size=(64, 64))
    path = folder / "annotations_detection.json"
    document = json.loads(path.read_text())
    renamed = dict(zip((row["name"] for row in document["classes"]), NAMES, strict=True))
    for row in document["classes"]:
        row["name"] = renamed[row["name"]]
    for image in document["images"]:
        for annotation in image["annotations"]:
            annotation["class_name"] = renamed[annotation["class_name"]]
    first = document["images"][0]
    (folder / "images" / first["file_name"]).rename(folder / "images" / FILE.replace("/", "_"))
    first["file_name"] = FILE.replace("/", "_")
    first["annotations"].append({"id": 900, "class_id": 0, "bbox": [60, 60, 50, 50]})  # a finding that shows the file
    path.write_text(json.dumps(document))
    return folder


def test_the_data_page_is_ours(data: Path) -> None:
    checkup = check(data, Task.DETECTION, lambda *_: None)
    assert checkup.fetched is not None
    page = DataPage(NAMES[0], checkup.task, checkup.fetched.root, checkup.fetched.image_paths)
    found = assert_harmless(render_data_page(page, checkup.findings, checkup.conversion))
    assert NAMES[0] in found.texts
    assert "onerror=alert(1)" in found.texts


def test_the_report_and_its_pictures_are_ours(data: Path, tmp_path: Path) -> None:
    checkup = check(data, Task.DETECTION, lambda *_: None)
    assert checkup.fetched is not None
    write_conversion(checkup.conversion, tmp_path / "out", checkup.fetched.mask_path)
    truth = tmp_path / "out" / "train.json"
    rows = [
        {name: one[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for one in json.loads(truth.read_text())["annotations"]
    ]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    evaluated = evaluate(truth, tmp_path / "found.json", task="object_detection")
    samples = draw_samples(truth, tmp_path / "found.json", PicturesHere(checkup.fetched.root), evaluated)
    findings = [one.model_dump() for one in checkup.findings.findings]
    report = build_report(
        {"test": evaluated}, "test", "mAP@0.5:0.95", job_id="7", model_name=NAMES[0], dataset_id=NAMES[1],
        best_epoch=1, curves=Curves(train=[], validation=[]), findings=findings, plan=[],
        files=[], versions={}, notes=[*NAMES],
    )  # fmt: skip
    found = assert_harmless(render_html(report, samples))
    assert len(samples) > 1
    assert len(write_plots(evaluated, tmp_path / "plots")) == 3
    assert NAMES[0] in found.texts


def test_the_contact_sheet_can_be_drawn(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.jpg"), np.full((64, 64, 3), 128, np.uint8))
    things = tuple(ShownObject(category_id=number, bbox=(4, 4, 40, 40)) for number in range(3))
    picture = ShownPicture(file_name=FILE, picture="0.jpg", width=64, height=64, steps=(), objects=things)
    shown = Shown(class_names=NAMES, pipeline=({"type": "LoadImageFromFile"},), pictures=(picture,))
    sheet, page = write_browse(shown, tmp_path, tmp_path / "out", title=NAMES[1], subtitle=NAMES[2])
    assert Image.open(sheet).size[0] > 64
    assert_harmless(page.read_text())

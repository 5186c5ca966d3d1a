"""The data page: self-contained, escaped, with the pictures of what it tells."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmtrain.doctor import Checkup, check
from mmtrain.reports.data_page import DataPage, class_rows, render_data_page
from mmtrain.reports.thumbnails import MAX_HEIGHT, MAX_WIDTH, Subject, thumbnail
from tests import pictures
from tests.pages import Page
from tests.pictures import scene, scenes, write_data_set
from trainer_sdk.tasks import Task

NASTY = "<script>alert(1)</script>"


def quiet(done: int, total: int) -> None:
    assert done <= total


def page_of(checkup: Checkup, *, with_pictures: bool = True) -> str:
    assert checkup.fetched is not None
    page = DataPage(title=NASTY, task=checkup.task)
    if with_pictures:
        page = DataPage(NASTY, checkup.task, checkup.fetched.root, checkup.fetched.image_paths)
    return render_data_page(page, checkup.findings, checkup.conversion)


@pytest.fixture(scope="module")
def checkup(tmp_path_factory: pytest.TempPathFactory) -> Checkup:
    faulty = {
        "cut.jpg": ("train", pictures.truncated_jpeg),
        "bomb.png": ("train", pictures.bomb),
        "alpha.png": ("train", pictures.alpha),
        "leak.png": ("val", scene(500)),
    }
    folder = write_data_set(tmp_path_factory.mktemp("data"), scenes(4) | scenes(2, "val") | faulty)
    return check(folder, Task.DETECTION, quiet)


def test_the_page_is_self_contained_and_escaped(checkup: Checkup) -> None:
    html = page_of(checkup)
    page = Page(html)
    assert not re.search(r"https?://", html)
    assert all(reference.startswith(("data:image/jpeg;base64,", "#")) for reference in page.references)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert html.count("&lt;script&gt;") == 2
    assert page.tags.count("svg") == 2  # images of one size need no plot
    assert "All images are 320 x 240 pixels" in html
    assert "not fit for training" in html


def test_findings_show_their_pictures(checkup: Checkup) -> None:
    html = page_of(checkup)
    assert Page(html).tags.count("img") == sum(len(one.files) for one in checkup.findings.findings) - 1
    assert html.count("cannot be shown") == 1  # the bomb is not unpacked
    for name in ("cut.jpg", "alpha.png", "leak.png", "train_00.png"):
        assert f"<figcaption>{name}</figcaption>" in html


def test_without_pictures_it_says_so(checkup: Checkup) -> None:
    html = page_of(checkup, with_pictures=False)
    assert "no picture was opened" in html
    assert "img" not in Page(html).tags


def test_equal_data_give_equal_pages(checkup: Checkup) -> None:
    assert page_of(checkup) == page_of(checkup)


def test_many_classes_are_folded_and_none_is_lost(checkup: Checkup) -> None:
    names = {f"class {i} {NASTY}": {"train": 100 - i, "val": 0, "test": 0} for i in range(90)}
    profile = checkup.findings.profile.model_copy(update={"objects_per_class": names, "num_classes": 90})
    many = checkup.findings.model_copy(update={"profile": profile})
    html = render_data_page(DataPage("t", Task.DETECTION), many, checkup.conversion)
    assert "60 smaller classes" in html
    assert html.count("&lt;script&gt;") == 2 * 90
    assert [row.total for row in class_rows(profile)] == sorted((100 - i for i in range(90)), reverse=True)


def test_a_thumbnail_is_small_and_marks_the_box(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((600, 800, 3), 200, np.uint8))
    plain, marked = thumbnail(Subject(tmp_path / "a.png")), thumbnail(Subject(tmp_path / "a.png", (400, 300, 2, 2)))
    before, after = (cv2.imdecode(np.frombuffer(b64decode(one), np.uint8), cv2.IMREAD_COLOR) for one in (plain, marked))
    assert before.shape[1] <= MAX_WIDTH and before.shape[0] <= MAX_HEIGHT
    rows, columns = np.nonzero(np.abs(before.astype(int) - after).max(axis=2) > 60)
    scale = before.shape[1] / 800
    assert abs(columns.mean() - 401 * scale) < 3 and abs(rows.mean() - 301 * scale) < 3


def test_what_cannot_be_shown_is_empty(tmp_path: Path) -> None:
    pictures.bomb(tmp_path / "a.png")
    assert thumbnail(Subject(tmp_path / "a.png")) == thumbnail(Subject(tmp_path / "gone.png")) == ""

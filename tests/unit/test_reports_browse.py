"""What the model was shown: in words, on a contact sheet, in the report; and what is drawn on a picture."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmtrain.config.words import pipeline_in_words
from mmtrain.reports.browse import (
    PAGE_TILE,
    absent_classes,
    legend,
    remark,
    report_section,
    sheet_columns,
    sheet_size,
    sizes,
    tiles,
    write_browse,
    write_sheet,
)
from mmtrain.reports.drawing import Skeleton, drawn
from mmtrain.reports.models import PrimaryMetric, TrainReport
from mmtrain.reports.render import render_html
from mmtrain.shown import Shown, ShownObject, ShownPicture, read_shown

NASTY = "<script>alert(1)</script>"
PIPELINE = (
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "CachedMosaic", "prob": 0.5, "img_scale": [640, 480], "max_cached_images": 20},
    {"type": "RandomFlip", "prob": 0.0},
    {"type": "Unheard", "strength": 3},
    {"type": "PackDetInputs"},
)


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """Five grey pictures, 200 x 100, with a box each, the third without."""
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.full((100, 200, 3), 128, np.uint8))
    thing = ShownObject(category_id=0, bbox=(20, 20, 60, 40))
    pictures = tuple(
        ShownPicture(
            file_name=f"{'deep/' * 30}{number}.png",
            picture=f"{number}.jpg",
            width=200,
            height=100,
            steps=("CachedMosaic", "Pad", "RandomFlip") if number == 0 else (),
            objects=() if number == 2 else (thing,),
        )
        for number in range(5)
    )
    made = Shown(class_names=(NASTY, "unseen"), pipeline=PIPELINE, pictures=pictures)
    made.write(tmp_path)
    return made


def test_a_pipeline_is_said_in_words() -> None:
    assert pipeline_in_words(PIPELINE) == [
        "read the picture",
        "read boxes and masks",
        "mosaic of four pictures on 1280 × 960 (50% of the pictures), the other three from the last 20",
        "Unheard(strength=3)",
    ]


def test_pictures_are_summed_up(shown: Shown, tmp_path: Path) -> None:
    assert read_shown(tmp_path) == shown
    assert remark(shown.pictures[0]) == "1 object · mosaic, flipped"
    assert remark(shown.pictures[2]) == "0 objects"
    assert sizes(shown) == "200 × 100"
    assert [(entry.name, entry.objects, entry.pictures) for entry in legend(shown)] == [(NASTY, 4, 4)]
    assert absent_classes(shown) == "unseen"


def test_the_sheet_has_a_cell_for_every_picture(shown: Shown, tmp_path: Path) -> None:
    write_sheet(shown, tmp_path, tmp_path / "out" / "browse.png", title="cells")
    picture = Image.open(tmp_path / "out" / "browse.png")
    assert [sheet_columns(count) for count in (1, 2, 12, 24)] == [1, 2, 4, 6]
    assert sheet_columns(5) == 3
    assert picture.size == sheet_size(5, 160 + 34)


def test_the_page_is_self_contained_and_escaped(shown: Shown, tmp_path: Path) -> None:
    _, page = write_browse(shown, tmp_path, tmp_path / "out", title=NASTY, subtitle="train split")
    html = page.read_text()
    assert "<script" not in html
    assert "http" not in html
    assert html.count("data:image/jpeg;base64,") == 5
    assert "Not in these pictures: unseen." in html


def test_small_pictures_are_enlarged(shown: Shown, tmp_path: Path) -> None:
    jpeg = tiles(shown, tmp_path, PAGE_TILE)[0].jpeg
    picture = np.asarray(cv2.imdecode(np.frombuffer(b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR))
    assert picture.shape == (360, 720, 3)


BARE = TrainReport(
    task="object_detection", job_id="1", model_name="m", dataset_id="d", evaluated_on="val",
    primary_metric=PrimaryMetric(name="mAP", value=None), metrics={"mAP": None}, class_names=[NASTY],
)  # fmt: skip


def test_the_report_shows_what_the_model_was_shown(shown: Shown, tmp_path: Path) -> None:
    html = render_html(BARE, shown=report_section(tmp_path))
    section = html.partition("What the model was shown")[2].partition("<h2>Samples</h2>")[0]
    assert section.count("data:image/jpeg;base64,") == 5
    assert "1 object · mosaic, flipped" in section
    assert "mosaic of four pictures" in section


@pytest.mark.parametrize("problem", ["failed", "absent", "picture gone"])
def test_the_report_says_why_nothing_is_shown(shown: Shown, tmp_path: Path, problem: str) -> None:
    if problem == "failed":
        Shown(problem=f"RuntimeError: {NASTY}").write(tmp_path)
    else:
        (tmp_path / ("shown.json" if problem == "absent" else "3.jpg")).unlink()
    html = render_html(BARE, shown=report_section(tmp_path))
    assert "No pictures of what went into the model: " in html
    words = {
        "failed": "RuntimeError: &lt;script",
        "absent": "FileNotFoundError",
        "picture gone": "3.jpg cannot be read",
    }
    assert words[problem] in html


def on_black(annotations: list[dict[str, object]], skeleton: Skeleton | None = None) -> NDArray[np.int64]:
    black = np.zeros((100, 100, 3), np.uint8)
    image = drawn(black, annotations, ["a"], max_size=(100, 100), masks=True, skeleton=skeleton)
    return np.asarray(image, dtype=np.int64)


def test_crowds_are_dashed() -> None:
    thing: dict[str, object] = {"category_id": 0, "bbox": [10, 30, 80, 60]}
    whole, dashed = (on_black([thing | {"iscrowd": crowd}]) for crowd in (0, 1))
    lines = [(picture[88:92, 10:90].sum(axis=(0, 2)) > 0).mean() for picture in (whole, dashed)]
    assert lines[0] == 1
    assert 0.4 < lines[1] < 0.9


def test_keypoints_tell_sides_hidden_and_unlabelled() -> None:
    names = ("left_eye", "right_eye", "nose", "left_ear")
    keypoints = [20, 60, 2, 80, 60, 2, 50, 80, 1, 50, 40, 0]
    thing: dict[str, object] = {"category_id": 0, "bbox": [5, 30, 90, 60], "keypoints": keypoints}
    picture = on_black([thing], Skeleton(names, [(0, 2), (1, 2), (0, 3), (0, 9)]))
    assert picture[60, 20].tolist() == [0x66, 0xCC, 0xEE]  # left, filled
    assert picture[60, 80].tolist() == [0xEE, 0x77, 0x33]  # right, filled
    assert picture[80, 47].tolist() == [255, 255, 255]  # hidden: a ring
    assert picture[40, 50].tolist() == [0, 0, 0]  # not labelled, and no limb leads there
    assert picture[50, 35].tolist() == [0, 0, 0]
    assert picture[70, 35].tolist() == [0x66, 0xCC, 0xEE]  # the limb of the left side


def test_masks_have_an_edge_and_a_tint() -> None:
    thing: dict[str, object] = {
        "category_id": 0,
        "bbox": [20, 20, 60, 60],
        "segmentation": [[30.0, 30.0, 70.0, 30.0, 70.0, 70.0, 30.0, 70.0]],
    }
    picture = on_black([thing])
    edge, inside, outside = picture[50, 30, 2], picture[50, 50, 2], picture[50, 25, 2]
    assert edge > inside + 40
    assert inside > outside + 40


def test_many_boxes_keep_one_name_per_class() -> None:
    crowded = [{"category_id": 0, "bbox": [x, y, 8, 8]} for x in range(0, 90, 10) for y in range(20, 90, 10)]
    crowded.append({"category_id": 0, "bbox": [40, 40, 30, 30]})
    picture = on_black(crowded)
    tag = picture[27:39, 41:45]  # above the largest box
    assert (np.abs(tag - [0x44, 0x77, 0xAA]).sum(axis=-1) == 0).mean() > 0.5


def test_a_class_map_is_painted_over_its_picture(tmp_path: Path) -> None:
    """Grey left, class 0 in the middle, ignored on the right; the background stays as it is."""
    cv2.imwrite(str(tmp_path / "0.jpg"), np.full((60, 90, 3), 128, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    indices = np.repeat(np.array([[2, 0, 255]], np.uint8), 30, axis=1).repeat(60, axis=0)
    cv2.imwrite(str(tmp_path / "0_classes.png"), indices)
    picture = ShownPicture(
        file_name="a.png", picture="0.jpg", width=90, height=60, steps=(), objects=(),
        class_map="0_classes.png", classes=(0, 2),
    )  # fmt: skip
    shown = Shown(class_names=("cell", "wall", "background"), pictures=(picture,))
    assert remark(picture) == "2 classes"
    assert [(entry.name, entry.pictures) for entry in legend(shown)] == [("cell", 1), ("background", 1)]
    assert absent_classes(shown) == "wall"
    [tile] = tiles(shown, tmp_path, (90, 60))
    pixels = cv2.imdecode(np.frombuffer(b64decode(tile.jpeg), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    left, middle, right = (pixels[30, x].astype(int) for x in (10, 45, 80))
    assert np.abs(left - 128).max() < 8
    assert np.ptp(middle) > 40  # coloured
    assert right.max() < 90

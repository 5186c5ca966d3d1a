"""Which pictures are found where, in which order, under which names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest

from mmtrain.predicting.inputs import Places, entries, numbered
from mmtrain.predicting.pixels import decoded, pending
from trainer_sdk.errors import ConfigError, DatasetError
from trainer_sdk.settings import Settings


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Buckets are folders below ``buckets/``."""
    ends = dict.fromkeys(("EXTERNAL_STORAGE_ENDPOINT", "INTERNAL_STORAGE_ENDPOINT"), f"file://{tmp_path}/buckets")
    return Places(Settings.from_env(ends))


def draw(path: Path, width: int = 8, height: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def test_a_folder_with_everything_below_it_in_order_of_name(tmp_path: Path, places: Places) -> None:
    for name in ("b/2.png", "a.JPG", "b/10.png", "notes.txt", ".hidden/x.png"):
        draw(tmp_path / "in" / name) if not name.endswith("txt") else (tmp_path / "in" / name).write_text("no picture")
    found = list(entries([str(tmp_path / "in")], places))
    assert [entry.path for entry in found] == ["a.JPG", "b/10.png", "b/2.png"]
    assert found[1].address == str(tmp_path / "in/b/10.png")


def test_a_prefix_is_the_folder_and_not_its_namesakes(tmp_path: Path, places: Places) -> None:
    draw(tmp_path / "buckets/inference-data/inference/7/x.png")
    draw(tmp_path / "buckets/inference-data/inference/70/y.png")
    (entry,) = entries(["s3://inference-data/inference/7"], places)
    assert (entry.address, entry.path) == ("s3://inference-data/inference/7/x.png", "x.png")
    (item,) = numbered([entry])
    assert (item.number, item.name) == (1, "x.png")
    assert decoded(places.read(entry.address)).shape == (6, 8, 3)


def test_a_list_names_files_beside_it_and_boxes(tmp_path: Path, places: Places) -> None:
    draw(tmp_path / "in/deep/a.png")
    listed = ["deep/a.png", {"file": "/elsewhere/b.png", "boxes": [[1, 2, 3, 4]]}, "s3://bucket/key/c.png"]
    (tmp_path / "in/list.json").write_bytes(orjson.dumps(listed))
    found = list(entries([str(tmp_path / "in/list.json")], places))
    assert [entry.address for entry in found] == [
        str(tmp_path / "in/deep/a.png"), "/elsewhere/b.png", "s3://bucket/key/c.png",
    ]  # fmt: skip
    assert [entry.path for entry in found] == ["deep/a.png", "b.png", "c.png"]
    assert found[1].boxes_xyxy == ((1, 2, 4, 6),)


def test_all_that_is_wrong_in_a_list_is_said_at_once(tmp_path: Path, places: Places) -> None:
    listed = ["a.png", 7, "b.txt", {"file": "c.png", "boxes": [[1, 2, 3]]}]
    (tmp_path / "list.json").write_bytes(orjson.dumps(listed))
    with pytest.raises(DatasetError) as caught:
        list(entries([str(tmp_path / "list.json")], places))
    assert all(f"entry {number}" in caught.value.message for number in (1, 2, 3))


def test_output_names_stay_below_their_folder(tmp_path: Path, places: Places) -> None:
    (tmp_path / "list.json").write_bytes(orjson.dumps(["../../etc/a.png"]))
    (entry,) = entries([str(tmp_path / "list.json")], places)
    assert entry.path == "etc/a.png"


@pytest.mark.parametrize("source", ["nowhere", "s3://", "words.txt"])
def test_what_is_no_source_is_refused(source: str, tmp_path: Path, places: Places) -> None:
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(ConfigError):
        list(entries([source if source.startswith("s3") else str(tmp_path / source)], places))


def test_pictures_that_would_write_the_same_files_get_a_number(tmp_path: Path, places: Places) -> None:
    for name in ("one/a.png", "one/a.jpg", "two/a.png"):
        draw(tmp_path / name)
    items = list(numbered(entries([str(tmp_path / "one"), str(tmp_path / "two")], places)))
    assert [item.path for item in items] == ["a.jpg", "a_2.png", "a_3.png"]
    assert [item.file_name for item in items] == ["a.jpg", "a.png", "a.png"]
    assert [item.name for item in items] == ["a.jpg", "a.png", "a.png"]


def test_the_frames_of_a_video_are_pictures(tmp_path: Path, places: Places) -> None:
    path = tmp_path / "in/film.avi"
    path.parent.mkdir()
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 24))
    for shade in (0, 120, 240):
        film.write(np.full((24, 32, 3), shade, np.uint8))
    film.release()
    draw(tmp_path / "in/a.png")
    found = list(pending(entries([str(tmp_path / "in")], places), places, tmp_path))
    assert [one.item.number for one in found] == [1, 2, 3, 4]
    assert [one.item.path for one in found[1:]] == [f"film_{frame:06d}.jpg" for frame in range(3)]
    assert found[2].item.address == f"{path}#1"
    assert found[2].item.name == "film_000001.jpg"
    assert [round(float(one.frame.mean()) / 120) for one in found[1:] if one.frame is not None] == [0, 1, 2]


def test_a_video_that_cannot_be_opened_is_one_error(tmp_path: Path, places: Places) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    (one,) = pending(entries([str(tmp_path / "broken.mp4")], places), places, tmp_path)
    assert "no frame" in one.error


def test_pictures_are_turned_by_their_exif(tmp_path: Path) -> None:
    from PIL import Image

    tag = Image.Exif()
    tag[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=tag)
    assert decoded((tmp_path / "turned.jpg").read_bytes()).shape == (40, 20, 3)


@pytest.mark.parametrize("raw", [b"", b"no picture", b"\xff\xd8\xff\xe0" + bytes(40)])
def test_damaged_pictures_are_named(raw: bytes) -> None:
    with pytest.raises(DatasetError):
        decoded(raw)


def test_listing_takes_no_more_than_is_asked_for(tmp_path: Path, places: Places) -> None:
    for number in range(3):
        draw(tmp_path / f"in/{number}.png")
    found: Iterator[object] = entries([str(tmp_path / "in"), str(tmp_path / "nowhere")], places)
    assert next(found)  # that the second source does not exist is not known yet

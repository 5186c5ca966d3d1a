"""One picture at a time: what is said of it must be what training would see."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from mmtrain.datasets.look import DARK_BELOW, Look, look
from mmtrain.datasets.pool import MOST_DEATHS, each
from tests import pictures
from tests.pictures import Make
from trainer_sdk.errors import ResourceError


@pytest.mark.parametrize(
    ("name", "make", "fault"),
    [
        ("cut.jpg", pictures.truncated_jpeg, "truncated"),
        ("empty.jpg", pictures.empty_file, "empty file"),
        ("page.jpg", pictures.web_page, "not an image"),
        ("bomb.png", pictures.bomb, "decompression bomb"),
        ("float.tif", pictures.floating, "OpenCV cannot decode it"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(tmp_path: Path, name: str, make: Make, fault: str) -> None:
    make(tmp_path / name)
    assert fault in look(tmp_path / name).fault


@pytest.mark.parametrize("cut", [1, 2, 50, 2000])
def test_a_jpeg_that_lost_its_end_is_noticed_although_it_is_decoded_small(tmp_path: Path, cut: int) -> None:
    data = pictures.jpeg(pictures.scene(1, (640, 480)))
    (tmp_path / "a.jpg").write_bytes(data[:-cut])
    assert "truncated" in look(tmp_path / "a.jpg").fault.lower()


def test_a_missing_file_is_a_fault_and_no_exception(tmp_path: Path) -> None:
    assert "No such file" in look(tmp_path / "gone.png").fault


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("a.png", pictures.deep_grey, "16-bit grey"),
        ("a.png", pictures.deep_colour, "16-bit colour"),
        ("a.png", pictures.alpha, "alpha"),
        ("a.png", pictures.palette, "palette"),
        ("a.png", pictures.grey, "grey"),
        ("a.jpg", pictures.cmyk, "CMYK"),
        ("a.png", lambda path: pictures.scene(0).save(path), ""),
        ("a.jpg", lambda path: pictures.scene(0).save(path), ""),
        ("a.webp", lambda path: pictures.scene(0).save(path), ""),
        ("a.bmp", lambda path: pictures.scene(0).save(path), ""),
    ],
)
def test_kind_and_size_are_those_of_the_pixels(tmp_path: Path, name: str, make: Make, kind: str) -> None:
    make(tmp_path / name)
    seen = look(tmp_path / name)
    height, width = cv2.imread(str(tmp_path / name)).shape[:2]
    assert (seen.fault, seen.kind, seen.size) == ("", kind, (width, height))
    assert seen.brightest >= DARK_BELOW


def test_twelve_bits_in_sixteen_are_nearly_black_as_opencv_reads_them(tmp_path: Path) -> None:
    pictures.twelve_bit(tmp_path / "a.png")
    seen = look(tmp_path / "a.png")
    assert seen.brightest == cv2.imread(str(tmp_path / "a.png")).max() < DARK_BELOW


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_turned_pictures_have_the_size_that_opencv_gives_them(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pictures.scene(0, (120, 90)).save(tmp_path / name, exif=exif)
    seen = look(tmp_path / name)
    data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)  # as mmcv does
    height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
    assert seen.size == (width, height)
    assert seen.turned == (orientation != 1)


def crashing_look(path: Path) -> Look:
    if "crash" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return look(path)


def test_a_picture_that_crashes_the_decoder_is_found_and_the_others_are_looked_at(tmp_path: Path) -> None:
    names = [f"{'crash' if i in (7, 40) else 'sound'}_{i:02}.png" for i in range(60)]
    for i, name in enumerate(names):
        pictures.scene(i, (32, 24)).save(tmp_path / name)
    crashed = Look("crashed")
    found = dict(each(crashing_look, [tmp_path / name for name in names], crashed, processes=2))
    assert sorted(found) == list(range(60))
    assert {i for i, seen in found.items() if seen.fault} == {7, 40}


def test_when_everything_dies_it_is_the_machine_and_not_the_pictures(tmp_path: Path) -> None:
    paths = [tmp_path / f"crash_{i}.png" for i in range(MOST_DEATHS + 2)]
    with pytest.raises(ResourceError, match="were killed"):
        list(each(crashing_look, paths, Look("crashed"), processes=2))

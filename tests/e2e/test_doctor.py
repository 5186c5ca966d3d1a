"""The doctor as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests import pictures
from tests.conftest import ROOT
from tests.pictures import scenes, write_data_set


def doctor(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmtrain.doctor", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "sound", scenes(4) | scenes(2, "val"))


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return write_data_set(
        tmp_path / "faulty", scenes(4) | scenes(2, "val") | {"cut.jpg": ("train", pictures.truncated_jpeg)}
    )


def test_a_sound_set_is_fit(sound: Path) -> None:
    done = doctor(sound)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fit for training" in done.stdout.splitlines()[-1]
    assert "can train  object_detection" in done.stdout
    assert "rtmdet-tiny" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_faulty_set_is_not_and_the_page_says_why(faulty: Path, tmp_path: Path) -> None:
    done = doctor(faulty, "--html", tmp_path / "page.html")
    assert done.returncode == 3
    assert "NOT fit for training: DS051" in done.stdout
    assert "cut.jpg" in done.stdout
    html = (tmp_path / "page.html").read_text()
    assert "not fit for training" in html and "<figcaption>cut.jpg</figcaption>" in html


def test_json_is_for_machines(faulty: Path) -> None:
    done = doctor(faulty, "--json", "--all")
    document = orjson.loads(done.stdout)
    assert done.returncode == 3
    assert (document["blocked"], document["task"], document["pictures_opened"]) == (True, "object_detection", True)
    assert [one["code"] for one in document["findings"] if one["severity"] == "blocks"] == ["DS051"]
    assert document["profile"]["objects_per_class"]["disc"] == {"train": 5, "val": 2, "test": 0}
    assert document["recommendation"]["model"] == "rtmdet-tiny"


def test_annotations_alone_are_checked_without_a_picture(faulty: Path) -> None:
    (faulty / "images").rename(faulty / "elsewhere")
    done = doctor(faulty / "annotations_detection.json")
    assert done.returncode == 0
    assert "the pictures were not looked at" in done.stdout


@pytest.mark.parametrize("name", ["nowhere", "", "broken.json"])
def test_what_is_no_data_set_is_an_error_with_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.json").write_text('{"images": [')
    done = doctor(tmp_path / name)
    assert done.returncode == 3
    assert done.stdout.startswith("[DatasetError]")
    as_json = doctor(tmp_path / name, "--json")
    assert orjson.loads(as_json.stdout)["error"].startswith("[DatasetError]")


def test_the_doctor_needs_no_torch(sound: Path) -> None:
    code = "import sys; from mmtrain.doctor import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, sound], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

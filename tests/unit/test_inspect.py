"""Faults planted in pictures, found by their codes."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from PIL import Image

from converters import convert
from mmtrain.datasets.fetch import FetchedDataset, fetch
from mmtrain.datasets.inspect import (
    Findings,
    at_input_size,
    evenly_spread,
    judge,
    look_at_images,
    tolerably_missing,
    with_real_sizes,
)
from tests import pictures
from tests.pictures import Make, scene, scenes, write_data_set
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task


def quiet(done: int, total: int) -> None:
    assert done <= total


def local(folder: Path) -> FetchedDataset:
    return fetch(DatasetRef(id="d", path=str(folder)), Task.DETECTION, Settings.from_env({}), quiet)


def inspected(folder: Path, most: int | None = None, imgsz: tuple[int, int] | None = None) -> Findings:
    fetched = local(folder)
    looks = look_at_images(fetched, quiet, most)
    missing = tolerably_missing(fetched)
    dice = with_real_sizes(fetched.dice, looks)
    conversion = convert(dice, Task.DETECTION, left_out=missing)
    conversion, findings = judge(conversion, fetched, looks, missing)
    return at_input_size(findings, conversion, imgsz) if imgsz else findings


def examples(findings: Findings) -> dict[str, tuple[str, ...]]:
    return {finding.code: finding.examples for finding in findings.findings}


@pytest.fixture
def sound() -> dict[str, tuple[str, Image.Image | Make]]:
    return scenes(4) | scenes(2, "val")


def test_sound_pictures_have_no_findings(sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path) -> None:
    codes = set(examples(inspected(write_data_set(tmp_path, sound))))
    assert codes <= {"DS049"}  # few images they are


def test_every_planted_fault_is_found_by_name(sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path) -> None:
    planted: dict[str, tuple[str, Image.Image | Make]] = {
        "cut.jpg": ("train", pictures.truncated_jpeg),
        "empty.png": ("train", pictures.empty_file),
        "deep.png": ("train", pictures.deep_grey),
        "dark.png": ("val", pictures.twelve_bit),
        "alpha.png": ("train", pictures.alpha),
        "cmyk.jpg": ("train", pictures.cmyk),
        "phone.jpg": ("train", pictures.sideways),
        "resized.png": ("train", scene(77, (200, 100))),
    }
    findings = inspected(write_data_set(tmp_path, sound | planted))
    said = examples(findings)
    assert {one.partition(":")[0] for one in said["DS051"]} == {"cut.jpg", "empty.png"}
    assert said["DS052"] == ("resized.png: annotated 320x240, is 200x100",)
    assert said["DS053"] == ("phone.jpg: 320x240 when turned",)
    kinds = {"16-bit grey, the upper 8 bits are kept: deep.png and 1 more", "alpha: alpha.png", "CMYK: cmyk.jpg"}
    assert set(said["DS057"]) == kinds
    assert said["DS092"] == ("dark.png: 16-bit grey, 12 of 255 at most",)
    assert {finding.code for finding in findings.blocking} == {"DS051"}


def test_copies_are_told_with_their_splits_and_their_pictures(
    sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path
) -> None:
    original = [picture for _, picture in sound.values() if isinstance(picture, Image.Image)]
    copies: dict[str, tuple[str, Image.Image | Make]] = {
        "leak.png": ("val", original[0]),
        "nearly.png": ("test", pictures.brighter(original[1])),
        "again.png": ("train", original[2]),
    }
    findings = inspected(write_data_set(tmp_path, sound | copies))
    said = examples(findings)
    assert said["DS054"] == ("leak.png (val) is train_00.png (train)",)
    assert said["DS055"][0].startswith("nearly.png (test) is like train_01.png (train): ")
    assert said["DS056"] == ("again.png (train) is train_02.png (train)",)
    files = {finding.code: finding.files for finding in findings.findings}
    assert files["DS054"] == ("leak.png", "train_00.png")
    assert files["DS055"] == ("nearly.png", "train_01.png")


def test_one_missing_of_a_hundred_is_left_out_and_one_of_fifty_blocks(tmp_path: Path) -> None:
    small: dict[str, tuple[str, Image.Image | Make]] = {
        f"{i}.png": ("val" if i % 5 == 0 else "train", scene(i, (64, 48))) for i in range(100)
    }
    for count, code in ((100, "DS059"), (50, "DS050")):
        folder = write_data_set(tmp_path / str(count), dict(list(small.items())[:count]), (64, 48))
        (folder / "images" / "3.png").unlink()
        findings = inspected(folder)
        assert examples(findings)[code] == ("3.png",)
        assert bool(findings.blocking) == (code == "DS050")
        assert sum(findings.images.values()) == (99 if code == "DS059" else 50)


def test_a_sample_is_said_to_be_one_and_unknown_sizes_are_always_opened(
    sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path
) -> None:
    folder = write_data_set(tmp_path, sound)
    document = orjson.loads((folder / "annotations_detection.json").read_bytes())
    del document["images"][1]["width"]
    (folder / "annotations_detection.json").write_bytes(orjson.dumps(document))
    looks = look_at_images(local(folder), quiet, 2)
    assert sorted(looks) == ["train_00.png", "train_01.png", "val_01.png"]
    said = examples(inspected(folder, most=2))
    assert said["DS090"] == ("3 of 6 were",)
    assert "DS011" not in said
    assert "DS090" not in examples(inspected(folder))


@pytest.mark.parametrize(("count", "most"), [(0, 5), (5, None), (5, 5), (100, 7), (20_001, 20_000), (3, 1)])
def test_a_sample_is_spread_and_always_the_same(count: int, most: int | None) -> None:
    chosen = list(evenly_spread(count, most))
    assert len(set(chosen)) == len(chosen) == min(count, count if most is None else most)
    assert chosen == list(evenly_spread(count, most)) == sorted(chosen)
    assert set(chosen) <= set(range(count))


def test_objects_too_small_for_the_input_are_told_with_their_box(
    sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path
) -> None:
    folder = write_data_set(tmp_path, sound)
    assert "DS058" not in examples(inspected(folder, imgsz=(320, 320)))
    finding = inspected(folder, imgsz=(20, 20)).findings[-1]  # 60 px high becomes 3.75
    assert (finding.code, finding.count) == ("DS058", 6)
    assert finding.examples[0] == "train_00.png (train): box 80 x 60 px, 3.8 px at 20x20"
    assert (finding.files[0], finding.boxes_xywh[0]) == ("train_00.png", (40, 30, 80, 60))


def test_findings_survive_their_own_json(sound: dict[str, tuple[str, Image.Image | Make]], tmp_path: Path) -> None:
    findings = inspected(write_data_set(tmp_path, sound), imgsz=(20, 20))
    assert Findings.model_validate_json(findings.model_dump_json()) == findings
    assert findings.recommendation is not None
    assert (findings.recommendation.task, findings.recommendation.model) == (Task.DETECTION, "rtmdet-tiny")

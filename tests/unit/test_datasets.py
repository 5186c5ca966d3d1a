"""Data sets on their way to this machine, and their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import orjson
import pytest
from PIL import ExifTags, Image

from converters import Conversion, convert
from mmtrain.datasets.fetch import FetchedDataset, fetch
from mmtrain.datasets.inspect import Findings, judge, look_at_images, with_real_sizes
from mmtrain.datasets.shapes import write_shapes
from trainer_sdk.errors import DatasetError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task


def quiet(done: int, total: int) -> None:
    assert done <= total


def inspected(fetched: FetchedDataset) -> Findings:
    return converted(fetched)[1]


def converted(fetched: FetchedDataset) -> tuple[Conversion, Findings]:
    """As the train job does."""
    looks = look_at_images(fetched, quiet)
    return judge(convert(with_real_sizes(fetched.dice, looks), Task.DETECTION), fetched, looks)


def codes(findings: Findings) -> set[str]:
    return {finding.code for finding in findings.findings}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2})


def rename(folder: Path, prefix: str) -> None:
    """Puts a prefix before every file name in the annotations."""
    document = orjson.loads((folder / "annotations_detection.json").read_bytes())
    for image in document["images"]:
        image["file_name"] = prefix + image["file_name"]
    (folder / "annotations_detection.json").write_bytes(orjson.dumps(document))


def local(folder: Path) -> FetchedDataset:
    return fetch(DatasetRef(id="d", path=str(folder)), Task.DETECTION, Settings.from_env({}), quiet)


@pytest.mark.parametrize("prefix", ["", "images/", "./images/"])
def test_pictures_are_found_however_the_annotations_spell_them(shapes: Path, prefix: str) -> None:
    rename(shapes, prefix)
    fetched = local(shapes)
    assert len(fetched.image_paths) == 6
    assert all((fetched.root / path).is_file() for path in fetched.image_paths.values())
    assert not codes(inspected(fetched)) & {"DS050", "DS051"}


def test_doubled_folders_are_found(shapes: Path) -> None:
    (shapes / "images").rename(shapes / "inner")
    (shapes / "images").mkdir()
    (shapes / "inner").rename(shapes / "images" / "images")
    rename(shapes, "images/")
    assert len(local(shapes).image_paths) == 6


def test_a_picture_of_another_size_is_believed_and_reported(shapes: Path) -> None:
    Image.new("RGB", (90, 70)).save(shapes / "images" / "shape_0002.png")
    fetched = local(shapes)
    conversion, findings = converted(fetched)
    assert "DS052" in codes(findings)
    sizes = {image.file_name: (image.width, image.height) for image in conversion.splits["train"].images}
    assert sizes["images/shape_0002.png"] == (90, 70)
    edges = {image.id: (image.width, image.height) for image in conversion.splits["train"].images}
    for annotation in conversion.splits["train"].annotations:
        x, y, width, height = annotation.bbox
        assert x + width <= (edges[annotation.image_id][0] or 0) + 1e-6
        assert y + height <= (edges[annotation.image_id][1] or 0) + 1e-6


def test_a_photo_turned_by_exif_has_the_size_that_training_sees(shapes: Path) -> None:
    sideways = Image.new("RGB", (96, 128))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    sideways.save(shapes / "images" / "photo.jpg", exif=exif)
    document = orjson.loads((shapes / "annotations_detection.json").read_bytes())
    document["images"][0] |= {"file_name": "photo.jpg", "width": 128, "height": 96}
    (shapes / "annotations_detection.json").write_bytes(orjson.dumps(document))
    conversion, findings = converted(local(shapes))
    assert "DS052" not in codes(findings)
    photo = next(image for image in conversion.splits["train"].images if image.file_name.endswith("photo.jpg"))
    height, width = cv2.imread(str(shapes / "images" / "photo.jpg")).shape[:2]
    assert (photo.width, photo.height) == (width, height) == (128, 96)


def test_a_format_that_training_cannot_read_is_unreadable(shapes: Path) -> None:
    Image.new("RGB", (128, 128)).save(shapes / "picture.tga")
    (shapes / "picture.tga").rename(shapes / "images" / "shape_0001.png")
    assert "DS051" in codes(inspected(local(shapes)))


def test_from_a_bucket_into_the_cache_and_not_twice(s3: Any, shapes: Path, tmp_path: Path) -> None:
    s3.put_folder(shapes, "training-datasets", "datasets/d/")
    settings = Settings.from_env({**s3.environment(), "DATASET_CACHE_DIR": str(tmp_path / "cache")})
    ref = DatasetRef(id="d", prefix="datasets/d/")
    first = fetch(ref, Task.DETECTION, settings, quiet)
    stamps = {path: path.stat().st_mtime_ns for path in first.root.rglob("*.png")}
    assert len(stamps) == 6
    assert (first.root / ".complete").exists()
    assert first.sha256 == local(shapes).sha256
    (first.root / "images" / "shape_0001.png").write_bytes(b"torn")  # an interrupted copy of old
    second = fetch(ref, Task.DETECTION, settings, quiet)
    assert second == first
    changed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == ["shape_0001.png"]
    assert not codes(inspected(second)) & {"DS050", "DS051"}


def test_a_picture_missing_from_the_bucket_is_a_finding_and_not_a_crash(s3: Any, shapes: Path, tmp_path: Path) -> None:
    (shapes / "images" / "shape_0003.png").unlink()
    s3.put_folder(shapes, "training-datasets", "datasets/d/")
    settings = Settings.from_env({**s3.environment(), "DATASET_CACHE_DIR": str(tmp_path / "cache")})
    fetched = fetch(DatasetRef(id="d", prefix="datasets/d/"), Task.DETECTION, settings, quiet)
    with pytest.raises(DatasetError, match=r"shape_0003\.png"):
        inspected(fetched).raise_if_blocked()

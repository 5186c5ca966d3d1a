"""A data set of somebody who means harm: no file outside it, no bomb, no page and no line but ours."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters import convert, read_dice
from converters.dice_writer import write_dice
from converters.findings import FindingCounter
from converters.semantic import look_at_mask
from mmtrain import MAX_PIXELS
from mmtrain.config.build import without_templates
from mmtrain.datasets import source as sources
from mmtrain.datasets.fetch import fetch
from mmtrain.datasets.locate import locate_images
from mmtrain.datasets.look import look
from mmtrain.reports.thumbnails import Subject, thumbnail
from tests.conftest import ROOT
from trainer_sdk.errors import ConfigError, DatasetError, NetworkError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.storage.local import LocalStorage
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MAX_READ_BYTES, MissingObject
from trainer_sdk.tasks import Task

BOMB_SIDE = 14_000


def data_set(folder: Path, *names: str, **header: Any) -> Path:
    """Pictures that are not there yet, and their annotations."""
    images = [
        {
            "id": number,
            "file_name": name,
            "width": 8,
            "height": 8,
            "annotations": [{"class_id": 0, "bbox": [1, 1, 4, 4]}],
        }
        for number, name in enumerate(names, start=1)
    ]
    document = {"classes": [{"id": 0, "name": "a"}], "images": images, **header}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations_detection.json").write_text(json.dumps(document))
    return folder


def fetched_paths(folder: Path, **environ: str) -> dict[str, str]:
    settings = Settings.from_env({"HOME": str(folder), **environ})
    return fetch(DatasetRef(id="d", path=str(folder)), Task.DETECTION, settings, lambda *_: None).image_paths


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


# Where files lie -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "a/../../secret.png", "/etc/passwd", "\\\\host\\share\\x.png", "C:\\x.png", "..\\secret.png",
     "file:///etc/passwd", "s3://other-bucket/x.png", "x\0.png", ""],
)  # fmt: skip
def test_a_file_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "secret.png")
    assert fetched_paths(data_set(tmp_path / "d", name)) == {}


@pytest.mark.parametrize("root", ["../", "/etc/", "s3://other/", "datasets/d/../../", "../../etc"])
def test_an_image_root_leads_nowhere_else(tmp_path: Path, root: str) -> None:
    picture(tmp_path / "x.png")
    assert fetched_paths(data_set(tmp_path / "d", "x.png", storage_info={"image_root": root})) == {}


def test_a_mask_file_leads_nowhere_else(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "d", "x.png")
    document = json.loads((folder / "annotations_detection.json").read_text())
    document["images"][0]["annotation"] = {"mask_file": "../secret.png", "mask_format": "indexed_png"}
    (folder / "annotations_segmentation.json").write_text(json.dumps(document))
    picture(tmp_path / "secret.png")
    ref = DatasetRef(id="d", path=str(folder))
    assert fetch(ref, Task.SEMANTIC, Settings.from_env({}), lambda *_: None).other_paths == {}


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "d", "x.png")
    picture(folder / "real" / "x.png")
    (folder / "images").symlink_to("real")
    assert fetched_paths(folder) == {"x.png": "images/x.png"}


@pytest.mark.parametrize("link", ["file", "folder", "chain", "annotations"])
def test_a_link_out_of_the_folder_is_refused_unless_it_is_allowed(tmp_path: Path, link: str) -> None:
    folder = data_set(tmp_path / "d", "x.png")
    outside = picture(tmp_path / "outside" / "x.png").parent
    (folder / "images").mkdir()
    if link == "file":
        (folder / "images" / "x.png").symlink_to(outside / "x.png")
    elif link == "folder":
        (folder / "images").rmdir()
        (folder / "images").symlink_to(outside)
    elif link == "chain":
        (folder / "again.png").symlink_to(outside / "x.png")
        (folder / "images" / "x.png").symlink_to("../again.png")
    else:
        picture(folder / "images" / "x.png")
        (folder / "annotations_detection.json").rename(outside / "annotations.json")
        (folder / "annotations_detection.json").symlink_to(outside / "annotations.json")
    with pytest.raises(DatasetError, match="leaves the data set folder") as caught:
        fetched_paths(folder)
    assert "DATASET_LINKS_TO" in caught.value.hint
    with pytest.raises(DatasetError):
        fetched_paths(folder, DATASET_LINKS_TO=f"{outside}side:/nowhere")
    assert fetched_paths(folder, DATASET_LINKS_TO=f"/nowhere:{outside}") == {"x.png": "images/x.png"}


def test_a_data_set_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    picture(data_set(tmp_path / "real", "x.png") / "x.png")
    (tmp_path / "d").symlink_to("real")
    assert fetched_paths(tmp_path / "d") == {"x.png": "x.png"}


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "d", "x.png")
    os.mkfifo(folder / "x.png")
    assert fetched_paths(folder) == {}


@pytest.mark.parametrize("name", [".files.jsonl", ".complete", ".elsewhere/x.png", "images/x.part"])
def test_the_caches_own_names_are_no_pictures(name: str) -> None:
    dice = read_dice(json.dumps({"classes": [], "images": [{"id": 1, "file_name": name}]}).encode())
    assert locate_images(dice, "datasets/d/", "bucket", lambda key: True) in ({}, {name: f"images/{name}"})
    assert locate_images(dice, "datasets/d/", "bucket", f"datasets/d/{name}".__eq__) == {}


@pytest.mark.parametrize("key", ["../secret", "a/../../secret", "/etc/passwd"])
def test_a_folder_that_plays_a_bucket_has_no_way_out(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("secret")
    storage = LocalStorage(tmp_path / "bucket")
    for act in (storage.read, lambda key: storage.download(key, tmp_path / "got"), storage.delete):
        with pytest.raises(MissingObject):
            act(key)
    with pytest.raises(MissingObject):
        storage.upload(tmp_path / "secret", key)
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize("bucket", ["..", "a/b", "../etc", "a..b", "x", "a\nb", "a" * 64])
def test_a_bucket_is_called_like_one(tmp_path: Path, bucket: str) -> None:
    settings = Settings.from_env({"EXTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}"})
    with pytest.raises(ConfigError, match="bucket"):
        open_storage(settings.datasets, bucket)


# How much there is ---------------------------------------------------------------------------------------------------


def png_bomb(path: Path, side: int = BOMB_SIDE) -> Path:
    """A few kB of black that say they are many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_a_bomb_is_not_unpacked_by_any_decoder(tmp_path: Path) -> None:
    assert BOMB_SIDE**2 > MAX_PIXELS
    bomb = png_bomb(tmp_path / "bomb.png")
    assert "decompression bomb" in look(bomb).fault
    assert "decompression bomb" in str(look_at_mask(bomb))
    assert thumbnail(Subject(bomb)) == ""
    # In a process of its own: a decoder's limit is read once, when it is loaded.
    code = f"""
import mmtrain, cv2, resource
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
try:
    print(cv2.imread({str(bomb)!r}))
except cv2.error as error:
    print("MAX_IMAGE_PIXELS" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True", done.stdout + done.stderr


def test_the_limit_of_pixels_can_be_raised(tmp_path: Path) -> None:
    code = """
import mmtrain.datasets.look as look, sys
from pathlib import Path
print(look.look(Path(sys.argv[1])).fault)
"""
    bomb = png_bomb(tmp_path / "bomb.png")
    environ = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": str(BOMB_SIDE**2), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(bomb)], env=environ, capture_output=True, text=True, check=True
    )
    assert "bomb" not in done.stdout
    assert done.stdout.strip()  # it is cut off, too


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data_set(tmp_path / "d", "x.png")
    with (folder / "x.png").open("wb") as file:
        file.truncate(MAX_READ_BYTES + 1)  # a hole: it takes no room
    assert "4 GB at most" in look(folder / "x.png").fault
    with pytest.raises(NetworkError, match="4 GB at most"):
        LocalStorage(folder).read("x.png")
    monkeypatch.setattr(sources, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(DatasetError, match=r"annotations_detection.json has .* at most"):
        fetched_paths(folder)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10**6,
        b'{"images": ' + b"[" * 10**6 + b"]" * 10**6 + b', "classes": []}',
        b'{"images": [], "classes": [], "x": ' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}",
        b'{"images": [{"id": ' + b"9" * 10**5 + b"}]}",
        b'{"images": [{"id": 1, "width": 1e999, "metadata": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}",
    ],
)
def test_an_annotation_file_that_is_a_bomb_is_refused(raw: bytes) -> None:
    with pytest.raises(DatasetError):
        read_dice(raw)


def test_of_a_repeated_key_every_reader_takes_the_last() -> None:
    annotation = b'{"class_id": 9, "class_id": 0, "bbox": [9, 9, 9, 9], "bbox": [1, 2, 3, 4]}'
    image = b'{"id": 1, "id": 2, "annotations": [' + annotation + b"]}"
    raw = b'{"classes": [], "classes": [{"id": 0, "name": "a", "name": "b"}], "images": [' + image + b"]}"
    dice = read_dice(raw)
    assert [one.name for one in dice.classes] == ["b"]
    assert dice.images[0].id == 2
    assert (dice.images[0].annotations[0].class_id, dice.images[0].annotations[0].geometry.bbox) == (0, [1, 2, 3, 4])


def test_deep_values_that_only_pass_through_are_written_or_refused(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "x", "metadata": json.loads("[" * 300 + "]" * 300)}
    dice = read_dice(json.dumps({"classes": [{"id": 0, "name": "a", "color": {"b": [1]}}], "images": [image]}).encode())
    assert write_dice(dice, Task.DETECTION, tmp_path).is_file()


# What names say ------------------------------------------------------------------------------------------------------


def test_a_name_with_lines_in_it_is_one_line_of_a_finding() -> None:
    counter = FindingCounter()
    counter.add("DS050", "x.png\nERROR: all data were deleted\x1b[2J\u202e")
    (finding,) = counter.findings
    assert finding.examples == (r"x.png\nERROR: all data were deleted\x1b[2J\u202e",)
    assert finding.text.isprintable()


@pytest.mark.parametrize("name", ["{{$HOME:}}", "{{ fileDirname }}", "{{_base_.model}}", "{{{x}}}", "a'\"{{ b }}\\"])
def test_a_class_name_is_no_template_of_a_config(name: str) -> None:
    text = without_templates(f"classes=({name!r}, )")
    assert "{{" not in text
    found: dict[str, Any] = {}
    exec(text, found)
    assert found["classes"] == (name,)


def test_pixels_are_still_numbers(tmp_path: Path) -> None:
    """The limits do not touch what is ordinary."""
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "mask.png")
    mask = look_at_mask(tmp_path / "mask.png")
    assert not isinstance(mask, str | None)
    assert mask.values == {0, 1}


FIELDS = {
    "class": '{{"classes": [{{"id": 0, "name": "a", "color": {0}, "skeleton": {0}, "flip_pairs": {0}}}]',
    "annotation": '{{"classes": [{{"id": 0, "name": "a"}}], "x": [{0}]',
    "split": '{{"classes": [{{"id": 0, "name": "a"}}], "split_config": {{"method": "manual", "splits": {{"1": {0}}}}}',
    "file": '{{"classes": [{{"id": 0, "name": "a"}}], "split_config": {0}, "storage_info": {{"image_root": {0}}}',
}


@pytest.mark.parametrize("place", FIELDS)
@pytest.mark.parametrize("depth", [30, 900, 985, 5000])
@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE, Task.POSE])
def test_depth_is_no_way_to_another_error(place: str, depth: int, task: Task) -> None:
    for deep in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        value = deep if place == "annotation" else "null"
        fields = f'"bbox": {value}, "segmentation": {value}, "keypoints": {value}, "area": {value}'
        annotations = f'"metadata": {value}, "annotations": [{{"class_id": 0, {fields}}}]'
        image = f'{{"id": 1, "file_name": "x", "width": 8, "height": 8, {annotations}}}'
        raw = FIELDS[place].format(deep) + f', "images": [{image}]}}'
        with contextlib.suppress(DatasetError):
            assert convert(read_dice(raw.encode()), task).class_names == ("a",)

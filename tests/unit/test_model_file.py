"""Which model a job has: a checkpoint, or a package that is data and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mmtrain.jobs.model_file import obtain_model
from trainer_sdk.errors import CheckpointError
from trainer_sdk.request.reading import read_spec
from trainer_sdk.settings import Settings


def obtain(address: Path | str, tmp_path: Path) -> object:
    environ = {"JOB_ID": "1", "CHECKPOINT_PATH": str(address), "IMAGES_PATH": str(tmp_path)}
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    spec = read_spec("predict", environ)
    return obtain_model(spec, Settings.from_env(environ | {"INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}/s3"}), work)


def archive(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as package:
        for name in names:
            package.writestr(name, "{}")
    return path


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_a_package_is_unpacked_into_the_work_folder(place: str, tmp_path: Path) -> None:
    local = archive(tmp_path / "s3/training-checkpoints/exports/1/export.zip", "metadata.json", "model.onnx")
    address = str(local) if place == "folder" else "s3://training-checkpoints/exports/1/export.zip"
    found = obtain(address, tmp_path)
    assert found == (tmp_path / "work/package", True, address)
    assert {path.name for path in (tmp_path / "work/package").iterdir()} == {"metadata.json", "model.onnx"}


def test_a_folder_with_metadata_is_a_package(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/metadata.json").write_text("{}")
    assert obtain(tmp_path / "package", tmp_path) == (tmp_path / "package", True, str(tmp_path / "package"))


@pytest.mark.parametrize("names", [("model.onnx",), ("metadata.json", "../evil.py"), ("metadata.json", "/evil.py")])
def test_what_is_no_package_or_leaves_its_folder_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        obtain(archive(tmp_path / "x.zip", *names), tmp_path)
    assert not (tmp_path / "evil.py").exists()
    assert not (tmp_path / "work/package").exists()


@pytest.mark.parametrize("address", ["nowhere.zip", "s3://training-checkpoints/nowhere.zip", "/nowhere/best.pth"])
def test_what_is_not_there_is_said(address: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        obtain(address, tmp_path)

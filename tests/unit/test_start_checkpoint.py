"""CHECKPOINT_PATH: from this machine, either storage, or the web; looked at before the data move."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmtrain.start_checkpoint import obtain_checkpoint
from tests.doubles.files import FileServer
from tests.doubles.s3 import CHECKPOINTS, DATASETS
from trainer_sdk.errors import CheckpointError, NetworkError
from trainer_sdk.settings import Settings

NOWHERE = {"ENDPOINT": "http://127.0.0.1:9", "ACCESS_KEY": "x", "SECRET_KEY": "x"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What torch.save would have written, as far as the parent looks."""
    path = tmp_path / "best.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", b"\x80\x02}q\x00.")
    return path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    with FileServer(tmp_path) as server:
        yield server


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_file_of_this_machine_stays_where_it_is(checkpoint: Path, tmp_path: Path, form: str) -> None:
    assert obtain_checkpoint(form.format(checkpoint), Settings.from_env({}), tmp_path / "work") == checkpoint


@pytest.mark.parametrize(
    ("bucket", "other"), [(CHECKPOINTS, "EXTERNAL"), (DATASETS, "INTERNAL"), ("old-runs", "EXTERNAL")]
)
def test_each_bucket_is_reached_with_its_own_keys(
    checkpoint: Path, tmp_path: Path, s3: Any, bucket: str, other: str
) -> None:
    if bucket == "old-runs":
        s3.client.create_bucket(Bucket=bucket)
    s3.put(bucket, "checkpoints/7/best.pt", checkpoint.read_bytes())
    elsewhere = {f"{other}_STORAGE_{name}": value for name, value in NOWHERE.items()}
    settings = Settings.from_env({**s3.environment(), **elsewhere})
    found = obtain_checkpoint(f"s3://{bucket}/checkpoints/7/best.pt", settings, tmp_path / "work")
    assert found.parent == tmp_path / "work"
    assert found.read_bytes() == checkpoint.read_bytes()


def test_a_storage_that_is_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    settings = Settings.from_env({"INTERNAL_STORAGE_ENDPOINT": tmp_path.parent.as_uri()})
    found = obtain_checkpoint(f"s3://{tmp_path.name}/best.pth", settings, tmp_path / "work")
    assert found.read_bytes() == checkpoint.read_bytes()


def test_from_the_web(checkpoint: Path, tmp_path: Path, web: FileServer) -> None:
    found = obtain_checkpoint(f"{web.url}/best.pth?X-Amz-Signature=secret", Settings.from_env({}), tmp_path / "work")
    assert found.read_bytes() == checkpoint.read_bytes()
    assert [path.name for path in (tmp_path / "work").iterdir()] == [found.name]


def test_what_is_not_there(tmp_path: Path, s3: Any, web: FileServer) -> None:
    settings = Settings.from_env(s3.environment())
    for address, said in [
        (str(tmp_path / "none.pth"), "No such file"),
        (f"s3://{CHECKPOINTS}/none.pt", "does not exist"),
        (f"{web.url}/none.pth", "HTTP 404"),
        ("http://127.0.0.1:9/none.pth", "ConnectError"),
    ]:
        with pytest.raises(CheckpointError, match=said) as caught:
            obtain_checkpoint(address, settings, tmp_path / "work")
        assert address in caught.value.message


def test_a_storage_that_is_down_is_not_the_checkpoints_fault(tmp_path: Path, s3: Any) -> None:
    down = {f"INTERNAL_STORAGE_{name}": value for name, value in NOWHERE.items()}
    with pytest.raises(NetworkError, match="cannot download s3:"):
        obtain_checkpoint("s3://training-checkpoints/best.pt", Settings.from_env(down), tmp_path / "work")


def test_a_web_page_in_place_of_the_file_is_named_without_its_signature(tmp_path: Path, web: FileServer) -> None:
    (tmp_path / "login.pth").write_text("<html>please log in</html>")
    with pytest.raises(CheckpointError, match="is a web page") as caught:
        obtain_checkpoint(f"{web.url}/login.pth?X-Amz-Signature=secret", Settings.from_env({}), tmp_path / "work")
    assert f"{web.url}/login.pth" in caught.value.message
    assert "secret" not in caught.value.message

"""Files that are no checkpoints, or more than they seem, from outside: nothing of them is loaded, or quoted."""

from __future__ import annotations

import copy
import os
import zipfile
from pathlib import Path

import pytest

from mmtrain.checkpoint_file import check_checkpoint_file
from mmtrain.engine import classify
from trainer_sdk.errors import CheckpointError


def test_a_zip_archive_that_holds_one_thing_many_times_is_refused(tmp_path: Path) -> None:
    """Its entries share their bytes: nothing is compressed, and yet it unpacks to more than it is."""
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 10_000)
        (first,) = archive.filelist
        for number in range(10):
            again = copy.copy(first)
            again.filename = f"archive/data/{number}"
            archive.filelist.append(again)
    with pytest.raises(CheckpointError, match="claims more than it holds"):
        check_checkpoint_file(tmp_path / "bomb.pth")


def test_an_ordinary_archive_passes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "good.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 10_000)
    check_checkpoint_file(tmp_path / "good.pth")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is no file but"):
        check_checkpoint_file(tmp_path / "pipe")


@pytest.mark.parametrize("content", ["s3cr3t-t0ken", "<s3cr3t>"])
def test_a_file_that_is_none_is_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint_file(tmp_path / "token")
    assert "s3cr3t" not in caught.value.message


def test_a_workers_record_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that streams images has the key to the data sets."""
    monkeypatch.setenv("EXTERNAL_STORAGE_SECRET_KEY", "planted-secret-4711")
    monkeypatch.setattr(classify, "_peak_gpu_bytes", lambda: None)  # asks torch
    try:
        raise CheckpointError("with planted-secret-4711", hint="not planted-secret-4711")
    except CheckpointError as error:
        record = classify.error_record(error)
    assert "planted" not in str(record)
    assert (record["type"], record["message"]) == ("CheckpointError", "with ***")

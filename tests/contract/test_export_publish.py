"""What becomes of an export that passed and of one that did not, in the storage and at the backend. No model."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.exporters.archive import CERTIFICATE, CERTIFICATE_PAGE
from mmtrain.exporters.order import EXPORTED, FOLDER, Exported, ExportOrder
from mmtrain.jobs import export
from tests.conftest import JOB_ID
from tests.doubles.backend import ContractBackend
from trainer_sdk.session import JobSession


def checkpoint(folder: Path) -> Path:
    """What looks like one from outside."""
    with zipfile.ZipFile(folder / "best.pth", "w") as archive:
        archive.writestr("best/data.pkl", b"")
    return folder / "best.pth"


def worker_that_says(verdict: str) -> Any:
    """Stands in for the process that exports."""

    def work(module: str, order: ExportOrder, session: JobSession, *rest: Any, **more: Any) -> None:
        assert module == "mmtrain.exporters.worker"
        assert order.export_format == "onnx"
        assert order.config.input_shape == (1, 3, 64, 64)
        package = session.workspace.work / FOLDER
        package.mkdir()
        for name in ("model.onnx", CERTIFICATE, CERTIFICATE_PAGE):
            (package / name).write_text(orjson.dumps({"verdict": verdict}).decode())
        failures = () if verdict == "pass" else ("output boxes differs by 0.5",)
        exported = Exported(verdict=verdict, failures=failures, model_bytes=18, summary="s")
        (session.workspace.work / EXPORTED).write_text(exported.model_dump_json())

    return work


def run(tmp_path: Path, s3: Any, backend: ContractBackend) -> JobSession:
    environ = {
        "JOB_ID": str(JOB_ID),
        "TRAINING_JOB_ID": "9",
        "CHECKPOINT_PATH": str(checkpoint(tmp_path)),
        "EXPORT_FORMAT": "onnx",
        "EXPORT_CONFIG": '{"input_shape": [1, 3, 64, 64]}',
        "WORKSPACE_DIR": str(tmp_path / "workspace"),
        "CALLBACK_URL": backend.url,
        **s3.environment(),
    }
    with JobSession.from_env(environ, kind="export") as session:
        session.complete(export.run(session.spec, session))
    return session


def test_a_package_that_passed_is_told_and_lies_where_the_platform_looks(
    tmp_path: Path, s3: Any, backend: ContractBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "let_worker_do", worker_that_says("pass"))
    session = run(tmp_path, s3, backend)
    assert session.exit_code == 0
    place = f"exports/9/{JOB_ID}"
    assert set(s3.keys("training-checkpoints")) == {
        f"{place}/{name}" for name in (f"export_{JOB_ID}.zip", CERTIFICATE, CERTIFICATE_PAGE)
    }
    told = backend.exports[JOB_ID]
    assert (told.status, told.file_size_bytes) == ("completed", 18)
    assert told.output_s3_uri == f"s3://training-checkpoints/{place}/export_{JOB_ID}.zip"
    assert told.export_results is not None
    assert told.export_results["verdict"] == "pass"
    assert orjson.loads((session.workspace.out / CERTIFICATE).read_bytes()) == {"verdict": "pass"}
    assert not session.workspace.work.joinpath(FOLDER).exists()


def test_a_package_that_failed_lies_apart_and_fails_the_job(
    tmp_path: Path, s3: Any, backend: ContractBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "let_worker_do", worker_that_says("fail"))
    session = run(tmp_path, s3, backend)
    assert session.exit_code == 1
    assert all(key.startswith(f"rejected/exports/9/{JOB_ID}/") for key in s3.keys("training-checkpoints"))
    assert f"rejected/exports/9/{JOB_ID}/export_{JOB_ID}.zip" in s3.keys("training-checkpoints")
    assert not (session.workspace.out / f"export_{JOB_ID}.zip").exists()
    assert (session.workspace.out / "rejected" / f"export_{JOB_ID}.zip").exists()
    told = backend.exports[JOB_ID]
    assert told.status == "failed"
    assert told.error_message is not None
    assert "output boxes differs by 0.5" in told.error_message

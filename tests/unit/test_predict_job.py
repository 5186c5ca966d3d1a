"""The parent's half of a predict job, with a model of a few lines in the worker's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtrain.engine.messages import MessageWriter
from mmtrain.jobs import predict
from mmtrain.predicting import worker
from mmtrain.reports.drawing import Skeleton
from tests.unit.test_predicting_run import FindsWhite, draw
from trainer_sdk.session import JobSession


def test_a_job_from_request_to_upload_and_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    draw(tmp_path / "in/a.png")
    (tmp_path / "in/b.jpg").write_bytes(b"no picture")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/metadata.json").write_text("{}")

    def let_work(module: str, order: Any, session: JobSession, *_: Any, **how: Any) -> None:
        assert module == "mmtrain.predicting.worker"
        work = session.workspace.work
        session.workspace.save("work/worker.json", order)
        order = type(order).model_validate_json((work / "worker.json").read_bytes())
        worker.run(order, work, MessageWriter(work / "messages.jsonl"))

    monkeypatch.setattr(predict, "let_worker_do", let_work)
    monkeypatch.setattr(worker, "_opened", lambda order: (FindsWhite(), Skeleton(), ("a remark",)))
    environ = {
        "JOB_ID": "5",
        "WORKSPACE_DIR": str(tmp_path / "workspace"),
        "CHECKPOINT_PATH": str(tmp_path / "package"),
        "IMAGES_PATH": str(tmp_path / "in"),
        "INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}/s3",
        "INTERNAL_STORAGE_ACCESS_KEY": "a",
        "INTERNAL_STORAGE_SECRET_KEY": "b",
        "CONFIG": json.dumps({"save_dice": True, "save_crop": True, "classes": ["white"], "device": "cpu"}),
    }
    with JobSession.from_env(environ, kind="predict") as session:
        session.complete(predict.run(session.spec, session))
    folder = tmp_path / "workspace/predict-5"
    assert session.exit_code == 0, (folder / "outcome.json").read_text()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    told = [event["body"] for event in events if "total_images" in event["body"]]
    assert [body["total_images"] for body in told] == [2] * len(told)
    (rows,) = [body["results"] for body in told if "results" in body]
    assert [(row["image_name"], len(row["predictions"])) for row in rows] == [("a.png", 1), ("b.jpg", 0)]
    assert rows[0]["predictions"][0]["bbox"] == [10.0, 20.0, 40.0, 30.0]
    published = tmp_path / "s3/training-checkpoints/inference-results/5"
    files = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    assert files >= {
        "predictions.json", "coco_results.json", "report.html", "images/a.png", "labels/a.txt", "labels/classes.txt",
        "crops/white/a_1.jpg", "annotations_detection.json",
    }  # fmt: skip
    page = (published / "report.html").read_text()
    assert "a remark" in page and "not an image" in page

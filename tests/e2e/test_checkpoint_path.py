"""A job that starts from the checkpoint of another, through the storage; and files that it must not start from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import RunScript
from tests.e2e.test_jobs import TRAIN_S, request

HEADS = [f"bbox_head.rtm_cls.{level}.{part}" for part in ("weight", "bias") for level in range(3)]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2}, size=(64, 64))


def two_classes(data: Path, folder: Path) -> Path:
    """The same pictures with the objects of the first two classes."""
    shutil.copytree(data, folder)
    document = orjson.loads((data / "annotations_detection.json").read_bytes())
    kept = {row["id"] for row in document["classes"][:2]}
    document["classes"] = document["classes"][:2]
    for image in document["images"]:
        image["annotations"] = [row for row in image["annotations"] if row["class_id"] in kept]
    (folder / "annotations_detection.json").write_bytes(orjson.dumps(document))
    return folder


def test_a_job_starts_from_anothers_checkpoint(run_script: RunScript, s3: Any, shapes: Path, tmp_path: Path) -> None:
    first = run_script(
        {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "JOB_ID": "1", **s3.environment()}, timeout_s=TRAIN_S
    )
    assert first.exit_code == 0, first.stdout
    environment = {
        **request("rtmdet-tiny", {"pretrained": True, "lr0": 1e-9}),
        "JOB_ID": "2",
        "DATASET_PATH": str(two_classes(shapes, tmp_path / "two")),
        "CHECKPOINT_PATH": "s3://training-checkpoints/checkpoints/1/best.pt",
        **s3.environment(),
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody asks for the published weights
    }
    second = run_script(environment, timeout_s=TRAIN_S)
    assert second.exit_code == 0, second.stdout
    before, after = (torch.load(run.folder / "out" / "best.pth", weights_only=True) for run in (first, second))
    learnt = [name for name in before["state_dict"] if name.endswith("conv.weight")]
    assert any(name.startswith("backbone.") for name in learnt)
    for name in learnt:
        torch.testing.assert_close(before["state_dict"][name], after["state_dict"][name], atol=1e-6, rtol=0)
    assert [before["state_dict"][HEADS[0]].shape[0], after["state_dict"][HEADS[0]].shape[0]] == [3, 2]
    rows = [event["body"]["message"] for event in second.events if event["kind"] == "log"]
    told = [line for row in rows for line in row.split("\n")]
    (anew,) = (text for text in told if "begin anew" in text)
    assert all(name in anew for name in HEADS)
    assert any(text.startswith(f"starts from {environment['CHECKPOINT_PATH']}: ") for text in told)
    plan = orjson.loads((second.folder / "plan.json").read_bytes())
    assert (plan["weights"]["value"], plan["weights"]["origin"]) == (environment["CHECKPOINT_PATH"], "request")
    report = orjson.loads((second.folder / "out" / "report.json").read_bytes())
    assert any(HEADS[0] in note for note in report["notes"])
    assert str(second.folder / "work" / "start.pth") in (second.folder / "config.py").read_text()


class Evil:
    """What an unpickler would run."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._trace}",)


def test_a_malicious_checkpoint_ends_the_job_and_nothing_else(
    run_script: RunScript, shapes: Path, tmp_path: Path
) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "it_ran"
    torch.save({"state_dict": {"backbone.weight": torch.zeros(1)}, "meta": Evil(trace)}, path)
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CHECKPOINT_PATH": str(path)}
    run = run_script(environment, timeout_s=TRAIN_S)
    assert (run.exit_code, run.outcome["code"]) == (3, "CheckpointError")
    assert str(path) in run.outcome["message"]
    assert "system" in run.outcome["message"]
    assert not trace.exists()

"""Memory that really ends: a limit of the system on the whole job, and a batch that does not fit into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import RunScript, StartScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_faults import wait_for
from tests.e2e.test_jobs import TRAIN_S, request
from tests.limited import limited

MB = 10**6


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 1})


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_a_batch_that_no_longer_fits_is_halved_and_the_training_goes_on_from_its_checkpoint(
    start_script: StartScript, run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> None:
    """At 640 pixels rtmdet-tiny takes 1.1 GB and 0.5 GB an image: four do not fit into 2.6 GB, two do."""
    config = {"imgsz": 640, "epochs": 2}
    environment = {**request("rtmdet-tiny", config), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    roomy = start_script(environment)
    wait_for(lambda: "epoch_1" in (roomy.folder / "work" / "last_checkpoint").read_text(), (FileNotFoundError,))
    roomy.kill()
    done = run_script(environment, timeout_s=TRAIN_S, script=limited(tmp_path, 2600 * MB))
    assert done.exit_code == 0, done.stdout

    plan, report = read(done.folder / "plan.json"), read(done.folder / "out" / "report.json")
    assert (plan["batch"]["value"], plan["accumulate"]["value"]) == (2, 2)
    assert (plan["batch"]["origin"], plan["accumulate"]["origin"]) == ("machine", "machine")
    assert plan["batch"]["reason"].startswith("4 did not fit into memory: out of memory: ")  # and what the machine said
    said = "going on with 2 images at a time, 2 times a step (1 of 3 restarts)"
    assert said in done.stdout
    assert any(said in note for note in report["notes"])
    assert done.stdout.count("going on after epoch 1") == 2  # the rerun, and the restart
    assert [point["epoch"] for point in report["curves"]["train"]] == [1, 2]
    assert report["curves"]["train"][-1]["peak_rss_bytes"] < 2600 * MB
    assert backend.status_of(123) == "completed"
    assert backend.rejected == []


def test_an_automatic_batch_is_what_was_measured_to_fit(
    run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> None:
    environment = {**request("rtmdet-tiny", {"imgsz": 640, "batch": "auto"}), "DATASET_PATH": str(shapes)}
    environment |= {"CALLBACK_URL": backend.url}
    done = run_script(environment, timeout_s=TRAIN_S, script=limited(tmp_path, 2800 * MB))
    assert done.exit_code == 0, done.stdout
    plan, report = read(done.folder / "plan.json"), read(done.folder / "out" / "report.json")
    assert plan["batch"]["origin"] == "machine"
    assert plan["batch"]["value"] in (1, 2)  # the four images of the set do not fit
    assert plan["accumulate"]["value"] == 1
    assert plan["batch"]["reason"].startswith("auto, measured in ")
    assert "of 2.8 GB (memory limit of the process (ulimit -d))" in plan["batch"]["reason"]
    assert plan["lr0"]["reason"].endswith(f"scaled to batch {plan['batch']['value']}")
    assert plan["batch"]["reason"] in done.stdout
    assert any(plan["batch"]["reason"] in note for note in report["notes"])

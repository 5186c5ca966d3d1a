"""Two processes of one training, of which only one sees an object in a step: parts of the other's model idle."""

from __future__ import annotations

import json
from pathlib import Path

import orjson

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import RunScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import TRAIN_S, request


def one_image_with_objects(folder: Path) -> Path:
    """Drawn shapes; of the eight images to train on, seven show nothing."""
    write_shapes(folder, counts={"train": 8, "val": 4}, task="instance_segmentation")
    path = next(folder.glob("annotations_*.json"))
    document = orjson.loads(path.read_bytes())
    for image in document["images"][1:8]:
        assert image["split"] == "train"
        image["annotations"] = []
    path.write_bytes(orjson.dumps(document))
    return folder


def test_a_process_without_objects_waits_for_nobody(
    run_script: RunScript, backend: ContractBackend, tmp_path: Path
) -> None:
    """Had DistributedDataParallel not been told that weights may go without gradient, both would wait for ever."""
    environ = {**request("rtmdet-ins-tiny", {"epochs": 2, "imgsz": 96}), "PET_NPROC_PER_NODE": "2"}
    data = one_image_with_objects(tmp_path / "shapes")
    run = run_script({**environ, "DATASET_PATH": str(data), "CALLBACK_URL": backend.url}, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    plan, report = (json.loads((run.folder / name).read_text()) for name in ("plan.json", "out/report.json"))
    assert (plan["processes"]["value"], plan["batch"]["value"]) == (2, 4)
    assert [point["epoch"] for point in report["curves"]["train"]] == [1, 2]
    assert backend.status_of(123) == "completed"

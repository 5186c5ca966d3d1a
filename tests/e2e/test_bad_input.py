"""What goes wrong before training: a clear message with a hint, the right type and exit code, told to the backend."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.e2e.test_jobs import request

ANNOTATIONS = "annotations_detection.json"
Document = dict[str, Any]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 6, "val": 3})


@pytest.fixture
def fails(run_script: RunScript, backend: ContractBackend) -> Callable[..., str]:
    """Runs a job that must fail and returns what the backend was told, after checking all that failures share."""

    def run(environment: dict[str, str], exit_code: int, kind: str) -> str:
        done: ScriptRun = run_script({"CALLBACK_URL": backend.url, **environment})
        assert done.exit_code == exit_code, done.stdout
        assert backend.status_of(123) == "failed"
        assert backend.rejected == []
        told = str([call.body for call in backend.calls if "error_message" in (call.body or {})][-1]["error_message"])
        assert told.startswith(f"[{kind}] ")
        outcome = done.outcome
        assert (outcome["status"], outcome["code"], outcome["exit_code"]) == ("failed", kind, exit_code)
        assert outcome["hint"]
        assert outcome["message"] in told
        assert not (done.folder / "out" / "manifest.json").exists()
        return told

    return run


def edit(folder: Path, change: Callable[[Document], None]) -> None:
    document = orjson.loads((folder / ANNOTATIONS).read_bytes())
    change(document)
    (folder / ANNOTATIONS).write_bytes(orjson.dumps(document))


# The request ---------------------------------------------------------------------------------------------------------


def test_every_problem_of_a_request_is_told_at_once(fails: Callable[..., str]) -> None:
    config = {"basic": {"epoch": 3, "batch": 0}, "advanced": {"mosaic": 2, "cutmix": 0.5}}
    environment = {"JOB_ID": "123", "EPOCHS": "5", "CONFIG": json.dumps(config), "TASK_TYPE": "detektion"}
    told = fails(environment, 3, "ConfigError")
    for part in (
        "did you mean 'epochs'?", "CONFIG.basic.batch=0", "CONFIG.advanced.mosaic=2", "cutmix is not supported",
        "MODEL_NAME is missing", "no data set", "TASK_TYPE='detektion'",
    ):  # fmt: skip
        assert part in told


def test_a_contradiction_names_both_places(fails: Callable[..., str], shapes: Path) -> None:
    told = fails({**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "EPOCHS": "7"}, 3, "ConfigError")
    assert "EPOCHS=7 and CONFIG.basic.epochs=1" in told


def test_config_that_is_not_json_says_where(fails: Callable[..., str], shapes: Path) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CONFIG": '{"epochs": 3,}'}
    assert "CONFIG is not JSON" in fails(environment, 3, "ConfigError")


def test_an_unknown_model_lists_the_known_ones(fails: Callable[..., str], shapes: Path) -> None:
    told = fails({**request("rtmdet-xxl"), "DATASET_PATH": str(shapes)}, 3, "ConfigError")
    assert "mask-rcnn-r50" in told


def test_a_model_for_another_task(fails: Callable[..., str], shapes: Path) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "TASK_TYPE": "instance_segmentation"}
    assert "mask-rcnn-r50" in fails(environment, 3, "ConfigError")


def test_what_contradicts_the_model_is_told_before_the_data_are_asked_for(fails: Callable[..., str]) -> None:
    environment = {**request("rtmdet-tiny", {"imgsz": 100}, primary_metric="accuracy"), "DATASET_ID": "never-asked-for"}
    told = fails({**environment, "EXTERNAL_STORAGE_ENDPOINT": "http://127.0.0.1:9"}, 3, "ConfigError")
    assert "multiples of 32" in told
    assert "accuracy" in told


def test_a_gpu_that_is_not_there(fails: Callable[..., str], shapes: Path) -> None:
    environment = {**request("rtmdet-tiny", {"device": "99"}), "DATASET_PATH": str(shapes)}
    assert "asks for GPU 99" in fails(environment, 4, "ResourceError")


# Published weights ---------------------------------------------------------------------------------------------------


def test_weights_that_cannot_be_had_are_never_replaced_by_chance(
    fails: Callable[..., str], shapes: Path, tmp_path: Path
) -> None:
    environment = {
        **request("rtmdet-tiny", {"pretrained": True}),
        "DATASET_PATH": str(shapes),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "WEIGHTS_DIR": str(tmp_path),
        "WEIGHTS_MIRROR": "http://127.0.0.1:9/weights",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    told = fails(environment, 3, "CheckpointError")
    for way_out in ("WEIGHTS_DIR", "WEIGHTS_MIRROR", "pretrained=false"):
        assert way_out in told
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_weights_with_another_hash_are_refused(fails: Callable[..., str], shapes: Path, tmp_path: Path) -> None:
    from mmtrain.recipes import load_recipe

    (tmp_path / load_recipe("rtmdet-tiny").weights.file_name).write_bytes(b"something else")
    environment = {**request("rtmdet-tiny", {"pretrained": True}), "DATASET_PATH": str(shapes)}
    told = fails({**environment, "WEIGHTS_DIR": str(tmp_path)}, 3, "CheckpointError")
    assert "sha256" in told


# The data ------------------------------------------------------------------------------------------------------------


def test_a_missing_data_set(fails: Callable[..., str], tmp_path: Path) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(tmp_path / "nowhere")}
    assert "does not exist" in fails(environment, 3, "DatasetError")


def test_a_folder_without_annotations_says_what_it_looked_for(fails: Callable[..., str], tmp_path: Path) -> None:
    told = fails({**request("rtmdet-tiny"), "DATASET_PATH": str(tmp_path)}, 3, "DatasetError")
    assert ANNOTATIONS in told


def test_annotations_cut_short(fails: Callable[..., str], shapes: Path) -> None:
    raw = (shapes / ANNOTATIONS).read_bytes()
    (shapes / ANNOTATIONS).write_bytes(raw[: len(raw) // 2])
    fails({**request("rtmdet-tiny"), "DATASET_PATH": str(shapes)}, 3, "DatasetError")


def test_annotations_that_changed_since_the_snapshot(fails: Callable[..., str], shapes: Path) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "DATASET_VERSION_HASH": "0" * 64}
    assert "changed since the job was made" in fails(environment, 3, "DatasetError")


def no_images(document: Document) -> None:
    document["images"] = []


def no_class_for_a_box(document: Document) -> None:
    document["images"][0]["annotations"][0] |= {"class_id": 77, "class_name": "hexagon"}


def every_box_empty(document: Document) -> None:
    for image in document["images"]:
        for annotation in image["annotations"]:
            annotation |= {"bbox": [3, 3, 0, 0], "segmentation": []}


def nothing_in_val(document: Document) -> None:
    for image in document["images"]:
        if image["split"] == "val":
            image["annotations"] = []


def nameless_class(document: Document) -> None:
    document["classes"][1]["name"] = " "
    for image in document["images"]:
        for annotation in image["annotations"]:
            annotation.pop("class_name")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_images, "DS001"),
        (no_class_for_a_box, "hexagon"),
        (every_box_empty, "DS002"),
        (nothing_in_val, "DS043"),
        (nameless_class, "DS016"),
    ],
)
def test_data_that_cannot_be_trained_on(
    fails: Callable[..., str], shapes: Path, change: Callable[[Document], None], said: str
) -> None:
    edit(shapes, change)
    assert said in fails({**request("rtmdet-tiny"), "DATASET_PATH": str(shapes)}, 3, "DatasetError")


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def replace_by_text(path: Path) -> None:
    path.write_text("<html>not found</html>")


@pytest.mark.parametrize("harm", [delete, empty, cut_short, replace_by_text])
def test_pictures_that_are_not_there_or_not_readable_are_all_named(
    fails: Callable[..., str], shapes: Path, harm: Callable[[Path], None]
) -> None:
    for name in ("shape_0001.png", "shape_0005.png"):
        harm(shapes / "images" / name)
    told = fails({**request("rtmdet-tiny"), "DATASET_PATH": str(shapes)}, 3, "DatasetError")
    assert "shape_0001.png" in told
    assert "shape_0005.png" in told
    assert "(2)" in told


# The surroundings ----------------------------------------------------------------------------------------------------


def test_no_job_id(run_script: RunScript) -> None:
    done = run_script({"MODEL_NAME": "rtmdet-tiny"})
    assert done.exit_code == 3
    assert "JOB_ID is missing" in done.stdout


def test_a_storage_that_is_not_there(fails: Callable[..., str]) -> None:
    environment = {**request("rtmdet-tiny"), "DATASET_ID": "d", "EXTERNAL_STORAGE_ENDPOINT": "http://127.0.0.1:9"}
    assert "EXTERNAL_STORAGE_ENDPOINT" in fails(environment, 5, "NetworkError")


def test_wrong_storage_keys(fails: Callable[..., str], s3: Any, shapes: Path) -> None:
    """moto asks for keys only when told to; then it checks them as S3 does."""
    s3.put_folder(shapes, "training-datasets", "datasets/d/")
    with s3.checking_keys():
        told = fails({**request("rtmdet-tiny"), "DATASET_ID": "d", **s3.environment()}, 5, "NetworkError")
    assert "EXTERNAL_STORAGE_ACCESS_KEY" in told


def test_a_data_set_that_is_not_in_the_bucket(fails: Callable[..., str], s3: Any) -> None:
    told = fails({**request("rtmdet-tiny"), "DATASET_ID": "nothing", **s3.environment()}, 3, "DatasetError")
    assert "s3://training-datasets/datasets/nothing/" in told


def test_a_full_disk(backend: ContractBackend, shapes: Path, tmp_path: Path) -> None:
    """A real full file system: a small tmpfs in a mount namespace of its own."""
    (tmp_path / "small").mkdir()
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {tmp_path}/small && head -c 40k /dev/zero > {tmp_path}/small/other; "
        f"cd {tmp_path} && exec {sys.executable} {ROOT}/train.py"
    )
    environment = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "WORKSPACE_DIR": str(tmp_path / "small")}
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert backend.status_of(123) == "failed"
    told = [call.body["error_message"] for call in backend.calls if "error_message" in (call.body or {})]
    assert len(told) == 1
    assert told[0].startswith("[ResourceError] the disk is full")
    assert "WORKSPACE_DIR" in told[0]

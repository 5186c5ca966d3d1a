"""Full disks"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.conftest import JobScript
from tests.contract.test_fetch import annotations, body_of
from tests.doubles.backend import ContractBackend
from tests.doubles.s3 import DATASETS, S3Double
from tests.faults.conftest import Seen

NAMES = [f"{number:02}.jpg" for number in range(30)]
FETCH = """
    from mmtrain.datasets.fetch import fetch
    from trainer_sdk.tasks import Task
    with session.step("fetch"):
        found = fetch(session.spec.dataset, Task.DETECTION, session.settings, lambda done, total: None)
    session.log(f"{len(found.image_paths)} images")
    session.complete(DONE)
"""
FILL = """
    with session.step("train"):
        for number in range(100):
            session.tell(Progress(current_epoch=number, total_epochs=100, progress_percent=number))
            (session.workspace.work / f"epoch_{number}.pth").write_bytes(b"x" * 100_000)
    session.complete(DONE)
"""


def on_a_small_disk(folder: Path, size: str, environ: dict[str, str], commands: str) -> list[int]:
    """The exit codes that the commands printed; `small/` is the disk, and only they see it."""
    (folder / "small").mkdir(exist_ok=True)
    script = f"mount -t tmpfs -o size={size} tmpfs {folder}/small && cd {folder} && {commands}"
    basic = {"PATH": os.environ["PATH"], "HOME": str(folder), "WORKSPACE_DIR": str(folder / "workspace")}
    basic |= {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "d", "PYTHON": sys.executable}
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script]
    done = subprocess.run(command, env=basic | environ, capture_output=True, text=True, timeout=120, check=False)
    codes = [int(line.removeprefix("EXIT ")) for line in done.stdout.splitlines() if line.startswith("EXIT ")]
    assert codes, done.stdout + done.stderr
    return codes


def told(backend: ContractBackend) -> list[str]:
    return [call.body.get("error_message") or "completed" for call in backend.calls if call.what == "completion"]


@pytest.mark.short
@pytest.mark.fault(
    "the disk of the data set cache is too small for the images",
    expected="ResourceError before the first image, exit 4, told once; the same job with room fetches all",
)
def test_the_cache(tmp_path: Path, s3: S3Double, backend: ContractBackend, job_script: JobScript, seen: Seen) -> None:
    s3.put(DATASETS, "datasets/d/annotations_detection.json", annotations(NAMES))
    for name in NAMES:
        s3.put(DATASETS, f"datasets/d/images/{name}", body_of(name, 100_000))
    environ = {**s3.environment(), "CALLBACK_URL": backend.url, "DATASET_CACHE_DIR": str(tmp_path / "small")}
    run = f"$PYTHON {job_script(FETCH)}; echo EXIT $?"
    small = tmp_path / "small"
    count = f"(find {small} -name '*.jpg' | wc -l; find {small} -name '*.part') > {tmp_path}/first"
    codes = on_a_small_disk(
        tmp_path, "1500k", environ, f"{run}; {count}; mount -o remount,size=20m {tmp_path}/small; {run}"
    )
    first, *parts = (tmp_path / "first").read_text().split()
    assert codes == [4, 0]
    assert told(backend)[0].startswith("[ResourceError] too little disk below ")
    assert "the data set 3 MB" in told(backend)[0]
    assert told(backend)[1:] == ["completed"]
    assert int(first) == 0 and parts == []
    assert "30 images" in backend.jobs[123].logs[-1]
    seen(f"exit 4, {first} of 30 images fetched; the rerun: exit 0, 30 images")


@pytest.mark.short
@pytest.mark.fault(
    "the disk of the workspace fills up while training", expected="ResourceError, exit 4, told once, in order"
)
def test_the_workspace(tmp_path: Path, backend: ContractBackend, job_script: JobScript, seen: Seen) -> None:
    environ = {"CALLBACK_URL": backend.url, "WORKSPACE_DIR": str(tmp_path / "small")}
    look = f"cp {tmp_path}/small/123/outcome.json {tmp_path}/outcome.json"
    codes = on_a_small_disk(tmp_path, "1500k", environ, f"$PYTHON {job_script(FILL)}; echo EXIT $?; {look}; true")
    assert codes == [4]
    assert [message[:34] for message in told(backend)] == ["[ResourceError] the disk is full: "]
    assert backend.status_of(123) == "failed"
    assert backend.rejected == []
    kept = (tmp_path / "outcome.json").exists() and orjson.loads((tmp_path / "outcome.json").read_bytes() or b"{}")
    seen(f"exit 4, told once; outcome.json {'is there too' if kept else 'had no room, the backend knows'}")


@pytest.mark.short
@pytest.mark.fault("the workspace cannot be written", expected="ResourceError, exit 4, the backend hears of it")
def test_a_read_only_workspace(tmp_path: Path, backend: ContractBackend, job_script: JobScript, seen: Seen) -> None:
    environ = {"CALLBACK_URL": backend.url, "WORKSPACE_DIR": str(tmp_path / "small")}
    run = f"mount -o remount,ro {tmp_path}/small; $PYTHON {job_script(FILL)}; echo EXIT $?"
    assert on_a_small_disk(tmp_path, "1500k", environ, run) == [4]
    assert len(told(backend)) == 1 and told(backend)[0].startswith("[ResourceError] ")
    seen(told(backend)[0].replace(str(tmp_path), "..."))

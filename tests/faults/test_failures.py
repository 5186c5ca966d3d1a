"""What the machine or a storage lacks"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunningScript, RunScript, ScriptRun, StartScript
from tests.doubles import network as faults
from tests.doubles.backend import ContractBackend
from tests.doubles.network import Network
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.faults.conftest import Seen
from tests.limited import limited

JOB_S = 240.0
MB = 10**6
Job = Callable[..., dict[str, str]]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})


@pytest.fixture
def job(backend: ContractBackend, shapes: Path) -> Job:
    """``job({"workers": 2}, NAME=value)``: the environment of a small training."""

    def environment(config: dict[str, Any] | None = None, **environ: str) -> dict[str, str]:
        small = {"epochs": 1, "batch": 4, "imgsz": 64, "device": "cpu", "workers": 0, "pretrained": False, "mosaic": 0}
        asked = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "CONFIG": json.dumps(small | (config or {}))}
        return {**asked, "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url, **environ}

    return environment


def told(backend: ContractBackend) -> list[str]:
    return [call.body["error_message"] for call in backend.calls if "error_message" in (call.body or {})]


def failed_once(done: ScriptRun, backend: ContractBackend, code: str, exit_code: int) -> dict[str, Any]:
    """The outcome, told once and the same everywhere."""
    assert done.exit_code == exit_code, done.stdout
    outcome = done.outcome
    assert (outcome["status"], outcome["code"], outcome["exit_code"]) == ("failed", code, exit_code)
    assert told(backend) == [f"[{code}] {outcome['message']} - {outcome['hint']}"]
    assert backend.status_of(123) == "failed"
    return outcome


def in_small_tmpfs(environ: dict[str, str], tmp_path: Path, script: str) -> ScriptRun:
    """train.py in mount points of its own, which `script` makes."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WORKSPACE_DIR": str(tmp_path / "small"), **environ}
    (tmp_path / "small").mkdir(exist_ok=True)
    whole = f"cd {tmp_path}; {script}; {sys.executable} {ROOT}/train.py; code=$?; cp -r small/123 kept; exit $code"
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", whole]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=JOB_S)
    return ScriptRun(done.returncode, done.stdout, done.stderr, tmp_path / "kept", 0.0)


@pytest.mark.short
@pytest.mark.fault("a disk too small for the checkpoints", expected="ResourceError before the data, with both numbers")
def test_a_disk_too_small_from_the_start(job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen) -> None:
    done = in_small_tmpfs(job(), tmp_path, "mount -t tmpfs -o size=20m tmpfs small")
    outcome = failed_once(done, backend, "ResourceError", 4)
    (lack,) = outcome["evidence"]["lacking"]
    assert outcome["phase"] == "check"
    assert lack["found_bytes"] < 20 * 2**20 < lack["needed_bytes"]
    assert "checkpoints to go on from" in outcome["message"]
    assert not (done.folder / "findings.json").exists()
    seen(f"{lack['needed_bytes'] / MB:.0f} MB needed, {lack['found_bytes'] / MB:.0f} MB found; nothing was read")


@pytest.mark.fault(
    "the disk fills up while training", expected="ResourceError, told; outcome.json written all the same"
)
def test_a_disk_that_fills_up_while_training(job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen) -> None:
    fill = (
        "mount -t tmpfs -o size=600m tmpfs small; "
        "(until [ -e small/123/work/last_checkpoint ]; do sleep 0.1; done; cat /dev/zero > small/filler) 2> /dev/null &"
    )
    kept = {
        "epochs": 50,
        "checkpoint_interval": 1,
        "checkpoint_keep_max": 3,
    }  # else the first makes room for the second
    done = in_small_tmpfs(job(kept), tmp_path, fill + " true")
    outcome = failed_once(done, backend, "ResourceError", 4)
    assert "the disk is full" in outcome["message"]
    assert outcome["evidence"]["last_iterations"]
    seen(f"{outcome['phase']}: {outcome['message'].partition(':')[0]}")


@pytest.mark.short
@pytest.mark.fault("/dev/shm too small for the workers", expected="ResourceError before training, with both numbers")
def test_shared_memory_too_small_from_the_start(job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen) -> None:
    environ = job({"workers": 4, "imgsz": 640, "batch": 8})
    done = in_small_tmpfs(environ, tmp_path, "mount -t tmpfs -o size=16m tmpfs /dev/shm")
    outcome = failed_once(done, backend, "ResourceError", 4)
    (lack,) = outcome["evidence"]["lacking"]
    assert outcome["phase"] == "plan"
    assert lack["needed_bytes"] == 4 * 2 * 8 * 640 * 640 * 3
    assert lack["found_bytes"] <= 16 * 2**20
    assert "--shm-size" in outcome["hint"]
    assert not (done.folder / "work" / "worker.json").exists()
    seen(f"{lack['needed_bytes'] / MB:.0f} MB needed, {lack['found_bytes'] / MB:.0f} MB found; no worker was started")


@pytest.mark.fault("/dev/shm is full when the training begins", expected="ResourceError that names it")
def test_shared_memory_that_is_full_when_the_training_begins(
    job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen
) -> None:
    fill = (
        "mount -t tmpfs -o size=64m tmpfs /dev/shm; "
        "(until [ -e small/123/work/worker.json ]; do sleep 0.1; done; cat /dev/zero > /dev/shm/filler) 2> /dev/null &"
    )
    done = in_small_tmpfs(job({"epochs": 200, "workers": 1}), tmp_path, fill + " true")
    outcome = failed_once(done, backend, "ResourceError", 4)
    assert "shared memory" in outcome["message"] or "SIGBUS" in outcome["message"]
    assert outcome["evidence"]["shm_free_bytes"] == 0
    assert outcome["evidence"]["workers"] == 1
    seen(outcome["message"].partition(":")[0])


@pytest.fixture
def network(s3: S3Double) -> Iterator[Network]:
    with Network(s3.endpoint) as network:
        yield network


def storage_of(network: Network) -> dict[str, str]:
    return {
        "INTERNAL_STORAGE_ENDPOINT": network.url,
        "INTERNAL_STORAGE_ACCESS_KEY": "key",
        "INTERNAL_STORAGE_SECRET_KEY": "secret",
    }


@pytest.mark.short
@pytest.mark.fault("a storage of checkpoints that refuses writing", expected="NetworkError before the data; for good")
def test_a_storage_that_may_only_be_read(
    job: Job, backend: ContractBackend, network: Network, run_script: RunScript, seen: Seen
) -> None:
    network.fail(faults.status(403, "AccessDenied"), when=lambda request: request.method == "PUT")
    outcome = failed_once(run_script(job(**storage_of(network))), backend, "NetworkError", 5)
    assert outcome["phase"] == "check"
    assert not outcome["retryable"]
    assert "INTERNAL_STORAGE_ACCESS_KEY" in outcome["hint"]
    seen(f"refused during {outcome['phase']}, before the data; not retryable")


@pytest.mark.short
@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        pytest.param(
            faults.status(503, "SlowDown"), True,
            marks=pytest.mark.fault("at its start a job cannot ask whether it ran before: 503",
                                    expected="NetworkError (retryable); the earlier run's checkpoint stays as it is")),
        pytest.param(
            faults.reset, True,
            marks=pytest.mark.fault("at its start a job cannot ask whether it ran before: connections reset",
                                    expected="NetworkError (retryable); the earlier run's checkpoint stays as it is")),
        pytest.param(
            faults.status(403, "AccessDenied"), False,
            marks=pytest.mark.fault("at its start a job may not ask whether it ran before: 403",
                                    expected="NetworkError (for good); the earlier run's checkpoint stays as it is")),
    ],
)  # fmt: skip
def test_a_storage_that_cannot_be_asked_is_no_reason_to_begin_anew(
    job: Job,
    backend: ContractBackend,
    network: Network,
    s3: S3Double,
    run_script: RunScript,
    seen: Seen,
    fault: faults.Fault,
    retryable: bool,
) -> None:
    earlier = {"checkpoints/123/resume/progress.json": b"{}", "checkpoints/123/resume/abc-epoch_7.pth": b"weights"}
    for key, body in earlier.items():
        s3.put(CHECKPOINTS, key, body)
    network.fail(fault, when=lambda request: request.method == "GET")
    environ = job(**storage_of(network), STORAGE_PATIENCE_S="2")
    outcome = failed_once(run_script(environ), backend, "NetworkError", 5)
    assert outcome["retryable"] is retryable
    assert {key: s3.get(CHECKPOINTS, key) for key in earlier} == earlier
    seen(f"ended with exit 5, {'retryable' if retryable else 'not retryable'}; both objects are as they were")


@pytest.mark.short
@pytest.mark.fault("disk, folder and storage lack something", expected="one ResourceError that lists all of it")
def test_everything_that_lacks_is_told_at_once(job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen) -> None:
    mounts = "mount -t tmpfs -o size=20m tmpfs small; mkdir ro; mount -t tmpfs -o ro tmpfs ro"
    read_only = {"INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}/ro", "XDG_CACHE_HOME": f"{tmp_path}/ro"}
    environ = job({"pretrained": True}, **read_only)
    outcome = failed_once(in_small_tmpfs(environ, tmp_path, mounts), backend, "ResourceError", 4)
    for part in ("3 problems", "weights cannot be written", "checkpoints/123 cannot be written", "too little disk"):
        assert part in outcome["message"], part
    seen("3 problems in one message: " + ", ".join(("cache read-only", "storage read-only", "disk too small")))


def worker_of(running: RunningScript) -> psutil.Process:
    """The process that trains: torchrun's child that runs our module."""
    family = psutil.Process(running.process.pid).children(recursive=True)
    workers = [process for process in family if "mmtrain.engine.worker" in process.cmdline()]
    return max(workers, key=lambda process: len(process.parents()))


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [
        pytest.param(
            number, code, exit_code,
            marks=pytest.mark.fault(f"the worker dies of {number.name} while training",
                                    expected=f"{code}, exit {exit_code}, with its evidence"))
        for number, code, exit_code in (
            (signal.SIGSEGV, "FrameworkError", 1), (signal.SIGKILL, "ResourceError", 4))
    ],
)  # fmt: skip
def test_a_dead_worker_leaves_evidence(
    start_script: StartScript,
    job: Job,
    backend: ContractBackend,
    seen: Seen,
    number: signal.Signals,
    code: str,
    exit_code: int,
) -> None:
    running = start_script(job({"epochs": 500}))
    wait_for_iterations(running)
    worker_of(running).send_signal(number)
    outcome = failed_once(running.wait(JOB_S), backend, code, exit_code)
    evidence = outcome["evidence"]
    assert (evidence["exit_signal"], evidence["batch"], evidence["imgsz"]) == (number.name, 4, [64, 64])
    assert evidence["last_iterations"][-1]["loss"] > 0
    assert {"loss_cls", "loss_bbox"} <= evidence["last_iterations"][-1]["losses"].keys()
    assert evidence["peak_worker_bytes"] > 200 * MB
    assert 0 < len(evidence["worker_log"]) <= 50
    assert any("training" in line for line in evidence["log"])
    seen(
        f"{outcome['message']}; {len(evidence['last_iterations'])} iterations, {len(evidence['worker_log'])} lines of "
        f"the worker's log, peak {evidence['peak_worker_bytes'] / MB:.0f} MB"
    )


def wait_for_iterations(running: RunningScript) -> None:
    """Until the worker has told of one."""
    messages = running.folder / "work" / "worker_messages.jsonl"
    deadline = time.monotonic() + JOB_S
    while time.monotonic() < deadline:
        assert running.process.poll() is None, running.output()
        lines = messages.read_bytes().splitlines() if messages.exists() else []
        if any(orjson.loads(line)["kind"] == "iteration" for line in lines[:-1] if line):
            return
        time.sleep(0.1)
    raise AssertionError("it did not train")


@pytest.mark.fault(
    "not even one image fits into memory", expected="ResourceError, exit 4, not retryable; says with what"
)
def test_memory_for_not_even_one_image(
    run_script: RunScript, job: Job, backend: ContractBackend, tmp_path: Path, seen: Seen
) -> None:
    script = limited(tmp_path, 1800 * MB)
    done = run_script(job({"imgsz": 1280, "batch": 1}), timeout_s=JOB_S, script=script)
    outcome = failed_once(done, backend, "ResourceError", 4)
    assert outcome["message"].startswith("out of memory: ")
    assert "it happened with 1 image of 1280 x 1280 at a time" in outcome["message"]
    assert "raise the memory limit, lower imgsz" in outcome["hint"]
    assert not outcome["retryable"]
    evidence = outcome["evidence"]
    assert (evidence["batch"], evidence["imgsz"]) == (1, [1280, 1280])
    assert 0 < evidence["peak_worker_bytes"] < 2 * 1800 * MB
    assert "Traceback" in outcome["traceback"] and "worker" in outcome["traceback"]
    assert not (done.folder / "out" / "manifest.json").exists()
    seen(f"told with 1 image of 1280 x 1280; peak {evidence['peak_worker_bytes'] / MB:.0f} MB of {1800} MB")

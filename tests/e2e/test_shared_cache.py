"""Several jobs on one volume, and jobs that are killed: real processes, a real S3 server, a slow network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import ROOT
from tests.doubles.proxy import FaultyProxy
from tests.doubles.s3 import DATASETS, S3Double

IMAGES = 60
NAMES = [f"{number:03}.jpg" for number in range(IMAGES)]
JOB = """
import logging, os, sys
from mmtrain.datasets.fetch import fetch
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
ref = DatasetRef(id=sys.argv[1], prefix=f"datasets/{sys.argv[1]}/")
found = fetch(ref, Task.DETECTION, Settings.from_env(os.environ), lambda done, total: None)
print("fetched", found.root, flush=True)
for name, path in found.image_paths.items():
    assert (found.root / path).read_bytes() == name.encode() * 1000, name
print("complete", len(found.image_paths), flush=True)
sys.stdin.read()  # the job goes on until it is told to end
"""


def body_of(name: str) -> bytes:
    return name.encode() * 1000


def put(s3: S3Double, dataset: str) -> None:
    images = [{"id": number, "file_name": name, "width": 8, "height": 8} for number, name in enumerate(NAMES)]
    document = orjson.dumps({"classes": [{"id": 0, "name": dataset}], "images": images})
    s3.put(DATASETS, f"datasets/{dataset}/annotations_detection.json", document)
    for name in NAMES:
        s3.put(DATASETS, f"datasets/{dataset}/images/{name}", body_of(name))


@pytest.fixture
def proxy(s3: S3Double) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.endpoint) as proxy:
        yield proxy


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(s3: S3Double, proxy: FaultyProxy, tmp_path: Path) -> Iterator[Start]:
    """``start("d", **environ)``: a job that fetches data set d and lives until its input is closed."""
    running: list[subprocess.Popen[str]] = []
    surroundings = {**os.environ, **proxy.environment(s3.environment()), "DATASET_CACHE_DIR": str(tmp_path / "cache")}

    def call(dataset: str, **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", JOB, dataset]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        running.append(subprocess.Popen(command, cwd=ROOT, env={**surroundings, **environ}, text=True, **pipes))
        return running[-1]

    yield call
    for job in running:
        job.kill()
        job.communicate()


def said_until_complete(job: subprocess.Popen[str]) -> list[str]:
    """What a job printed up to its last word; it holds its data set from then on."""
    assert job.stdout is not None
    lines = []
    for line in job.stdout:
        lines.append(line.strip())
        if line.startswith("complete"):
            return lines
    raise AssertionError("\n".join(lines))


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def images_asked(proxy: FaultyProxy) -> int:
    return sum(times for path, times in proxy.asked.items() if "/images/" in path)


def test_two_jobs_fetch_once(s3: S3Double, proxy: FaultyProxy, start: Start) -> None:
    put(s3, "d")
    proxy.delay_s = 0.5
    first = start("d")
    wait_for(lambda: images_asked(proxy) > 0)
    second = start("d")
    said = [said_until_complete(job) for job in (first, second)]
    assert [lines[-1] for lines in said] == [f"complete {IMAGES}"] * 2
    assert not any("waiting for it" in line for line in said[0])
    assert any("waiting for it" in line for line in said[1])
    assert images_asked(proxy) == IMAGES


def test_killed_while_fetching_and_started_again(
    s3: S3Double, proxy: FaultyProxy, start: Start, tmp_path: Path
) -> None:
    put(s3, "d")
    gate = IMAGES // 2

    def slow_in_the_second_half(path: str, times: int, body: bytes) -> bytes:
        if "/images/" in path and int(path[-7:-4]) >= gate:
            time.sleep(3)
        return body

    proxy.damage = slow_in_the_second_half
    job = start("d")

    def images() -> list[Path]:
        return list((tmp_path / "cache").glob("d-*/images/*.jpg"))

    wait_for(lambda: len(images()) >= gate)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert gate <= len(images()) < IMAGES
    assert not list((tmp_path / "cache").glob("d-*/.complete"))
    left = len(images())
    assert list((tmp_path / "cache").glob("d-*/images/.*.part"))
    proxy.damage = lambda path, times, body: body
    proxy.asked.clear()
    assert said_until_complete(start("d"))[-1] == f"complete {IMAGES}"
    assert IMAGES - left <= images_asked(proxy) < IMAGES  # what was fetched and recorded is not fetched again
    assert list((tmp_path / "cache").glob("d-*/.complete"))
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_killed_while_another_waits(s3: S3Double, proxy: FaultyProxy, start: Start) -> None:
    put(s3, "d")
    proxy.delay_s = 1.0
    first = start("d")
    wait_for(lambda: images_asked(proxy) > 0)
    second = start("d")
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    assert said_until_complete(second)[-1] == f"complete {IMAGES}"


def test_what_a_running_job_uses_is_not_evicted(s3: S3Double, start: Start, tmp_path: Path) -> None:
    for name in ("held", "old", "new"):
        put(s3, name)
    held = start("held")
    said_until_complete(held)
    old = start("old")
    said_until_complete(old)
    old.communicate()  # this job ends
    said = said_until_complete(start("new", DATASET_CACHE_MAX_GB="0"))
    assert said[-1] == f"complete {IMAGES}"
    assert any("removed old-" in line for line in said)
    left = sorted(path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir() if path.name != ".locks")
    assert left == ["held", "new"]
    held.communicate()
    said_until_complete(start("new", DATASET_CACHE_MAX_GB="0"))
    left = [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir() if path.name != ".locks"]
    assert left == ["new"]

"""Told to stop while a storage hangs"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import JobScript, StartScript
from tests.contract.test_fetch import put
from tests.doubles import network as faults
from tests.doubles.backend import ContractBackend
from tests.doubles.network import Network
from tests.doubles.s3 import S3Double
from tests.e2e.test_jobs import request
from tests.faults.conftest import Seen

GRACE_S = 30.0
"""What Kubernetes gives between SIGTERM and SIGKILL."""
FOREVER = faults.hang(3600.0)


@pytest.fixture
def network(s3: S3Double) -> Iterator[Network]:
    put(s3, [f"{number}.jpg" for number in range(80)])
    with Network(s3.endpoint) as network:
        yield network


def wait_until_it_hangs(network: Network) -> None:
    deadline = time.monotonic() + 60
    while not network.faults:
        assert time.monotonic() < deadline, "the job never asked the storage"
        time.sleep(0.05)
    time.sleep(0.5)


def stop(job: Any, network: Network, backend: ContractBackend) -> tuple[Any, float]:
    wait_until_it_hangs(network)
    job.process.send_signal(signal.SIGTERM)
    told_at = time.monotonic()
    done = job.wait(GRACE_S)
    took_s = time.monotonic() - told_at
    assert done.exit_code == 143, done.stdout
    assert done.outcome["status"] == "interrupted"
    assert [call.body["error_message"][:13] for call in backend.calls if call.what == "completion"] == ["[Interrupted]"]
    return done, took_s


@pytest.mark.short
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            part,
            marks=pytest.mark.fault(f"SIGTERM while {words} hangs", expected="interrupted, exit 143, within 30 s"),
        )
        for part, words in {
            "completed.json": "the first read",
            "list-type": "the listing",
            "/images/": "every image",
        }.items()
    ],
)
def test_in_the_download(
    start_script: StartScript, s3: S3Double, backend: ContractBackend, network: Network, seen: Seen, part: str
) -> None:
    network.fail(FOREVER, when=lambda asked: part in asked.path)
    environ = {**request("rtmdet-tiny"), **network.storage_environment(s3.environment())}
    job = start_script({**environ, "DATASET_ID": "d", "CALLBACK_URL": backend.url})
    done, took_s = stop(job, network, backend)
    seen(f"exit {done.exit_code}, told once, during {done.outcome['phase']}", recovery_s=took_s)


UPLOADS = """
    from trainer_sdk.storage.opening import open_storage
    from pathlib import Path
    Path("large.pth").write_bytes(b"x" * 20_000_000)
    with session.step("publish"):
        open_storage(session.settings.checkpoints).upload(Path("large.pth"), "checkpoints/123/best.pt")
    session.complete(DONE)
"""


@pytest.mark.short
@pytest.mark.fault("SIGTERM while an upload of three parts hangs", expected="interrupted, exit 143, within 30 s")
def test_in_an_upload(
    start_script: StartScript,
    job_script: JobScript,
    s3: S3Double,
    backend: ContractBackend,
    network: Network,
    seen: Seen,
) -> None:
    network.fail(FOREVER, when=lambda asked: "partNumber" in asked.path)
    environ = {**request("rtmdet-tiny"), **network.storage_environment(s3.environment())}
    job = start_script({**environ, "DATASET_ID": "d", "CALLBACK_URL": backend.url}, script=job_script(UPLOADS))
    done, took_s = stop(job, network, backend)
    seen(f"exit {done.exit_code}, told once, during {done.outcome['phase']}", recovery_s=took_s)

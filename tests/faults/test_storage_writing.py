"""Storage: checkpoints and results on their way out"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import network as faults
from tests.doubles.network import Fault, Network, Request
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.faults.conftest import Seen
from tests.faults.test_storage_reading import REFUSALS, SPOILT, Spoilt
from trainer_sdk.errors import NetworkError
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage

KEY = "checkpoints/123/best.pt"
SIZES = {"one piece": 60_000, "three parts": 20_000_000}
KINDS = SPOILT | {
    "lost": Spoilt("done, and their answers lost", faults.answer_lost),
    "flipped": Spoilt("damaged by one bit", faults.flipped_on_the_way_there),
}
TIMES = 3


def of_upload(request: Request) -> bool:
    return request.method == "PUT"


def rows() -> Iterator[Any]:
    for kind, (words, fault) in KINDS.items():
        for size, size_bytes in SIZES.items():
            marks = [
                pytest.mark.fault(
                    f"an upload in {size}: {TIMES} requests {words}", expected="the object is there, whole"
                )
            ]
            marks += [pytest.mark.short] if kind in ("503", "lost", "flipped") else []
            yield pytest.param(fault, size_bytes, id=f"{kind}-{size}", marks=marks)


@pytest.fixture
def network(s3: S3Double) -> Iterator[Network]:
    with Network(s3.endpoint) as network:
        yield network


def storage_behind(network: Network, s3: S3Double, **environ: str) -> Storage:
    return open_storage(Settings.from_env(network.storage_environment(s3.environment()) | environ).checkpoints)


def a_file(folder: Path, size_bytes: int) -> Path:
    file = folder / "best.pth"
    file.write_bytes((bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes])
    return file


@pytest.mark.parametrize(("fault", "size_bytes"), list(rows()))
def test_spoilt_uploads(
    s3: S3Double,
    network: Network,
    tmp_path: Path,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    size_bytes: int,
) -> None:
    monkeypatch.setattr("trainer_sdk.storage.s3_clients.READ_TIMEOUT_S", 1)
    file = a_file(tmp_path, size_bytes)
    network.fail(fault, when=of_upload, times=TIMES)
    assert storage_behind(network, s3).upload(file, KEY) == f"s3://{CHECKPOINTS}/{KEY}"
    recovery_s = network.since_last_fault_s()
    assert s3.get(CHECKPOINTS, KEY) == file.read_bytes()
    assert network.faults == TIMES or fault is SPOILT["drip"].fault or size_bytes < 100_000
    sent = sum(map(of_upload, network.requests))
    seen(f"{size_bytes} bytes there, each as in the file; {sent} requests sent", recovery_s=recovery_s)


@pytest.mark.fault("every upload damaged on its way", expected="NetworkError that says what arrived")
def test_damage_that_stays(s3: S3Double, network: Network, tmp_path: Path, seen: Seen) -> None:
    network.fail(faults.flipped_on_the_way_there, when=of_upload)
    with pytest.raises(NetworkError, match=r"4 attempts.*arrived instead of") as caught:
        storage_behind(network, s3).upload(a_file(tmp_path, 5000), KEY)
    seen(f"[{caught.value.code}] after {network.faults} uploads")


@pytest.mark.short
@pytest.mark.fault("nobody listens for 8 s in the middle of an upload", expected="waited for; the object is there")
def test_an_outage(s3: S3Double, network: Network, tmp_path: Path, seen: Seen) -> None:
    storage, file = storage_behind(network, s3), a_file(tmp_path, SIZES["three parts"])
    with pytest.raises(MissingObject):  # as every job begins: it knows the storage then
        storage.read("checkpoints/123/completed.json")
    network.fail(lambda exchange: network.cut_for(8.0), when=lambda asked: "partNumber=2" in asked.path, times=1)
    storage.upload(file, KEY)
    recovery_s = network.since_last_fault_s() - 8.0
    assert s3.get(CHECKPOINTS, KEY) == file.read_bytes()
    seen(f"{file.stat().st_size} bytes there", recovery_s=recovery_s)


@pytest.mark.fault("nobody listens any more, after an upload", expected="NetworkError (retryable), nothing half there")
def test_an_outage_that_lasts(s3: S3Double, network: Network, tmp_path: Path, seen: Seen) -> None:
    storage, file = storage_behind(network, s3, STORAGE_PATIENCE_S="3"), a_file(tmp_path, SIZES["three parts"])
    storage.upload(file, "checkpoints/123/last.pt")
    network.fail(lambda exchange: network.cut(), when=lambda asked: "partNumber=2" in asked.path, times=1)
    started = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        storage.upload(file, KEY)
    took_s = time.monotonic() - started
    assert caught.value.retryable
    assert s3.keys(CHECKPOINTS) == ["checkpoints/123/last.pt"]
    seen(f"[{caught.value.code}] after {took_s:.0f} s, with a patience of 3 s; best.pt is not there")


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        pytest.param(
            fault,
            hint,
            id=name,
            marks=pytest.mark.fault(f"an upload: {words}", expected="NetworkError, not retryable, with what to do"),
        )
        for name, (words, fault, hint) in REFUSALS.items()
    ],
)
def test_a_refusal_is_not_repeated(
    s3: S3Double, network: Network, tmp_path: Path, seen: Seen, fault: Fault, hint: str
) -> None:
    network.fail(fault)
    with pytest.raises(NetworkError) as caught:
        storage_behind(network, s3).upload(a_file(tmp_path, 5000), KEY)
    assert not caught.value.retryable
    assert hint in caught.value.hint
    assert network.faults == 1
    seen(f"after 1 request: {caught.value.message.partition(' at ')[2].partition(': ')[2]}")


@pytest.mark.fault("keys that may write and not read", expected="uploads work; only the comparison is left out")
def test_keys_that_may_only_write(s3: S3Double, network: Network, tmp_path: Path, seen: Seen) -> None:
    network.fail(faults.status(403), when=lambda asked: asked.method in ("GET", "HEAD"))
    file = a_file(tmp_path, 5000)
    storage_behind(network, s3).upload(file, KEY)
    assert s3.get(CHECKPOINTS, KEY) == file.read_bytes()
    seen("5000 bytes there")

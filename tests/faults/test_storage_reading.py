"""Storage: a data set on its way here"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mmtrain.datasets import cache, fetch
from mmtrain.datasets.fetch import FetchedDataset
from tests.contract.test_fetch import PREFIX, REF, annotations, assert_complete, body_of, put, quiet
from tests.doubles import network as faults
from tests.doubles.network import Fault, Network, Request
from tests.doubles.s3 import DATASETS, S3Double
from tests.faults.conftest import Seen
from trainer_sdk.errors import NetworkError
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

NAMES = [f"{number:02}.jpg" for number in range(40)]
Fetch = Callable[..., FetchedDataset]


class Spoilt(NamedTuple):
    """What happens to some requests, in words and in deed."""

    words: str
    fault: Fault


SPOILT = {
    "500": Spoilt("answered 500", faults.status(500, "InternalError")),
    "503": Spoilt("answered 503 SlowDown", faults.status(503, "SlowDown")),
    "429": Spoilt("answered 429", faults.status(429, "TooManyRequests")),
    "reset": Spoilt("reset before an answer", faults.reset),
    "truncated": Spoilt("answered with half a body", faults.truncated),
    "reset in body": Spoilt("reset in the middle of the body", faults.reset_in_body),
    "garbage": Spoilt("answered with what is not HTTP", faults.garbage),
    "drip": Spoilt("answered drop by drop, over 2 s", faults.drip(2.0)),
    "hang": Spoilt("not answered for longer than the time-out", faults.hang(4.0)),
}
FLIPPED = Spoilt("answered with one bit flipped", faults.flipped)


def of_listing(request: Request) -> bool:
    return "list-type" in request.path


def of_annotations(request: Request) -> bool:
    return request.method == "GET" and "annotations_detection" in request.path


def of_images(request: Request) -> bool:
    return request.method == "GET" and "/images/" in request.path


PHASES: dict[str, tuple[Callable[[Request], bool], int]] = {
    "the listing": (of_listing, 2),
    "the annotations": (of_annotations, 2),
    "the images": (of_images, 25),
}


def rows() -> Iterator[Any]:
    for phase, (when, times) in PHASES.items():
        kinds = SPOILT | ({"flipped": FLIPPED} if phase != "the listing" else {})  # a listing has no checksum
        for name, spoilt in kinds.items():
            marks = [
                pytest.mark.fault(
                    f"{phase}: {times} requests {spoilt.words}",
                    expected="every object arrives whole; nothing half is left",
                )
            ]
            marks += [pytest.mark.short] if phase == "the images" or name in ("503", "reset") else []
            yield pytest.param(spoilt.fault, when, times, id=f"{name}-{phase}", marks=marks)


@pytest.fixture
def network(s3: S3Double) -> Iterator[Network]:
    put(s3, NAMES)
    with Network(s3.endpoint) as network:
        yield network


@pytest.fixture
def fetched(s3: S3Double, network: Network, tmp_path: Path) -> Iterator[Fetch]:
    """``fetched(**environ)``: one job's fetch through the network."""

    def call(**environ: str) -> FetchedDataset:
        environ = {**network.storage_environment(s3.environment()), "DATASET_CACHE_DIR": str(tmp_path / "c"), **environ}
        return fetch.fetch(REF, Task.DETECTION, Settings.from_env(environ), quiet)

    yield call
    cache.leave_all()


def asked_for_images(network: Network) -> int:
    return sum(map(of_images, network.requests))


@pytest.mark.parametrize(("fault", "when", "times"), list(rows()))
def test_spoilt_requests(
    network: Network,
    fetched: Fetch,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    when: Callable[[Request], bool],
    times: int,
) -> None:
    monkeypatch.setattr("trainer_sdk.storage.s3_clients.READ_TIMEOUT_S", 1)
    network.fail(fault, when=when, times=times)
    found = fetched()
    recovery_s = network.since_last_fault_s()
    assert_complete(found, NAMES)
    assert network.faults == times or fault is SPOILT["drip"].fault
    seen(f"{len(found.image_paths)} of {len(NAMES)} images, {network.faults} faults", recovery_s=recovery_s)


@pytest.mark.short
@pytest.mark.fault("nobody listens for 8 s in the middle of the images", expected="waited for; the rest arrives")
def test_an_outage(network: Network, fetched: Fetch, seen: Seen) -> None:
    network.fail(lambda exchange: network.cut_for(8.0), when=of_images, times=1)
    found = fetched()
    recovery_s = network.since_last_fault_s() - 8.0
    assert_complete(found, NAMES)
    seen(f"{len(found.image_paths)} of {len(NAMES)} images", recovery_s=recovery_s)


@pytest.mark.fault("503 SlowDown to everything for 8 s, from the start", expected="waited for; all arrives")
def test_a_storage_that_starts(network: Network, fetched: Fetch, seen: Seen) -> None:
    network.fail(faults.status(503, "SlowDown"), seconds=8.0)
    assert_complete(fetched(), NAMES)
    seen(f"all of {len(NAMES)} images after {network.faults} refusals", recovery_s=network.since_last_fault_s())


def cut_soon(network: Network) -> Fault:
    """The other requests, under way at the same time, are answered first."""

    def do(exchange: faults.Exchange) -> None:
        time.sleep(1.0)
        network.cut()

    return do


@pytest.mark.short
@pytest.mark.fault(
    "nobody listens any more, in the middle of the images",
    expected="NetworkError (retryable) once STORAGE_PATIENCE_S are over; a rerun fetches the rest alone",
)
def test_an_outage_that_lasts(network: Network, fetched: Fetch, seen: Seen) -> None:
    network.fail(cut_soon(network), when=of_images, times=8)
    with pytest.raises(NetworkError) as caught:
        fetched(STORAGE_PATIENCE_S="3")
    assert caught.value.retryable and caught.value.exit_code == 5
    assert "EXTERNAL_STORAGE_ENDPOINT" in caught.value.hint
    network.restore()
    before = asked_for_images(network)
    started = time.monotonic()
    assert_complete(fetched(), NAMES)
    again = asked_for_images(network) - before
    assert 0 < again < len(NAMES)
    seen(
        f"{type(caught.value).__name__}, exit 5; the rerun asked for {again} of 40",
        recovery_s=time.monotonic() - started,
    )


REFUSALS = {
    "expired": ("the keys have expired", faults.status(400, "ExpiredToken"), "ACCESS_KEY"),
    "forbidden": ("403 AccessDenied", faults.status(403, "AccessDenied"), "ACCESS_KEY"),
    "clock": ("the clocks differ (RequestTimeTooSkewed)", faults.status(403, "RequestTimeTooSkewed"), "clock"),
    "bucket": ("the bucket is missing", faults.status(404, "NoSuchBucket"), "create it"),
}


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        pytest.param(
            fault,
            hint,
            id=name,
            marks=[
                pytest.mark.short,
                pytest.mark.fault(words, expected="NetworkError, not retryable, at once, with what to do"),
            ],
        )
        for name, (words, fault, hint) in REFUSALS.items()
    ],
)
def test_a_refusal_is_not_repeated(network: Network, fetched: Fetch, seen: Seen, fault: Fault, hint: str) -> None:
    network.fail(fault)
    with pytest.raises(NetworkError) as caught:
        fetched()
    assert not caught.value.retryable
    assert hint in caught.value.hint
    assert network.faults == 1
    seen(f"after 1 request: {caught.value.message.partition(' at ')[2].partition(': ')[2]}")


@pytest.mark.short
@pytest.mark.fault("a secret that is wrong, and a storage that checks", expected="NetworkError naming the variables")
def test_a_wrong_secret(s3: S3Double, fetched: Fetch, seen: Seen) -> None:
    with s3.checking_keys(), pytest.raises(NetworkError) as caught:
        fetched(EXTERNAL_STORAGE_SECRET_KEY="not-the-secret")
    assert not caught.value.retryable
    assert "EXTERNAL_STORAGE_SECRET_KEY" in caught.value.hint
    assert "not-the-secret" not in caught.value.wire_text
    seen(caught.value.message.rpartition(": ")[2])


@pytest.mark.short
@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        pytest.param(
            "http://storage.invalid:9000",
            "storage.invalid",
            marks=pytest.mark.fault("no such host (DNS)", expected="NetworkError soon, naming the variable"),
        ),
        pytest.param(
            "http://127.0.0.1:1",
            "refused",
            marks=pytest.mark.fault("connection refused from the start", expected="NetworkError soon, with the cause"),
        ),
    ],
    ids=["dns", "refused"],
)
def test_an_address_where_nobody_is(fetched: Fetch, seen: Seen, endpoint: str, word: str) -> None:
    started = time.monotonic()
    with pytest.raises(NetworkError, match=word) as caught:
        fetched(EXTERNAL_STORAGE_ENDPOINT=endpoint)
    assert "EXTERNAL_STORAGE_ENDPOINT" in caught.value.hint
    seen(f"{caught.value.message.rpartition(': ')[2]}, told after {time.monotonic() - started:.0f} s")


@pytest.mark.fault(
    "the annotations are replaced while images arrive", expected="the job keeps the version that it has read"
)
def test_annotations_that_change_meanwhile(s3: S3Double, network: Network, fetched: Fetch, seen: Seen) -> None:
    version = fetched().sha256
    cache.leave_all()

    def replaced(exchange: faults.Exchange) -> None:
        s3.put(DATASETS, PREFIX + "annotations_detection.json", annotations(NAMES[:3]))
        exchange.answer(exchange.pass_on())

    for name in NAMES:
        s3.put(DATASETS, PREFIX + f"images/{name}", body_of(name))
    network.fail(replaced, when=of_images, times=1)
    found = fetched(DATASET_CACHE_DIR=str(Path(fetched().root).parent / "other"))
    assert found.sha256 == version
    assert_complete(found, NAMES)
    assert len(fetched().image_paths) == 3
    seen(f"{len(found.image_paths)} images of the version read; the next job reads the new one")


@pytest.mark.fault("images are replaced while they arrive", expected="each is one version, whole, never a mixture")
def test_images_that_change_meanwhile(s3: S3Double, network: Network, fetched: Fetch, seen: Seen) -> None:
    new = b"n" * 700

    def replaced(exchange: faults.Exchange) -> None:
        for name in NAMES:
            s3.put(DATASETS, PREFIX + f"images/{name}", new)
        exchange.answer(exchange.pass_on())

    network.fail(replaced, when=of_images, times=1)
    found = fetched()
    bodies = {name: (found.root / path).read_bytes() for name, path in found.image_paths.items()}
    mixed = [name for name, body in bodies.items() if body not in (new, body_of(name))]
    assert mixed == [] and new in bodies.values()
    again = fetched()
    assert {(again.root / path).read_bytes() for path in again.image_paths.values()} == {new}
    seen(f"{list(bodies.values()).count(new)} new, the others old, none mixed; a rerun fetches the new ones")


@pytest.mark.fault("images are deleted after they were listed", expected="they are only not there: a finding")
def test_images_that_vanish_meanwhile(s3: S3Double, network: Network, fetched: Fetch, seen: Seen) -> None:
    def deleted(exchange: faults.Exchange) -> None:
        exchange.answer(exchange.pass_on())
        for name in NAMES[:5]:
            s3.client.delete_object(Bucket=DATASETS, Key=PREFIX + f"images/{name}")

    network.fail(deleted, when=of_listing, times=1)
    found = fetched()
    assert list(found.image_paths) == NAMES[5:]
    seen(f"{len(found.image_paths)} of {len(NAMES)} images arrive, 5 are reported missing")

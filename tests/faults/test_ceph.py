"""A real Ceph gateway (RADOS 16): keys, signatures, TLS"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config

from mmtrain.datasets import cache, fetch
from tests.contract.test_fetch import REF, annotations, assert_complete, body_of, quiet
from tests.doubles import network as faults
from tests.doubles.network import Network
from tests.doubles.proxy import FaultyProxy
from tests.doubles.tls import private_authority
from tests.faults.conftest import Seen
from tests.faults.test_storage_reading import SPOILT, of_images
from tests.faults.test_storage_writing import KEY, KINDS, SIZES, a_file, of_upload
from trainer_sdk.errors import NetworkError
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import Storage
from trainer_sdk.tasks import Task

NAMES = [f"{number:02}.jpg" for number in range(20)]


class Gateway(NamedTuple):
    """A bucket of its own at the gateway."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    client: Any

    def storage(self, endpoint: str = "", **change: str) -> Storage:
        return open_storage(self.settings(endpoint, **change).checkpoints)

    def settings(self, endpoint: str = "", **change: str) -> Settings:
        keys = {"ENDPOINT": endpoint or self.endpoint, "ACCESS_KEY": self.access_key, "SECRET_KEY": self.secret_key}
        environ = {f"{role}_STORAGE_{key}": value for role in ("EXTERNAL", "INTERNAL") for key, value in keys.items()}
        environ |= {"EXTERNAL_BUCKET_DATASETS": self.bucket, "INTERNAL_BUCKET_CHECKPOINTS": self.bucket}
        return Settings.from_env(environ | change)

    def body(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())


def _gateway(prefix: str = "CEPH") -> Gateway:
    names = ("CEPH_ENDPOINT", f"{prefix}_ACCESS_KEY", f"{prefix}_SECRET_KEY")
    if not all(os.environ.get(name) for name in names):
        pytest.skip(f"not run: no gateway ({names[0]} is not set; `make faults-ceph` starts one)")
    endpoint, access_key, secret_key = (os.environ[name] for name in names)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket = f"faults-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return Gateway(endpoint, access_key, secret_key, bucket, client)


@pytest.fixture
def gateway() -> Gateway:
    return _gateway()


@pytest.fixture
def network(gateway: Gateway) -> Iterator[Network]:
    with Network(gateway.endpoint) as network:
        yield network


@pytest.mark.parametrize(
    ("kind", "size_bytes"),
    [
        pytest.param(
            kind,
            size_bytes,
            id=f"{kind}-{size}",
            marks=pytest.mark.fault(
                f"an upload in {size}: 3 requests {KINDS[kind].words}", expected="the object is there, whole"
            ),
        )
        for kind in ("503", "reset", "lost", "truncated", "flipped")
        for size, size_bytes in SIZES.items()
    ],
)
def test_spoilt_uploads(
    gateway: Gateway, network: Network, tmp_path: Path, seen: Seen, kind: str, size_bytes: int
) -> None:
    file = a_file(tmp_path, size_bytes)
    network.fail(KINDS[kind].fault, when=of_upload, times=3)
    gateway.storage(network.url).upload(file, KEY)
    recovery_s = network.since_last_fault_s()
    assert gateway.body(KEY) == file.read_bytes()
    seen(f"{size_bytes} bytes there, each as in the file", recovery_s=recovery_s)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=pytest.mark.fault(
                f"the images of a data set: 15 requests {SPOILT[kind].words}", expected="every object arrives whole"
            ),
        )
        for kind in ("503", "reset in body", "truncated")
    ],
)
def test_spoilt_downloads(gateway: Gateway, network: Network, tmp_path: Path, seen: Seen, kind: str) -> None:
    gateway.client.put_object(
        Bucket=gateway.bucket, Key="datasets/d/annotations_detection.json", Body=annotations(NAMES)
    )
    for name in NAMES:
        gateway.client.put_object(Bucket=gateway.bucket, Key=f"datasets/d/images/{name}", Body=body_of(name))
    network.fail(SPOILT[kind].fault, when=of_images, times=15)
    settings = gateway.settings(network.url, DATASET_CACHE_DIR=str(tmp_path))
    found = fetch.fetch(REF, Task.DETECTION, settings, quiet)
    recovery_s = network.since_last_fault_s()
    assert_complete(found, NAMES)
    cache.leave_all()
    seen(f"{len(NAMES)} of {len(NAMES)} images", recovery_s=recovery_s)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param(
            {"INTERNAL_STORAGE_SECRET_KEY": "not-the-secret"},
            "SignatureDoesNotMatch",
            id="secret",
            marks=pytest.mark.fault("a wrong secret", expected="NetworkError, not retryable, naming the variables"),
        ),
        pytest.param(
            {"INTERNAL_STORAGE_ACCESS_KEY": "nobody"},
            "InvalidAccessKeyId",
            id="key",
            marks=pytest.mark.fault("an unknown key", expected="NetworkError, not retryable, naming the variables"),
        ),
    ],
)
def test_wrong_credentials(gateway: Gateway, tmp_path: Path, seen: Seen, change: dict[str, str], word: str) -> None:
    storage = gateway.storage(**change)
    for attempt in (lambda: storage.read(KEY), lambda: storage.upload(a_file(tmp_path, 100), KEY)):
        with pytest.raises(NetworkError, match=word) as caught:
            attempt()
        assert not caught.value.retryable
        assert "INTERNAL_STORAGE_SECRET_KEY" in caught.value.hint
    seen(caught.value.message.rpartition(": ")[2])


@pytest.mark.fault("the bucket is missing", expected="NetworkError, not retryable, naming it")
def test_a_missing_bucket(gateway: Gateway, tmp_path: Path, seen: Seen) -> None:
    with pytest.raises(NetworkError, match=r"no-such-bucket.*the bucket does not exist") as caught:
        gateway.storage(INTERNAL_BUCKET_CHECKPOINTS="no-such-bucket").upload(a_file(tmp_path, 100), KEY)
    assert not caught.value.retryable
    seen(caught.value.message.rpartition(": ")[2])


@pytest.mark.fault("this machine's clock is an hour late", expected="NetworkError, not retryable, naming the clock")
def test_a_wrong_clock(gateway: Gateway, tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore import auth

    right = auth.get_current_datetime
    late = datetime.timedelta(hours=1)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *args, **named: right(*args, **named) - late)
    with pytest.raises(NetworkError, match="the clocks differ") as caught:
        gateway.storage().upload(a_file(tmp_path, 100), KEY)
    assert "clock" in caught.value.hint
    seen(caught.value.message.rpartition(": ")[2])


@pytest.mark.fault("the user's quota is used up", expected="NetworkError saying so, what is there stays")
def test_a_full_storage(tmp_path: Path, seen: Seen) -> None:
    gateway = _gateway("CEPH_FULL")
    storage = gateway.storage()
    storage.upload(a_file(tmp_path, 50_000), "checkpoints/123/last.pt")
    with pytest.raises(NetworkError, match="QuotaExceeded") as caught:
        storage.upload(a_file(tmp_path, 200_000), KEY)
    assert "quota" in caught.value.hint
    assert len(gateway.body("checkpoints/123/last.pt")) == 50_000
    seen(f"{caught.value.message.rpartition(': ')[2]} - {caught.value.hint}")


@pytest.mark.fault("TLS by an authority of one's own", expected="trusted when named, refused when not")
def test_tls(gateway: Gateway, tmp_path: Path, seen: Seen) -> None:
    authority, context = private_authority(tmp_path)
    file = a_file(tmp_path, SIZES["three parts"])
    with FaultyProxy(gateway.endpoint, context) as proxy:
        storage = gateway.storage(proxy.endpoint, AWS_CA_BUNDLE=str(authority))
        storage.upload(file, KEY)
        assert storage.read(KEY) == file.read_bytes()
        with pytest.raises(NetworkError, match=r"(?i)certificate"):
            gateway.storage(proxy.endpoint).read(KEY)
    seen(f"{file.stat().st_size} bytes there and back; without the authority: refused")


@pytest.mark.fault("the gateway is killed in the middle of an upload and started again", expected="the upload is whole")
def test_a_gateway_that_is_killed(gateway: Gateway, network: Network, tmp_path: Path, seen: Seen) -> None:
    folder = os.environ.get("CEPH_DIR")
    if not folder:
        pytest.skip("not run: the gateway is not ours to kill (CEPH_DIR)")
    process_file = Path(folder, "run", "p.rgw")

    def restart() -> None:
        os.kill(int(process_file.read_text()), signal.SIGKILL)
        time.sleep(2.0)
        command = ["radosgw", "-n", "client.rgw", "-f"]
        environ = os.environ | {"CEPH_CONF": f"{folder}/ceph.conf"}
        again = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process_file.write_text(str(again.pid))

    killed_at: list[float] = []

    def killed(exchange: faults.Exchange) -> None:
        killed_at.append(time.monotonic())
        restarting = threading.Thread(target=restart)
        restarting.start()
        time.sleep(0.5)
        exchange.reset()

    file = a_file(tmp_path, SIZES["three parts"])
    storage = gateway.storage(network.url)
    assert list(storage.objects("checkpoints/")) == []
    network.fail(killed, when=lambda asked: "partNumber=2" in asked.path, times=1)
    storage.upload(file, KEY)
    recovery_s = time.monotonic() - killed_at[0]
    assert gateway.body(KEY) == file.read_bytes()
    seen(f"{file.stat().st_size} bytes there, each as in the file", recovery_s=recovery_s)

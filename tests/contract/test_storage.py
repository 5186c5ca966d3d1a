"""S3 and a folder behind the same verbs, and what a user reads when the storage is not there, says no, or lies."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.doubles.proxy import FaultyProxy
from tests.doubles.s3 import CHECKPOINTS, DATASETS, S3Double
from tests.doubles.tls import private_authority
from trainer_sdk.errors import ConfigError, JobError, NetworkError
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage, content_type


@pytest.fixture(params=["s3", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The checkpoint bucket, behind either endpoint."""
    if request.param == "s3":
        environ = request.getfixturevalue("s3").environment()
    else:
        environ = {"INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}/storage"}
    return open_storage(Settings.from_env(environ).checkpoints)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    path.write_bytes(b"\x00weights" * 1000)
    return path


def remote(**change: str) -> Storage:
    """The data set bucket, as the environment names it."""
    return open_storage(Settings.from_env({f"EXTERNAL_{name}": value for name, value in change.items()}).datasets)


def attempts(storage: Storage, source: Path) -> dict[str, Any]:
    return {
        "list": lambda: list(storage.objects("datasets/")),
        "read": lambda: storage.read("datasets/a.json"),
        "download": lambda: storage.download("datasets/a.json", source.with_name("copy")),
        "upload": lambda: storage.upload(source, "checkpoints/1/best.pt"),
        "delete": lambda: storage.delete("checkpoints/1/best.pt"),
    }


def refusals(storage: Storage, source: Path) -> dict[str, JobError]:
    """Each verb's error."""
    found = {}
    for verb, attempt in attempts(storage, source).items():
        with pytest.raises(JobError) as caught:
            attempt()
        found[verb] = caught.value
    return found


def test_what_was_uploaded_comes_back(storage: Storage, source: Path, tmp_path: Path) -> None:
    uri = storage.upload(source, "checkpoints/123/best.pt")
    assert uri == storage.uri("checkpoints/123/best.pt")
    assert uri.endswith(f"{CHECKPOINTS}/checkpoints/123/best.pt")
    assert storage.read("checkpoints/123/best.pt") == source.read_bytes()
    target = tmp_path / "new" / "folder" / "best.pt"
    storage.download("checkpoints/123/best.pt", target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["best.pt"]


def test_an_upload_replaces(storage: Storage, source: Path) -> None:
    storage.upload(source, "a/b.pt")
    source.write_bytes(b"second")
    storage.upload(source, "a/b.pt")
    assert storage.read("a/b.pt") == b"second"


def test_what_is_deleted_is_gone(storage: Storage, source: Path) -> None:
    for key in ("a/b.pt", "a/c.pt"):
        storage.upload(source, key)
    storage.delete("a/b.pt")
    storage.delete("a/b.pt")
    assert [found.key for found in storage.objects("a/")] == ["a/c.pt"]


def test_keys_are_listed_whole_with_sizes_and_in_order(storage: Storage, source: Path) -> None:
    keys = ["d/a-b.jpg", "d/a/b.jpg", "d/a.jpg", "d/ä ö+.jpg", "d/Z.jpg"]
    for key in (*keys, "other/c.jpg"):
        storage.upload(source, key)
    size = source.stat().st_size
    assert [found[:2] for found in storage.objects("d/")] == [(key, size) for key in sorted(keys)]
    assert list(storage.objects("nothing/")) == []


def test_more_keys_than_one_page(s3: S3Double) -> None:
    keys = [f"d/{number:04}" for number in range(1005)]
    for key in keys:
        s3.put(DATASETS, key, b"")
    assert [found.key for found in open_storage(Settings.from_env(s3.environment()).datasets).objects("d/")] == keys


def test_a_missing_key(storage: Storage, source: Path, tmp_path: Path) -> None:
    storage.upload(source, "there.pt")
    target = tmp_path / "target.json"
    for attempt in (lambda: storage.read("not/there.json"), lambda: storage.download("not/there.json", target)):
        with pytest.raises(MissingObject, match=r"not/there\.json"):
            attempt()
    assert not target.exists()


def test_a_failed_download_leaves_the_older_file(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("older")
    with pytest.raises(MissingObject):
        storage.download("not/there.json", target)
    assert target.read_text() == "older"


def test_a_missing_bucket(s3: S3Double, source: Path) -> None:
    storage = open_storage(Settings.from_env(s3.environment()).datasets, "no-such-bucket")
    for verb in ("list", "upload"):
        with pytest.raises(NetworkError, match=r"no-such-bucket.*the bucket does not exist") as caught:
            attempts(storage, source)[verb]()
        assert caught.value.hint


def test_storage_that_does_not_answer(source: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(NetworkError) as caught:
        remote(STORAGE_ENDPOINT=endpoint).read("datasets/a.json")
    assert endpoint in caught.value.message and "Connection refused" in caught.value.message
    assert "EXTERNAL_STORAGE_ENDPOINT" in caught.value.hint
    assert caught.value.retryable


def test_a_host_name_with_an_underscore(source: Path) -> None:
    """Docker compose makes them, botocore refuses them."""
    for error in refusals(remote(STORAGE_ENDPOINT="http://my_minio:9000"), source).values():
        assert isinstance(error, ConfigError)
        assert "EXTERNAL_STORAGE_ENDPOINT='http://my_minio:9000'" in error.message


class Refusing(BaseHTTPRequestHandler):
    """Storage that knows our key but not our secret."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def refusing_endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_wrong_keys_name_their_variables_and_stay_secret(refusing_endpoint: str, source: Path) -> None:
    storage = remote(STORAGE_ENDPOINT=refusing_endpoint, STORAGE_ACCESS_KEY="who", STORAGE_SECRET_KEY="hush-hush")
    for verb, error in refusals(storage, source).items():
        assert isinstance(error, NetworkError)
        assert f"cannot {verb} s3://training-datasets/" in error.message
        assert not error.retryable
        assert "EXTERNAL_STORAGE_ACCESS_KEY" in error.hint
        assert "hush-hush" not in error.wire_text


@pytest.mark.parametrize(
    ("name", "kind"),
    [("best.pt", "application/x-pytorch"), ("a.json", "application/json"), ("a.onnx", "application/octet-stream")],
)
def test_content_types(name: str, kind: str) -> None:
    assert content_type(Path(name)) == kind


BODY = bytes(range(256)) * 400
KEY = "datasets/d/images/a.jpg"


@pytest.fixture
def proxy(s3: S3Double) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["obstore", "boto3"])
def far(request: pytest.FixtureRequest, s3: S3Double, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The data set bucket behind the proxy, with one object, by either library."""
    monkeypatch.setattr("trainer_sdk.storage.s3.obstore_lives", lambda: request.param == "obstore")
    monkeypatch.setattr("trainer_sdk.storage.s3.PAUSES_S", (0.0, 0.0, 0.0))
    s3.put(DATASETS, KEY, BODY)
    return open_storage(Settings.from_env(proxy.environment(s3.environment())).datasets)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize("damaged", [flipped, lambda body: body[:1000], lambda body: b""], ids=["flip", "cut", "none"])
def test_a_damaged_transfer_is_repeated(
    far: Storage, proxy: FaultyProxy, damaged: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    proxy.damage = lambda path, times, body: damaged(body) if times == 1 else body
    received = far.download(KEY, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == BODY
    assert received == (KEY, len(BODY), hashlib.md5(BODY).hexdigest())
    assert proxy.asked["/training-datasets/" + KEY] == 2
    proxy.asked.clear()
    assert far.read(KEY) == BODY


@pytest.mark.parametrize("damaged", [flipped, lambda body: body[:1000]], ids=["flip", "cut"])
def test_a_transfer_that_is_always_damaged_names_its_key_and_leaves_nothing(
    far: Storage, proxy: FaultyProxy, damaged: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    proxy.damage = lambda path, times, body: damaged(body)
    for attempt in (lambda: far.read(KEY), lambda: far.download(KEY, tmp_path / "new" / "a.jpg")):
        with pytest.raises(NetworkError, match=rf"{KEY}.*4 attempts") as caught:
            attempt()
        assert caught.value.retryable
    assert list((tmp_path / "new").iterdir()) == []


def test_a_server_that_breaks_down_now_and_then(far: Storage, proxy: FaultyProxy) -> None:
    proxy.failures = 2
    assert far.read(KEY) == BODY
    assert proxy.failures == 0


def test_an_object_of_many_parts(s3: S3Double, far: Storage, tmp_path: Path) -> None:
    """Its ETag is no MD5, and it is larger than one piece."""
    (tmp_path / "large").write_bytes(BODY * 120)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    s3.client.upload_file(str(tmp_path / "large"), DATASETS, "large", Config=parts)
    assert far.download("large", tmp_path / "copy").etag.endswith("-3")
    assert (tmp_path / "copy").read_bytes() == BODY * 120


def test_an_object_encrypted_by_a_key_service(s3: S3Double, far: Storage, proxy: FaultyProxy) -> None:
    """Its ETag looks like an MD5 and is none."""
    s3.client.put_object(Bucket=DATASETS, Key="secret", Body=BODY, ServerSideEncryption="aws:kms")
    proxy.damage = lambda path, times, body: flipped(body)
    assert far.read("secret") == flipped(BODY)


@pytest.mark.parametrize("key", ["d//a.jpg", "d/./a.jpg", "d/tab\t.jpg", "d/100%.jpg", "d/a%20b#?.jpg", "d/\u65e5.jpg"])
def test_keys_that_are_no_tidy_paths(s3: S3Double, far: Storage, key: str) -> None:
    s3.put(DATASETS, "d/", b"")  # how consoles show an empty folder
    s3.put(DATASETS, key, BODY)
    assert key in [found.key for found in far.objects("d/")]
    assert far.read(key) == BODY


def test_a_token_of_somebody_else_is_not_sent(
    far: Storage, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries look into the environment, where a pod may have credentials for something else."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-account")
    far.read(KEY)
    assert "x-amz-security-token" not in {name.lower() for name in proxy.headers}


def test_a_storage_that_knows_its_bucket_is_missing(s3: S3Double, far: Storage) -> None:
    s3.client.delete_object(Bucket=DATASETS, Key=KEY)
    s3.client.delete_bucket(Bucket=DATASETS)
    with pytest.raises(NetworkError, match="the bucket does not exist"):
        far.read(KEY)


def test_threads_and_forked_children_share_a_storage(s3: S3Double) -> None:
    """DataLoader workers are forked, maybe from a process that has read already."""
    s3.put(DATASETS, KEY, BODY)
    storage = open_storage(Settings.from_env(s3.environment()).datasets)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(storage.read, [KEY] * 32)) == {BODY}
    child = os.fork()
    if child == 0:
        os._exit(17 if storage.read(KEY) == BODY else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert pickle.loads(pickle.dumps(storage)).read(KEY) == BODY


def test_the_first_read_may_be_in_a_forked_child(s3: S3Double) -> None:
    s3.put(DATASETS, KEY, BODY)
    program = (
        "import os, sys; from trainer_sdk.settings import Settings\n"
        "from trainer_sdk.storage.opening import open_storage\n"
        "storage = open_storage(Settings.from_env(os.environ).datasets)\n"
        "if os.fork() == 0: os._exit(17 if len(storage.read(sys.argv[1])) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    environ = {**os.environ, **s3.environment()}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program, KEY], check=False, cwd=root, env=environ, timeout=60)
    assert done.returncode == 17


@pytest.mark.parametrize("library", ["obstore", "boto3"])
def test_https_with_an_authority_of_ones_own(
    s3: S3Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr("trainer_sdk.storage.s3.obstore_lives", lambda: library == "obstore")
    s3.put(DATASETS, KEY, BODY)
    authority, context = private_authority(tmp_path)
    with FaultyProxy(s3.endpoint, context) as proxy:
        environ = proxy.environment(s3.environment())
        assert environ["EXTERNAL_STORAGE_ENDPOINT"].startswith("https://")
        known = Settings.from_env({**environ, "AWS_CA_BUNDLE": str(authority)})
        assert open_storage(known.datasets).read(KEY) == BODY
        with pytest.raises(NetworkError, match=r"(?i)certificate"):
            open_storage(Settings.from_env(environ).datasets).read(KEY)
        missing = Settings.from_env({**environ, "AWS_CA_BUNDLE": str(tmp_path / "missing.pem")})
        with pytest.raises(ConfigError, match=r"missing\.pem"):
            open_storage(missing.datasets).read(KEY)

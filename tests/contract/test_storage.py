"""S3 and a folder behind the same verbs, and what a user reads when the storage is not there or says no."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.s3 import CHECKPOINTS, DATASETS, S3Double
from trainer_sdk.errors import ConfigError, JobError, NetworkError
from trainer_sdk.settings import Settings
from trainer_sdk.storage import MissingObject, Storage, content_type, open_storage


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
        "list": lambda: list(storage.keys("datasets/")),
        "read": lambda: storage.read("datasets/a.json"),
        "download": lambda: storage.download("datasets/a.json", source.with_name("copy")),
        "upload": lambda: storage.upload(source, "checkpoints/1/best.pt"),
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


def test_keys_are_listed_whole_with_sizes_and_in_order(storage: Storage, source: Path) -> None:
    keys = ["d/a-b.jpg", "d/a/b.jpg", "d/a.jpg", "d/ä ö+.jpg", "d/Z.jpg"]
    for key in (*keys, "other/c.jpg"):
        storage.upload(source, key)
    size = source.stat().st_size
    assert list(storage.keys("d/")) == [(key, size) for key in sorted(keys)]
    assert list(storage.keys("nothing/")) == []


def test_more_keys_than_one_page(s3: S3Double) -> None:
    keys = [f"d/{number:04}" for number in range(1005)]
    for key in keys:
        s3.put(DATASETS, key, b"")
    assert [key for key, _ in open_storage(Settings.from_env(s3.environment()).datasets).keys("d/")] == keys


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
    assert endpoint in caught.value.message
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

    do_PUT = do_HEAD = do_POST = do_GET

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

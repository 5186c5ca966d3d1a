"""Published weights: from a folder, the cache, a mirror, in that order, and always against their hash."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmtrain import http_file
from mmtrain.recipes import Recipe, Weights, load_recipe
from mmtrain.weights import obtain_weights
from tests.doubles.files import FileServer
from trainer_sdk.errors import CheckpointError, ResourceError
from trainer_sdk.settings import Settings

CONTENT = b"weights of a small model"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """A web server with the files below ``tmp_path/mirror``."""
    (tmp_path / "mirror").mkdir()
    with FileServer(tmp_path / "mirror") as server:
        yield server


@pytest.fixture
def mirror(web: FileServer) -> str:
    return web.url


@pytest.fixture
def recipe(mirror: str) -> Recipe:
    """A recipe whose upstream is the web server too."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    weights = Weights(url=f"{mirror}/upstream/model-{digest}.pth", sha256=digest, license="Apache-2.0")
    return load_recipe("rtmdet-tiny").model_copy(update={"weights": weights})


def settings(tmp_path: Path, **environment: str) -> Settings:
    return Settings.from_env({"XDG_CACHE_HOME": str(tmp_path / "cache"), **environment})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_file, "PAUSES_S", (0.01, 0.01, 0.01))


def put(folder: Path, recipe: Recipe, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / recipe.weights.file_name
    path.write_bytes(content)
    return path


def test_a_folder_comes_first(recipe: Recipe, tmp_path: Path) -> None:
    own = put(tmp_path / "own", recipe)
    put(tmp_path / "mirror", recipe)
    assert obtain_weights(recipe, settings(tmp_path, WEIGHTS_DIR=str(own.parent))) == own


def test_what_was_fetched_once_is_not_fetched_again(recipe: Recipe, tmp_path: Path, mirror: str) -> None:
    served = put(tmp_path / "mirror", recipe)
    asked = settings(tmp_path, WEIGHTS_MIRROR=mirror)
    first = obtain_weights(recipe, asked)
    served.unlink()
    assert obtain_weights(recipe, asked) == first
    assert first.read_bytes() == CONTENT


def test_upstream_is_asked_when_nobody_else_has_it(recipe: Recipe, tmp_path: Path) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    assert obtain_weights(recipe, settings(tmp_path)).read_bytes() == CONTENT


def test_nobody_has_it(recipe: Recipe, tmp_path: Path, mirror: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        obtain_weights(recipe, settings(tmp_path, WEIGHTS_MIRROR=mirror, WEIGHTS_DIR=str(tmp_path)))
    assert "404" in caught.value.message
    assert recipe.weights.url in caught.value.message
    for way_out in ("WEIGHTS_DIR", "WEIGHTS_MIRROR", "pretrained=false"):
        assert way_out in caught.value.hint


def test_a_machine_without_a_network_asks_nobody(recipe: Recipe, tmp_path: Path, web: FileServer) -> None:
    own = put(tmp_path / "own", recipe)
    asked = settings(
        tmp_path, WEIGHTS_DIR=str(own.parent), WEIGHTS_MIRROR=web.url, INTERNAL_BUCKET_WEIGHTS="model-weights"
    )
    assert obtain_weights(recipe, asked) == own
    assert web.requests == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("how", ["mirror", "bucket"])
def test_from_a_bucket_with_the_internal_keys(recipe: Recipe, tmp_path: Path, s3: Any, how: str) -> None:
    s3.client.create_bucket(Bucket="model-weights")
    prefix = "mm/" if how == "mirror" else ""
    s3.put("model-weights", prefix + recipe.weights.file_name, CONTENT)
    named = {"WEIGHTS_MIRROR": "s3://model-weights/mm/"} if prefix else {"INTERNAL_BUCKET_WEIGHTS": "model-weights"}
    found = obtain_weights(recipe, settings(tmp_path, **s3.environment(), **named))
    assert found.read_bytes() == CONTENT
    assert found.parent == tmp_path / "cache" / "openmmlab-trainer" / "weights"


def test_a_bucket_without_it_is_one_of_the_places_tried(recipe: Recipe, tmp_path: Path, s3: Any) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    asked = settings(tmp_path, **s3.environment(), WEIGHTS_MIRROR="s3://model-weights/mm")
    assert obtain_weights(recipe, asked).read_bytes() == CONTENT
    (tmp_path / "mirror" / "upstream" / recipe.weights.file_name).unlink()
    (tmp_path / "cache" / "openmmlab-trainer" / "weights" / recipe.weights.file_name).unlink()
    with pytest.raises(CheckpointError, match=r"s3://model-weights/mm/model-\w+\.pth: .*bucket does not exist"):
        obtain_weights(recipe, asked)


def test_a_damaged_copy_in_the_cache_is_fetched_again(recipe: Recipe, tmp_path: Path) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    put(tmp_path / "cache" / "openmmlab-trainer" / "weights", recipe, b"damaged")
    assert obtain_weights(recipe, settings(tmp_path)).read_bytes() == CONTENT


def test_a_transfer_that_broke_off_is_continued(recipe: Recipe, tmp_path: Path, web: FileServer, quick: None) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    web.break_off_after = 10
    assert obtain_weights(recipe, settings(tmp_path)).read_bytes() == CONTENT
    assert [request.range for request in web.requests] == [None, "bytes=10-"]


def test_and_also_by_the_next_job(recipe: Recipe, tmp_path: Path, web: FileServer) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    cache = tmp_path / "cache" / "openmmlab-trainer" / "weights"
    cache.mkdir(parents=True)
    (cache / f".{recipe.weights.file_name}.part").write_bytes(CONTENT[:7])
    assert obtain_weights(recipe, settings(tmp_path)).read_bytes() == CONTENT
    assert [request.range for request in web.requests] == ["bytes=7-"]


@pytest.mark.parametrize("begun", [b"x" * 7, b"x" * 1000])
def test_what_was_begun_from_another_file_is_begun_anew(
    recipe: Recipe, tmp_path: Path, web: FileServer, quick: None, begun: bytes
) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    cache = tmp_path / "cache" / "openmmlab-trainer" / "weights"
    cache.mkdir(parents=True)
    (cache / f".{recipe.weights.file_name}.part").write_bytes(begun)
    assert obtain_weights(recipe, settings(tmp_path)).read_bytes() == CONTENT
    assert web.requests[-1].range is None


def test_two_jobs_at_once_fetch_once(recipe: Recipe, tmp_path: Path, web: FileServer) -> None:
    put(tmp_path / "mirror" / "upstream", recipe)
    web.delay_s = 0.2
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: obtain_weights(recipe, settings(tmp_path)), range(2)))
    assert found[0] == found[1]
    assert len(web.requests) == 1


def test_a_cache_that_cannot_be_written(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ResourceError, match="the weights cache"):
        obtain_weights(recipe, settings(tmp_path))


def test_a_file_that_is_too_long_is_not_received(tmp_path: Path, web: FileServer) -> None:
    (tmp_path / "mirror" / "long").write_bytes(CONTENT)
    with pytest.raises(OSError, match="longer than"):
        http_file.fetch(f"{web.url}/long", tmp_path / "part", max_bytes=10)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("where", ["own", "cache/openmmlab-trainer/weights", "mirror"])
def test_a_wrong_hash_is_refused_wherever_it_comes_from(
    recipe: Recipe, tmp_path: Path, mirror: str, where: str
) -> None:
    put(tmp_path / where, recipe, b"tampered")
    asked = settings(tmp_path, WEIGHTS_DIR=str(tmp_path / "own"), WEIGHTS_MIRROR=mirror)
    with pytest.raises(CheckpointError, match="sha256 begins with"):
        obtain_weights(recipe, asked)
    assert not list(tmp_path.rglob("*.part"))


class Answers(BaseHTTPRequestHandler):
    """What a server says that means no good; the path says which."""

    def do_GET(self) -> None:
        if self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "90000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.01)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 10_000)
        else:
            self.send_response(302)
            self.send_header("Location", {"/file": "file:///etc/passwd", "/loop": "/loop"}[self.path])
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.mark.parametrize(
    ("path", "said"),
    [("/drip", "bytes came in"), ("/endless", "longer than"), ("/file", "UnsupportedProtocol"), ("/loop", "redirects")],
)
def test_a_server_that_means_no_good_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.setattr(http_file, "PAUSES_S", ())
    monkeypatch.setattr(http_file, "SLOW_AT_FIRST_S", 0.1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(OSError, match=said):
            http_file.fetch(f"http://127.0.0.1:{server.server_port}{path}", tmp_path / "part", max_bytes=100_000)
        server.shutdown()
    assert not (tmp_path / "part").exists() or (tmp_path / "part").stat().st_size < 200_000

"""Published weights: from a folder, the cache, a mirror, in that order, and always against their hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmtrain.recipes import Recipe, Weights, load_recipe
from mmtrain.weights import obtain_weights
from trainer_sdk.errors import CheckpointError
from trainer_sdk.settings import Settings

CONTENT = b"weights of a small model"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A web server with the file below ``tmp_path/mirror``."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def recipe(mirror: str) -> Recipe:
    """A recipe whose upstream is the web server too."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    weights = Weights(url=f"{mirror}/upstream/model-{digest}.pth", sha256=digest, license="Apache-2.0")
    return load_recipe("rtmdet-tiny").model_copy(update={"weights": weights})


def settings(tmp_path: Path, **environment: str) -> Settings:
    return Settings.from_env({"XDG_CACHE_HOME": str(tmp_path / "cache"), **environment})


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


@pytest.mark.parametrize("where", ["own", "cache/openmmlab-trainer/weights", "mirror"])
def test_a_wrong_hash_is_refused_wherever_it_comes_from(
    recipe: Recipe, tmp_path: Path, mirror: str, where: str
) -> None:
    put(tmp_path / where, recipe, b"tampered")
    asked = settings(tmp_path, WEIGHTS_DIR=str(tmp_path / "own"), WEIGHTS_MIRROR=mirror)
    with pytest.raises(CheckpointError, match="sha256 begins with"):
        obtain_weights(recipe, asked)
    assert not list(tmp_path.rglob("*.part"))

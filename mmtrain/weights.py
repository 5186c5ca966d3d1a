"""Published weights: from a folder, a mirror, or upstream, always against their hash; never silently without."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mmtrain.recipes import Recipe, Weights
from trainer_sdk.errors import CheckpointError
from trainer_sdk.settings import Settings

DOWNLOAD_TIMEOUT_S = 20.0
PIECE_BYTES = 2**20


def obtain_weights(recipe: Recipe, settings: Settings) -> Path:
    """The file of the recipe's weights: WEIGHTS_DIR, then the cache, then WEIGHTS_MIRROR, then upstream.

    Raises:
        CheckpointError: they cannot be had, or are not what they should be; names the ways out.
    """
    weights = recipe.weights
    if settings.weights_dir is not None and (settings.weights_dir / weights.file_name).is_file():
        return _checked(settings.weights_dir / weights.file_name, weights)
    cached = settings.weights_cache_dir / weights.file_name
    if cached.is_file():
        return _checked(cached, weights)
    tried = [f"WEIGHTS_DIR={settings.weights_dir} has no such file"] if settings.weights_dir else []
    for url in _addresses(weights, settings):
        try:
            return _download(url, cached, weights)
        except OSError as error:
            tried.append(f"{url}: {error}")
    raise CheckpointError.of_problems(
        f"the published weights of {recipe.name} cannot be had", tried, hint=_ways_out(weights)
    )


def _addresses(weights: Weights, settings: Settings) -> list[str]:
    mirror = [f"{settings.weights_mirror.rstrip('/')}/{weights.file_name}"] if settings.weights_mirror else []
    return [*mirror, weights.url]


def _ways_out(weights: Weights) -> str:
    return (
        f"put {weights.file_name} into a folder and set WEIGHTS_DIR to it, "
        "set WEIGHTS_MIRROR to a base URL that has it, or train from scratch with CONFIG.basic.pretrained=false"
    )


def _checked(path: Path, weights: Weights) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(weights.sha256):
        raise CheckpointError(
            f"{path} is not the published file: its sha256 begins with {found[: len(weights.sha256)]}, "
            f"not with {weights.sha256}",
            hint="delete it, or " + _ways_out(weights),
        )
    return path


def _download(url: str, target: Path, weights: Weights) -> Path:
    """Raises: OSError, for everything that the network does."""
    import httpx

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_TIMEOUT_S) as answer,
            temporary.open("wb") as file,
        ):
            answer.raise_for_status()
            for piece in answer.iter_bytes(PIECE_BYTES):
                file.write(piece)
        _checked(temporary, weights)
        temporary.replace(target)
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target

"""Where the job works and with which keys. Kept apart from the specification, which holds no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from trainer_sdk.callback import CallbackSettings, callback_problems
from trainer_sdk.stopping import GRACE_PERIOD_S

CA_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
MAX_PIXELS = "OPENCV_IO_MAX_IMAGE_PIXELS"
API_PREFIX = "/api/v1"
SECONDS = ("DELIVERY_TIMEOUT_S", "STORAGE_PATIENCE_S", "GRACE_PERIOD_S", "MAX_DURATION_S", "WATCHDOG_S", "STATE_POLL_S")
WATCHDOG_S = 1800.0
"""Longer than torch.compile, the metrics of a large validation, or a wait for other nodes."""


class StorageSettings(BaseModel):
    """One object store: an S3 endpoint (path style, signature v4), or a folder as ``file:///folder``."""

    model_config = ConfigDict(frozen=True)

    role: str
    endpoint: str
    access_key: SecretStr
    secret_key: SecretStr
    bucket: str
    ca_bundle: Path | None = None
    """Certificates to trust for https, where the system's do not do."""
    from_environment: bool
    """False: nothing was configured and these are the platform's development defaults."""
    patience_s: float = 60.0
    """How long it is waited for when it has answered before and does so no longer."""


class Settings(BaseModel):
    """Everything about the surroundings of a job."""

    model_config = ConfigDict(frozen=True)

    callback_url: str | None
    callback: CallbackSettings
    workspace_dir: Path
    dataset_cache_dir: Path
    dataset_cache_max_gb: float
    dataset_links_to: tuple[Path, ...] = ()
    """Folders outside a local data set into which its links may lead."""
    weights_dir: Path | None
    weights_cache_dir: Path
    weights_mirror: str | None
    weights_bucket: str | None
    datasets: StorageSettings
    checkpoints: StorageSettings
    delivery_timeout_s: float
    grace_period_s: float
    """From being told to stop until being killed."""
    max_duration_s: float | None
    watchdog_s: float
    """How long a worker may say nothing; 0: for ever."""
    state_poll_s: float

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the names of the platform contract, sections 0, 1.5-1.7, 1.9; problems: `settings_problems`."""
        cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openmmlab-trainer"
        weights = environ.get("WEIGHTS_DIR")
        return cls(
            callback_url=callback_base(environ.get("CALLBACK_URL", "")),
            callback=CallbackSettings.from_env(environ),
            workspace_dir=Path(environ.get("WORKSPACE_DIR") or "workspace").absolute(),
            dataset_cache_dir=Path(environ.get("DATASET_CACHE_DIR") or cache / "datasets").absolute(),
            dataset_cache_max_gb=_not_negative(environ.get("DATASET_CACHE_MAX_GB"), default=100.0),
            dataset_links_to=tuple(
                Path(folder).absolute() for folder in environ.get("DATASET_LINKS_TO", "").split(":") if folder
            ),
            weights_dir=Path(weights).absolute() if weights else None,
            weights_cache_dir=cache / "weights",
            weights_mirror=environ.get("WEIGHTS_MIRROR") or None,
            weights_bucket=environ.get("INTERNAL_BUCKET_WEIGHTS") or None,
            datasets=_storage(
                environ, "EXTERNAL", "http://localhost:9000", "EXTERNAL_BUCKET_DATASETS", "training-datasets"
            ),
            checkpoints=_storage(
                environ, "INTERNAL", "http://localhost:9002", "INTERNAL_BUCKET_CHECKPOINTS", "training-checkpoints"
            ),
            delivery_timeout_s=_not_negative(environ.get("DELIVERY_TIMEOUT_S"), default=60.0),
            grace_period_s=_not_negative(environ.get("GRACE_PERIOD_S"), default=GRACE_PERIOD_S),
            max_duration_s=max(0.0, _not_negative(environ.get("MAX_DURATION_S"), default=0.0)) or None,
            watchdog_s=_not_negative(environ.get("WATCHDOG_S"), default=WATCHDOG_S),
            state_poll_s=_not_negative(environ.get("STATE_POLL_S"), default=15.0),
        )


def settings_problems(environ: Mapping[str, str]) -> list[str]:
    """What is wrong with the surroundings, in words."""
    problems = []
    callback = environ.get("CALLBACK_URL", "").strip()
    if callback and "@" not in callback and not _is_http_url(callback):
        problems.append(f"CALLBACK_URL={callback!r} is not an http(s) URL such as http://backend:8000/api/v1")
    problems += callback_problems(environ)
    for name in ("CALLBACK_URL", "EXTERNAL_STORAGE_ENDPOINT", "INTERNAL_STORAGE_ENDPOINT"):
        if "@" in environ.get(name, ""):  # not quoted, unlike the others: messages are logged and sent
            problems.append(f"{name} holds a user or a password: give keys in their own variables, URLs are logged")
    for role in ("EXTERNAL", "INTERNAL"):
        endpoint = environ.get(f"{role}_STORAGE_ENDPOINT", "").strip()
        if endpoint and "@" not in endpoint and not (_is_http_url(endpoint) or endpoint.startswith("file:///")):
            problems.append(f"{role}_STORAGE_ENDPOINT={endpoint!r} is neither an http(s) URL nor file:///folder")
    for name in SECONDS:
        if _not_negative(environ.get(name), default=1.0) < 0:
            problems.append(f"{name}={environ[name]!r} is not a number of seconds")
    pixels = environ.get(MAX_PIXELS, "1")
    if not (pixels.isascii() and pixels.isdecimal() and int(pixels[:19]) > 0):
        problems.append(f"{MAX_PIXELS}={pixels!r} is not a number of pixels")
    if _not_negative(environ.get("DATASET_CACHE_MAX_GB"), default=1.0) < 0:
        problems.append(f"DATASET_CACHE_MAX_GB={environ['DATASET_CACHE_MAX_GB']!r} is not a number of gigabytes")
    return problems


def callback_base(url: str) -> str | None:
    """The API base that callback paths are appended to; None when there is no backend.

    A bare host gets ``/api/v1``; older trainers were given ``.../api/v1/training``.
    """
    url = url.strip().rstrip("/")
    if not _is_http_url(url) or "@" in url:  # a URL with a password is refused, and must not be logged either
        return None
    if not urlsplit(url).path:
        return url + API_PREFIX
    return re.sub(r"(/api/v1)/training$", r"\1", url)


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is none
        return False


def _not_negative(text: str | None, *, default: float) -> float:
    """The number, or -1 for what is not one."""
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        return -1.0
    return number if number >= 0 else -1.0


def _storage(
    environ: Mapping[str, str], role: str, endpoint: str, bucket_name: str, default_bucket: str
) -> StorageSettings:
    names = [f"{role}_STORAGE_{part}" for part in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")]
    return StorageSettings(
        role=role,
        endpoint=environ.get(names[0]) or endpoint,
        access_key=SecretStr(environ.get(names[1]) or "minioadmin"),
        secret_key=SecretStr(environ.get(names[2]) or "minioadmin"),
        bucket=environ.get(bucket_name) or default_bucket,
        ca_bundle=next((Path(environ[name]) for name in CA_BUNDLES if environ.get(name)), None),
        from_environment=any(environ.get(name) for name in (*names, bucket_name)),
        patience_s=_not_negative(environ.get("STORAGE_PATIENCE_S"), default=60.0),
    )

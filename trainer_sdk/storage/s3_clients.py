"""The two S3 libraries, set up alike: path style, signature v4, any region (contract 1.5).

obstore (Rust) moves many objects at a tenth of boto3's cost; boto3 uploads, and does what obstore cannot.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainer_sdk.errors import ConfigError
from trainer_sdk.settings import StorageSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential, S3Store

REGION = "us-east-1"  # signature v4 needs one; the platform gives none
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
OBSTORE_RETRIES, BOTO_ATTEMPTS = 5, 4
"""Of one request, by the libraries themselves, when there is no connection or a 5xx: about 3 s and 4 s of patience."""
BOTO_CONNECTIONS = 16
PART_BYTES = 8 * 2**20
"""Of an upload: a file of this size or larger goes in parts."""

_runtime_pid: int | None = None
"""The process in which obstore's threads live. A forked child inherits the library without them, and would hang."""


class PerProcess:
    """A client made when it is first needed, and again in a forked child: connections do not survive a fork."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: tuple[int, Any] | None = None

    def get(self) -> Any:
        """Two threads may both make one: the later stays, both work."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = os.getpid(), self._make()
        return self._made[1]


def obstore_lives() -> bool:
    """Whether obstore works in this process: not in a child forked from a process that had used it."""
    return _runtime_pid in (None, os.getpid())


def obstore_client(settings: StorageSettings, bucket: str) -> S3Store:
    """Raises: ConfigError, for an endpoint that cannot be one."""
    global _runtime_pid  # noqa: PLW0603  what is remembered is about the process
    from obstore.store import S3Store

    _check_host(settings)
    _runtime_pid = os.getpid()
    return S3Store(
        bucket,
        endpoint=settings.endpoint.rstrip("/"),
        region=REGION,
        # Not as plain arguments: with those the library adds an AWS_SESSION_TOKEN that it finds in the environment.
        credential_provider=partial(_credential, settings),
        skip_signature=False,
        virtual_hosted_style_request=False,
        client_options={
            **_trusted(settings),
            "allow_http": True,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            "timeout": timedelta(days=1),  # the default of 30 s covers the body: too short for a large object
        },
        retry_config={"max_retries": OBSTORE_RETRIES, "retry_timeout": timedelta(seconds=3 * READ_TIMEOUT_S)},
    )


def _credential(settings: StorageSettings) -> S3Credential:
    return {
        "access_key_id": settings.access_key.get_secret_value(),
        "secret_access_key": settings.secret_key.get_secret_value(),
        "expires_at": None,
    }


def boto_client(settings: StorageSettings) -> Any:
    """Raises: ConfigError, for an endpoint that cannot be one."""
    from boto3.session import Session  # a third of a second: not before it is needed
    from botocore.config import Config

    _check_host(settings)
    try:
        return Session().client(  # the default session is not for several threads
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key.get_secret_value(),
            aws_secret_access_key=settings.secret_key.get_secret_value(),
            region_name=REGION,
            verify=str(settings.ca_bundle) if _trusted(settings) else None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"max_attempts": BOTO_ATTEMPTS, "mode": "standard"},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                max_pool_connections=BOTO_CONNECTIONS,
                # The default "when_supported" makes uploads to a RADOS gateway over TLS fail (MissingContentLength).
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except ValueError as error:
        raise _unusable(settings, str(error)) from error


def parts() -> Any:
    """How a file is uploaded: boto3's own defaults, held on to because ETags depend on them."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)


def _trusted(settings: StorageSettings) -> ClientConfig:
    """Each library looks for certificates at another place; a user names one."""
    if settings.ca_bundle is None or not settings.endpoint.startswith("https"):
        return {}
    try:
        return {"root_certificate": settings.ca_bundle.read_bytes()}
    except OSError as error:
        problem = f"the certificates in {settings.ca_bundle} cannot be read: {error.strerror}"
        raise ConfigError(problem, hint="correct AWS_CA_BUNDLE, or take it away") from error


def _check_host(settings: StorageSettings) -> None:
    """obstore takes what boto3 refuses: results could then be read and never written."""
    if "_" in (urlsplit(settings.endpoint).hostname or ""):
        raise _unusable(settings, "there is a '_' in its host name")


def _unusable(settings: StorageSettings, problem: str) -> ConfigError:
    return ConfigError(
        f"{settings.role}_STORAGE_ENDPOINT={settings.endpoint!r} cannot be used: {problem}",
        hint="the S3 library takes letters, digits, '-' and '.' in a host name, but no '_'",
    )

"""Where files come from and go to: S3 or a folder, behind the same few verbs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from trainer_sdk.errors import ConfigError, JobError, NetworkError
from trainer_sdk.settings import StorageSettings

if TYPE_CHECKING:
    from botocore.client import BaseClient

REFUSED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401"}
MISSING = {"404", "NoSuchKey", "NotFound"}
CONNECTIONS = 16


class MissingObject(Exception):
    """No such key: what that means is for the caller to say."""


class Storage(Protocol):
    """One bucket. Keys are relative and use '/'."""

    def uri(self, key: str) -> str: ...

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Every (key, size in bytes) below the prefix, in key order."""
        ...

    def read(self, key: str) -> bytes:
        """Raises: MissingObject, NetworkError."""
        ...

    def download(self, key: str, target: Path) -> None:
        """Raises: MissingObject, NetworkError."""
        ...

    def upload(self, source: Path, key: str) -> str:
        """Returns the URI. Raises: NetworkError."""
        ...


def open_storage(settings: StorageSettings, bucket: str | None = None) -> Storage:
    """``file:///folder`` endpoints are folders with one subfolder per bucket, anything else is S3."""
    bucket = bucket or settings.bucket
    if settings.endpoint.startswith("file://"):
        return LocalStorage(Path(urlsplit(settings.endpoint).path) / bucket)
    return S3Storage(settings, bucket)


class LocalStorage:
    """A folder that plays a bucket."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri(self, key: str) -> str:
        return str(self._root / key)

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        base = self._root / prefix
        files = [path for path in base.rglob("*") if path.is_file()] if base.is_dir() else []
        return iter(sorted((path.relative_to(self._root).as_posix(), path.stat().st_size) for path in files))

    def read(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingObject(self.uri(key)) from error

    def download(self, key: str, target: Path) -> None:
        self._copy(self._root / key, target)

    def upload(self, source: Path, key: str) -> str:
        self._copy(source, self._root / key)
        return self.uri(key)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        except FileNotFoundError as error:
            raise MissingObject(str(source)) from error
        finally:
            temporary.unlink(missing_ok=True)


class S3Storage:
    """A bucket behind an S3 endpoint: path style, signature v4, no region (contract 1.5)."""

    def __init__(self, settings: StorageSettings, bucket: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._cached_client: BaseClient | None = None

    @property
    def _client(self) -> Any:
        if self._cached_client is None:
            try:
                self._cached_client = _connect(self._settings)
            except ValueError as error:
                raise ConfigError(
                    f"{self._settings.role}_STORAGE_ENDPOINT={self._settings.endpoint!r} cannot be used: {error}",
                    hint="the S3 library takes letters, digits, '-' and '.' in a host name, but no '_'",
                ) from error
        return self._cached_client

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"], entry["Size"]
        except Exception as error:
            raise self._explained(error, "list", prefix) from error

    def read(self, key: str) -> bytes:
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except Exception as error:
            raise self._explained(error, "read", key) from error

    def download(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        try:
            self._client.download_file(self._bucket, key, str(temporary))
            temporary.replace(target)
        except Exception as error:
            raise self._explained(error, "download", key) from error
        finally:
            temporary.unlink(missing_ok=True)

    def upload(self, source: Path, key: str) -> str:
        try:
            self._client.upload_file(str(source), self._bucket, key, ExtraArgs={"ContentType": content_type(source)})
        except Exception as error:
            raise self._explained(error, "upload", key) from error
        return self.uri(key)

    def _explained(self, error: Exception, verb: str, key: str) -> Exception:
        """The library's error in our words; an error that is not the storage's passes as it is."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        where, role = f"{self.uri(key)} at {self._settings.endpoint}", self._settings.role
        if isinstance(error, S3UploadFailedError) and error.__context__ is not None:
            error = error.__context__
        if isinstance(error, OSError | JobError):
            return error
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in MISSING and verb in ("read", "download"):
                return MissingObject(where)
            if code in REFUSED:
                hint = (
                    f"check {role}_STORAGE_ACCESS_KEY and {role}_STORAGE_SECRET_KEY and the key's rights on the bucket"
                )
                return NetworkError(f"cannot {verb} {where}: refused ({code})", hint=hint, retryable=False)
            if code == "NoSuchBucket":
                return NetworkError(
                    f"cannot {verb} {where}: the bucket does not exist", hint="create it, or name another"
                )
            return NetworkError(f"cannot {verb} {where}: {error}")
        if isinstance(error, BotoCoreError):
            default = "" if self._settings.from_environment else " (a default: it is not set)"
            return NetworkError(
                f"cannot {verb} {where}: {error}",
                hint=f"check {role}_STORAGE_ENDPOINT{default} and that the storage runs",
            )
        return error


def _connect(settings: StorageSettings) -> Any:
    import boto3  # a third of a second: not before storage is needed
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key.get_secret_value(),
        aws_secret_access_key=settings.secret_key.get_secret_value(),
        region_name="us-east-1",  # signature v4 needs one; the platform gives none
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"max_attempts": 4, "mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=CONNECTIONS,
            # The default "when_supported" makes uploads to a RADOS gateway over TLS fail (MissingContentLength).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def content_type(path: Path) -> str:
    """Checkpoints as the platform's own SDK names them (contract 5); the rest so that browsers show it."""
    types = {".json": "application/json", ".html": "text/html; charset=utf-8", ".py": "text/x-python"}
    return types.get(
        path.suffix, "application/x-pytorch" if path.suffix in (".pt", ".pth") else "application/octet-stream"
    )

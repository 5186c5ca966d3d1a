"""Which storage an endpoint means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from trainer_sdk.errors import ConfigError
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.local import LocalStorage
from trainer_sdk.storage.protocol import Storage

BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}"


def open_storage(settings: StorageSettings, bucket: str | None = None) -> Storage:
    """``file:///folder`` endpoints are folders with one subfolder per bucket, anything else is S3.

    Raises:
        ConfigError: no bucket can be called so.
    """
    bucket = bucket or settings.bucket
    if not re.fullmatch(BUCKET, bucket) or ".." in bucket:  # of a request's s3:// address; here it may be a folder
        hint = "3 to 63 letters, digits, '.', '_' and '-', such as training-datasets"
        raise ConfigError(f"{bucket!r} cannot be a bucket's name", hint=hint)
    if settings.endpoint.startswith("file://"):
        return LocalStorage(Path(urlsplit(settings.endpoint).path) / bucket)
    from trainer_sdk.storage.s3 import S3Storage

    return S3Storage(settings, bucket)

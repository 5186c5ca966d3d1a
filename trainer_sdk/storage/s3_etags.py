"""What an ETag says of an object's content, and when it says nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer_sdk.storage.s3_clients import PART_BYTES


def etag_of(source: Path) -> str:
    """What a storage should call the file once it is uploaded: its MD5, or that of its parts' MD5s and their number.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """
    with source.open("rb") as file:
        parts = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: file.read(PART_BYTES), b"")]
    if source.stat().st_size < PART_BYTES:
        return parts[0].hex() if parts else hashlib.md5(usedforsecurity=False).hexdigest()
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def contradict(found: str, expected: str, head: Callable[[], dict[str, Any]]) -> bool:
    """Whether two ETags, without quotes, are of the same kind and of different content.

    Objects encrypted with a key of the user's or of a key service have another ETag, which looks the same:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html

    Args:
        head: asks what else the storage says of the object.
    """
    if found == expected or _kind(found) is None or _kind(found) != _kind(expected):
        return False
    described = head()
    return described.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in described


def _kind(etag: str) -> str | None:
    """The number of parts as written, "" for one whole; None for what is no MD5."""
    told = re.fullmatch(r"[0-9a-f]{32}((?:-[0-9]+)?)", etag)
    return told[1] if told else None

"""The few verbs that every storage has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from trainer_sdk.errors import NetworkError


class MissingObject(Exception):
    """No such key: what that means is for the caller to say."""


class StoredObject(NamedTuple):
    """What a storage says about one object."""

    key: str
    size_bytes: int
    etag: str
    """Changes with the content: S3's ETag without quotes, a folder's time of change."""


MAX_READ_BYTES = 4 * 10**9
"""Of what is read into memory whole: annotation files and pictures."""


class Storage(Protocol):
    """One bucket. Keys are relative and use '/'. Usable from several threads, and in forked children."""

    def uri(self, key: str) -> str: ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Everything below the folder `prefix` (it ends with '/'), in key order.

        Raises:
            NetworkError: the storage cannot be reached or refuses us.
        """
        ...

    def read(self, key: str) -> bytes:
        """Checked as `download` checks, into memory. Raises: MissingObject, NetworkError, also for a huge object."""
        ...

    def download(self, key: str, target: Path) -> StoredObject:
        """Brings an object whole or not at all, checked against its size and its MD5 where the storage tells one.

        Returns:
            What was received, which is newer than what a listing said.

        Raises:
            MissingObject: there is no such key.
            NetworkError: the storage cannot be reached, refuses us, or sent damaged data every time.
            OSError: `target` cannot be written.
        """
        ...

    def upload(self, source: Path, key: str) -> str:
        """Returns the URI. Raises: NetworkError."""
        ...

    def delete(self, key: str) -> None:
        """Also when there is no such object. Raises: NetworkError."""
        ...


def refuse_huge(uri: str, size_bytes: int) -> None:
    """Raises: NetworkError, for an object that is not read into memory."""
    if size_bytes > MAX_READ_BYTES:
        found = f"{size_bytes / 1e9:.1f} GB, {MAX_READ_BYTES / 1e9:.0f} GB at most are read into memory"
        raise NetworkError(f"{uri} has {found}", retryable=False)


def content_type(path: Path) -> str:
    """Checkpoints as the platform's own SDK names them (contract 5); the rest so that browsers show it."""
    types = {".json": "application/json", ".html": "text/html; charset=utf-8", ".py": "text/x-python"}
    return types.get(
        path.suffix, "application/x-pytorch" if path.suffix in (".pt", ".pth") else "application/octet-stream"
    )

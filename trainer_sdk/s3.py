"""A bucket behind an S3 endpoint."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trainer_sdk.partfile import growing
from trainer_sdk.s3_clients import PerProcess, boto_client, obstore_client, obstore_lives
from trainer_sdk.s3_errors import DamagedTransfer, explained, gave_up
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage import StoredObject, content_type

if TYPE_CHECKING:
    from obstore import GetResult
    from typing_extensions import Buffer

PIECE_BYTES = 8 * 2**20
PAUSES_S = (0.1, 0.5, 2.0)
"""Before another attempt at an object that came damaged."""
PAGE_KEYS = 1000


class _Sink(Protocol):
    """Where an object goes."""

    def write(self, piece: Buffer) -> int: ...

    def restart(self) -> None: ...


class _Memory:
    """The sink of `read`."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []

    def write(self, piece: Buffer) -> int:
        self.pieces.append(piece)
        return memoryview(piece).nbytes

    def restart(self) -> None:
        self.pieces.clear()


class _Answer(NamedTuple):
    """An object on its way."""

    size_bytes: int
    etag: str
    pieces: Iterator[Buffer]
    """Bytes-like; raises DamagedTransfer when they break off."""


class S3Storage:
    """Reads with obstore, writes with boto3."""

    def __init__(self, settings: StorageSettings, bucket: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._obstore = PerProcess(partial(obstore_client, settings, bucket))
        self._boto = PerProcess(partial(boto_client, settings))

    def __reduce__(self) -> tuple[Any, ...]:
        """Into another process goes the address, not the connections."""
        return S3Storage, (self._settings, self._bucket)

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        try:
            found = self._listed_by_obstore(prefix) if obstore_lives() else None
            yield from self._listed_by_boto(prefix) if found is None else found
        except Exception as error:
            raise explained(error, "list", self.uri(prefix), self._settings) from error

    def read(self, key: str) -> bytes:
        sink = _Memory()
        self._receive("read", key, sink)
        return b"".join(sink.pieces)

    def download(self, key: str, target: Path) -> StoredObject:
        with growing(target) as part:
            return self._receive("download", key, part)

    def upload(self, source: Path, key: str) -> str:
        described = {"ContentType": content_type(source)}
        try:
            self._boto.get().upload_file(str(source), self._bucket, key, ExtraArgs=described)
        except Exception as error:
            raise explained(error, "upload", self.uri(key), self._settings) from error
        return self.uri(key)

    def delete(self, key: str) -> None:
        try:
            self._boto.get().delete_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            raise explained(error, "delete", self.uri(key), self._settings) from error

    def _listed_by_obstore(self, prefix: str) -> list[StoredObject] | None:
        """None: a key in there is one that this library cannot say."""
        import obstore
        from obstore.exceptions import InvalidPathError

        pages = obstore.list(self._obstore.get(), prefix, chunk_size=PAGE_KEYS)
        try:
            return [StoredObject(meta["path"], meta["size"], _bare(meta["e_tag"])) for page in pages for meta in page]
        except InvalidPathError:  # "a//b", "a/./b", control characters
            return None

    def _listed_by_boto(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._boto.get().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # a console's mark for an empty folder
                    yield StoredObject(entry["Key"], entry["Size"], _bare(entry["ETag"]))

    def _receive(self, verb: str, key: str, sink: _Sink) -> StoredObject:
        """Fills the sink with the object, however many attempts that takes."""
        for pause_s in PAUSES_S:
            try:
                return self._receive_once(verb, key, sink)
            except DamagedTransfer:
                time.sleep(pause_s)
                sink.restart()
        try:
            return self._receive_once(verb, key, sink)
        except DamagedTransfer as error:
            raise gave_up(error, len(PAUSES_S) + 1, verb, self.uri(key), self._settings) from error

    def _receive_once(self, verb: str, key: str, sink: _Sink) -> StoredObject:
        answer = self._ask(verb, key)
        digest, received = hashlib.md5(usedforsecurity=False), 0
        for piece in answer.pieces:
            digest.update(piece)
            received += sink.write(piece)
        if received != answer.size_bytes:
            raise DamagedTransfer(f"{received} bytes came instead of {answer.size_bytes}")
        if digest.hexdigest() != answer.etag and self._etag_is_md5(verb, key, answer.etag):
            raise DamagedTransfer(f"MD5 {digest.hexdigest()} came instead of {answer.etag}")
        return StoredObject(key, received, answer.etag)

    def _ask(self, verb: str, key: str) -> _Answer:
        try:
            return (self._ask_obstore(key) if obstore_lives() else None) or self._ask_boto(key)
        except Exception as error:
            raise explained(error, verb, self.uri(key), self._settings) from error

    def _ask_obstore(self, key: str) -> _Answer | None:
        """None: the key is one that this library cannot say."""
        import obstore

        try:
            found = obstore.get(self._obstore.get(), key)
        except ValueError:
            return None
        return _Answer(found.meta["size"], _bare(found.meta["e_tag"]), _pieces_of_obstore(found))

    def _ask_boto(self, key: str) -> _Answer:
        found = self._boto.get().get_object(Bucket=self._bucket, Key=key)
        return _Answer(found["ContentLength"], _bare(found["ETag"]), _pieces_of_boto(found["Body"]))

    def _etag_is_md5(self, verb: str, key: str, etag: str) -> bool:
        """Whether a difference means damage. Objects of several parts, or encrypted with a key of the user's or of a
        key service, have another ETag: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        if not re.fullmatch(r"[0-9a-f]{32}", etag):
            return False
        try:
            head = self._boto.get().head_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            raise explained(error, verb, self.uri(key), self._settings) from error
        return head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head


def _pieces_of_obstore(found: GetResult) -> Iterator[Buffer]:
    from obstore.exceptions import BaseError

    try:
        if found.meta["size"] <= PIECE_BYTES:
            yield found.bytes()  # a third of the cost of a stream
        else:
            yield from found.stream(min_chunk_size=PIECE_BYTES)
    except BaseError as error:
        raise DamagedTransfer(str(error).partition("\n")[0]) from error


def _pieces_of_boto(body: Any) -> Iterator[bytes]:
    from botocore.exceptions import BotoCoreError

    try:
        yield from body.iter_chunks(PIECE_BYTES)
    except BotoCoreError as error:
        raise DamagedTransfer(str(error)) from error


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')

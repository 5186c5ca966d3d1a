"""A bucket behind an S3 endpoint."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from trainer_sdk.aside import aside
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.partfile import growing
from trainer_sdk.storage.protocol import StoredObject, content_type, refuse_huge
from trainer_sdk.storage.s3_clients import PerProcess, boto_client, obstore_client, obstore_lives, parts
from trainer_sdk.storage.s3_errors import DamagedTransfer, answered, explained, gave_up, passing
from trainer_sdk.storage.s3_etags import contradict, etag_of
from trainer_sdk.storage.s3_patience import patience_with

if TYPE_CHECKING:
    from obstore import GetResult
    from typing_extensions import Buffer

Done = TypeVar("Done")

PIECE_BYTES = 8 * 2**20
PAUSES_S = (0.1, 0.5, 2.0)
"""Before another attempt at an object that came, or arrived, damaged."""
PAGE_KEYS = 1000


class _Sink(Protocol):
    """Where an object goes."""

    def write(self, piece: Buffer) -> int: ...

    def restart(self) -> None:
        """What came so far was damaged."""
        ...


class _Memory:
    """The sink of `read`."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []

    def write(self, piece: Buffer) -> int:
        self.pieces.append(piece)
        return memoryview(piece).nbytes

    def restart(self) -> None:
        self.pieces.clear()


class _Page(NamedTuple):
    """Of a listing."""

    objects: list[StoredObject]
    last: str | None
    """The key after which the next page begins; None: there is none."""


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
        self._patience = patience_with(settings.endpoint, settings.patience_s)

    def __reduce__(self) -> tuple[Any, ...]:
        """Into another process goes the address, not the connections."""
        return S3Storage, (self._settings, self._bucket)

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """A page at a time: a listing of millions takes no more memory than one of a thousand."""
        page = _Page([], "")
        while page.last is not None:
            after = page.last
            page = self._with_care("list", prefix, partial(self._page, prefix, after))
            yield from page.objects

    def read(self, key: str) -> bytes:
        sink = _Memory()
        self._with_care("read", key, lambda: self._receive(key, sink))
        return b"".join(sink.pieces)

    def download(self, key: str, target: Path) -> StoredObject:
        with growing(target) as part:
            return self._with_care("download", key, lambda: self._receive(key, part))

    def upload(self, source: Path, key: str) -> str:
        self._with_care("upload", key, lambda: self._send(source, key))
        return self.uri(key)

    def delete(self, key: str) -> None:
        self._with_care("delete", key, lambda: self._boto.get().delete_object(Bucket=self._bucket, Key=key))

    def _with_care(self, verb: str, key: str, attempt: Callable[[], Done]) -> Done:
        """The attempt, as often as it takes, where a signal can end it. Raises: MissingObject, JobError, OSError."""
        return aside(lambda: self._again_and_again(verb, key, attempt))

    def _again_and_again(self, verb: str, key: str, attempt: Callable[[], Done]) -> Done:
        damages, failing_since = 0, None
        while True:
            try:
                done = attempt()
            except DamagedTransfer as error:
                if damages == len(PAUSES_S):
                    raise gave_up(error, damages + 1, verb, self.uri(key), self._settings) from error
                self._patience.answered()
                time.sleep(PAUSES_S[damages])
                damages += 1
            except Exception as error:
                told = explained(error, verb, self.uri(key), self._settings)
                if not passing(error):
                    if answered(error):
                        self._patience.answered()
                    raise told from error
                failing_since = failing_since or time.monotonic()
                if not self._patience.goes_on(str(told), failing_since, heard=answered(error)):
                    raise told from error
            else:
                self._patience.answered()
                return done

    def _page(self, prefix: str, after: str) -> _Page:
        found = self._page_of_obstore(prefix, after) if obstore_lives() else None
        return self._page_of_boto(prefix, after) if found is None else found

    def _page_of_obstore(self, prefix: str, after: str) -> _Page | None:
        """None: a key in there is one that this library cannot say."""
        import obstore
        from obstore.exceptions import InvalidPathError

        pages = obstore.list(self._obstore.get(), prefix, offset=after or None, chunk_size=PAGE_KEYS)
        try:
            found = [StoredObject(meta["path"], meta["size"], _bare(meta["e_tag"])) for meta in next(iter(pages), ())]
        except InvalidPathError:  # "a//b", "a/./b", control characters
            return None
        return _Page(found, found[-1].key if found else None)

    def _page_of_boto(self, prefix: str, after: str) -> _Page:
        page = self._boto.get().list_objects_v2(Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=PAGE_KEYS)
        entries = page.get("Contents", [])
        found = [
            StoredObject(entry["Key"], entry["Size"], _bare(entry["ETag"]))
            for entry in entries
            if not entry["Key"].endswith("/")  # a console's mark for an empty folder
        ]
        return _Page(found, entries[-1]["Key"] if page["IsTruncated"] else None)

    def _receive(self, key: str, sink: _Sink) -> StoredObject:
        """Fills the sink with the object. Raises: DamagedTransfer, and what the libraries raise."""
        sink.restart()
        answer = (self._ask_obstore(key) if obstore_lives() else None) or self._ask_boto(key)
        if isinstance(sink, _Memory):
            refuse_huge(self.uri(key), answer.size_bytes)
        digest, received = hashlib.md5(usedforsecurity=False), 0
        for piece in answer.pieces:
            digest.update(piece)
            received += sink.write(piece)
        if received != answer.size_bytes:
            raise DamagedTransfer(f"{received} bytes came instead of {answer.size_bytes}")
        if contradict(answer.etag, digest.hexdigest(), lambda: self._head(key)):
            raise DamagedTransfer(f"MD5 {digest.hexdigest()} came instead of {answer.etag}")
        return StoredObject(key, received, answer.etag)

    def _send(self, source: Path, key: str) -> None:
        """Uploads, and asks what arrived: over plain HTTP nothing else notices damage (`boto_client` says why)."""
        described = {"ContentType": content_type(source)}
        size_bytes, etag = source.stat().st_size, etag_of(source)
        self._boto.get().upload_file(str(source), self._bucket, key, ExtraArgs=described, Config=parts())
        head = self._head_if_allowed(key)
        if head is None:
            return
        if head["ContentLength"] != size_bytes:
            raise DamagedTransfer(f"{head['ContentLength']} bytes arrived instead of {size_bytes}")
        if contradict(_bare(head["ETag"]), etag, lambda: head):
            raise DamagedTransfer(f"{_bare(head['ETag'])} arrived instead of {etag}")

    def _head_if_allowed(self, key: str) -> dict[str, Any] | None:
        """None: these keys may write and not read."""
        from botocore.exceptions import ClientError

        try:
            return self._head(key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "403":  # of a HEAD there is no other word
                return None
            raise

    def _head(self, key: str) -> dict[str, Any]:
        return dict(self._boto.get().head_object(Bucket=self._bucket, Key=key))

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

"""A folder where others have an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from trainer_sdk.storage.partfile import growing
from trainer_sdk.storage.protocol import MissingObject, StoredObject, refuse_huge


class LocalStorage:
    """A folder that plays a bucket."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri(self, key: str) -> str:
        return str(self._root / key)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        base = self._path(prefix)
        files = [path for path in base.rglob("*") if path.is_file()] if base.is_dir() else []
        return iter(sorted(self._described(path) for path in files))

    def read(self, key: str) -> bytes:
        try:
            refuse_huge(self.uri(key), self._path(key).stat().st_size)
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingObject(self.uri(key)) from error

    def download(self, key: str, target: Path) -> StoredObject:
        source = self._path(key)
        try:
            found, file = self._described(source), source.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObject(str(source)) from error
        with file, growing(target) as part:
            part.take(file)
        return found

    def upload(self, source: Path, key: str) -> str:
        with source.open("rb") as file, growing(self._path(key)) as part:
            part.take(file)
        return self.uri(key)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        """A bucket has no way out of it.

        Raises:
            MissingObject: in a bucket, ``..`` is a name like any other, and nothing is called so.
        """
        if ".." in PurePosixPath(key).parts or key.startswith("/"):
            raise MissingObject(self.uri(key))
        return self._root / key

    def _described(self, path: Path) -> StoredObject:
        found = path.stat()
        return StoredObject(path.relative_to(self._root).as_posix(), found.st_size, f"changed-{found.st_mtime_ns}")

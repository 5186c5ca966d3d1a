"""Brings a data set to this machine: a local folder as it is, a bucket's prefix into a cache keyed by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from converters import DiceDataset, annotation_file_names, image_key_candidates, read_dice
from converters.layout import file_name_problem
from trainer_sdk.errors import DatasetError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.storage import CONNECTIONS, MissingObject, Storage, open_storage
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import write_json

Report = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class FetchedDataset:
    """A data set on this machine."""

    root: Path
    dice: DiceDataset
    annotation_file: str
    sha256: str
    """Over the bytes of every annotations*.json below the data set, in key order (contract 4.5)."""
    image_paths: dict[str, str]
    """File name as annotated -> path below `root`; a name without an entry has no file."""


def fetch(ref: DatasetRef, task: Task, settings: Settings, report: Report) -> FetchedDataset:
    """The data set of a job, complete, or an error that says what is missing.

    Raises:
        DatasetError: no such data set, no annotations for the task, unreadable or changed annotations.
        NetworkError: the storage cannot be reached.
    """
    if ref.path is not None:
        return _from_folder(ref, Path(ref.path), task)
    return _from_storage(ref, open_storage(settings.datasets, ref.bucket), task, settings.dataset_cache_dir, report)


def read_snapshot(ref: DatasetRef, settings: Settings) -> dict[str, Any] | None:
    """The backend's record of the split (contract 4.5); None when the job has none or it was never written."""
    if ref.snapshot_id is None or not settings.checkpoints.from_environment:
        return None
    try:
        raw = open_storage(settings.checkpoints).read(f"snapshots/{ref.snapshot_id}/metadata.json")
    except MissingObject:
        return None
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"the metadata of snapshot {ref.snapshot_id} are not JSON: {error}") from error
    return found if isinstance(found, dict) else None


def _from_folder(ref: DatasetRef, root: Path, task: Task) -> FetchedDataset:
    if not root.is_dir():
        found = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"the data set folder {root} {found}", hint="set DATASET_PATH to a DICE folder")
    present = {path.relative_to(root).as_posix(): path for path in root.rglob("*.json") if path.is_file()}
    name = _annotation_name(present, task, str(root))
    sha256 = _version_hash({key: path.read_bytes() for key, path in present.items() if _is_annotation_file(key)})
    _check_version(ref, sha256)
    dice = read_dice(present[name].read_bytes())
    paths = _locate(dice, f"datasets/{ref.id}/", lambda key: (root / key).is_file())
    return FetchedDataset(root.resolve(), dice, name, sha256, paths)


def _from_storage(ref: DatasetRef, storage: Storage, task: Task, cache: Path, report: Report) -> FetchedDataset:
    assert ref.prefix is not None
    sizes = {key.removeprefix(ref.prefix): size for key, size in storage.keys(ref.prefix)}
    where = storage.uri(ref.prefix)
    if not sizes:
        raise DatasetError(f"there is no data set at {where}", hint="check DATASET_ID or DATASET_S3_URI and the bucket")
    name = _annotation_name(sizes, task, where)
    documents = {key: storage.read(ref.prefix + key) for key in sizes if _is_annotation_file(key)}
    sha256 = _version_hash(documents)
    _check_version(ref, sha256)
    dice = read_dice(documents[name])
    paths = _locate(dice, ref.prefix, sizes.__contains__)
    root = cache / f"{ref.id}-{sha256[:16]}"
    _download(storage, ref.prefix, {path: sizes[path] for path in paths.values()}, root, report)
    write_json(root / ".complete", {"source": where, "sha256": sha256, "images": len(paths)})  # marker written last
    return FetchedDataset(root, dice, name, sha256, paths)


def _annotation_name(present: Iterable[str], task: Task, where: str) -> str:
    wanted = annotation_file_names(task.value)
    for name in wanted:
        if name in present:
            return name
    found = (
        ", ".join(sorted(name for name in present if name.endswith(".json") and "/" not in name)[:10]) or "no JSON file"
    )
    raise DatasetError(
        f"no annotations for {task.value} at {where}: looked for {', '.join(wanted)}; found {found}",
        hint="export the data set for this task, or choose a model for the task it has",
    )


def _is_annotation_file(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith("annotations") and name.endswith(".json")


def _version_hash(documents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(documents):
        digest.update(documents[name])
    return digest.hexdigest()


def _check_version(ref: DatasetRef, sha256: str) -> None:
    if ref.version_hash is not None and ref.version_hash != sha256:
        raise DatasetError(
            f"the annotations of {ref.id} changed since the job was made: "
            f"DATASET_VERSION_HASH is {ref.version_hash[:12]}..., found {sha256[:12]}...",
            hint="start a new job, which takes a new snapshot",
        )


def _locate(dice: DiceDataset, prefix: str, exists: Callable[[str], bool]) -> dict[str, str]:
    """Where each image really lies, relative to the data set; the annotation file alone does not say (contract 4.4)."""
    paths: dict[str, str] = {}
    image_root = (dice.storage_info or {}).get("image_root")
    for image in dice.images:
        if file_name_problem(image.file_name):
            continue
        candidates = image_key_candidates(prefix, image_root, image.file_name)
        relative = (key.removeprefix(prefix) for key in candidates if key.startswith(prefix))
        found = next(filter(exists, relative), None)
        if found is not None:
            paths[image.file_name] = found
    return paths


def _download(storage: Storage, prefix: str, sizes: dict[str, int], root: Path, report: Report) -> None:
    """Every file that is not there with its size; each appears whole, so an interrupted download goes on later."""
    missing = [path for path, size in sizes.items() if not _has_size(root / path, size)]
    report(len(sizes) - len(missing), len(sizes))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        waiting = {pool.submit(storage.download, prefix + path, root / path): path for path in missing}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                _check_size(root / waiting[future], sizes[waiting[future]])
                report(len(sizes) - len(missing) + done, len(sizes))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_size(path: Path, size: int) -> None:
    if not _has_size(path, size):
        found = path.stat().st_size
        path.unlink()
        raise DatasetError(f"{path.name} came with {found} bytes instead of {size}", hint="run the job again")

"""What the environment says beside CONFIG: task, model, checkpoint, data set, images, format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import orjson

from trainer_sdk.config.model_jobs import NOT_EXPORTED, ExportFormat
from trainer_sdk.config.reading import Given, GivenValues, agreed, did_you_mean
from trainer_sdk.jobspec import JOB_ID, DatasetRef
from trainer_sdk.tasks import TASK_ALIASES, Task

CHECKPOINTS = ("CHECKPOINT_PATH", "CHECKPOINT_S3_URI")
IMAGES = ("IMAGES_PATH", "IMAGES_S3_URI", "IMAGE_PATHS")
PRETRAINED = "pretrained"
SNAPSHOT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""It becomes part of a path."""
MODELS = "`python -m mmtrain.recipes` lists the models"


def is_utf8(text: str) -> bool:
    """Python hands over other bytes as half surrogate pairs, which no JSON file and no request can hold."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def read_task(environ: Mapping[str, str], lifted: GivenValues, problems: list[str]) -> Task | None:
    """None: the model or the data decide."""
    given = _texts(environ, ("TASK_TYPE",), lifted, problems)
    tasks = [(source, name.lower()) for source, name in given]
    unknown = [(source, name) for source, name in tasks if name not in TASK_ALIASES]
    problems += [f"{source}={name!r} is unknown{did_you_mean(name, TASK_ALIASES)}" for source, name in unknown]
    if not tasks or unknown:
        return None
    return TASK_ALIASES[agreed(tasks, problems, same=lambda name: TASK_ALIASES[name])[1]]


def read_model_name(environ: Mapping[str, str], lifted: GivenValues, problems: list[str]) -> str | None:
    """None: not given."""
    given = _texts(environ, ("MODEL_NAME",), lifted, problems)
    if not given:
        return None
    source, name = agreed(given, problems, same=lambda name: name.lower().replace("_", "-"))
    if len(name) > 100:
        problems.append(f"{source}={name[:20]!r}... has {len(name)} characters, 100 at most")
    return str(name)


def read_checkpoint(environ: Mapping[str, str], problems: list[str]) -> str | None:
    """None: not given, or the platform's word ``pretrained`` for the published weights; `names_a_checkpoint` says."""
    given = {name: found for name in CHECKPOINTS if (found := environ.get(name, "").strip())}
    if len(set(given.values())) > 1:
        problems.append(" and ".join(f"{name}={value!r}" for name, value in given.items()) + " differ: give one")
    for name, address in given.items():
        if address == PRETRAINED:
            return None
        _check_address(name, address, "s3://bucket/checkpoints/<job>/best.pt", problems)
        return address
    return None


def names_a_checkpoint(environ: Mapping[str, str]) -> bool:
    """Also by the word ``pretrained``."""
    return any(environ.get(name, "").strip() for name in CHECKPOINTS)


def _check_address(name: str, address: str, example: str, problems: list[str]) -> None:
    scheme, separator, rest = address.partition("://")
    if scheme in ("http", "https") and "@" in rest.partition("/")[0]:  # not quoted: messages are logged and sent
        problems.append(f"{name} holds a user or a password: URLs are logged")
    elif scheme == "s3" and not rest.partition("/")[2].strip("/"):
        problems.append(f"{name}={address!r} lacks a bucket or a key ({example})")
    elif separator and scheme not in ("s3", "http", "https", "file"):
        problems.append(f"{name}={address!r} is neither a file nor an s3:// or https:// address")


def read_images(environ: Mapping[str, str], lifted: GivenValues, problems: list[str]) -> tuple[str, ...]:
    """Folders, files, prefixes; IMAGE_PATHS and CONFIG's ``image_paths_s3`` may be JSON lists of them."""
    given: list[Given] = [(name, found) for name in IMAGES if (found := environ.get(name, "").strip())]
    given += [one for name in IMAGES for one in lifted.get(name, [])]
    lists = [(source, _as_list(source, value, problems)) for source, value in given]
    if not lists:
        problems.append("no images: set IMAGES_PATH (a folder, a file or s3://bucket/prefix/) or IMAGES_S3_URI")
        return ()
    source, paths = agreed(lists, problems)
    for path in paths:
        if path.startswith(("http://", "https://")):
            problems.append(f"{source}={path.partition('?')[0]!r} is neither a path nor an s3:// address")
        else:
            _check_address(source, path, "s3://inference-data/inference/<uuid>/", problems)
    return tuple(paths)


def _as_list(source: str, value: Any, problems: list[str]) -> list[str]:
    found = value
    if isinstance(value, str):
        try:
            found = orjson.loads(value) if value.startswith("[") else [value]
        except orjson.JSONDecodeError:
            found = [value]  # a folder may be called so
    if not isinstance(found, list) or not found or not all(isinstance(path, str) and path for path in found):
        problems.append(f"{source}={value!r} is neither a path nor a list of paths")
        return []
    return found


def read_format(environ: Mapping[str, str], problems: list[str]) -> ExportFormat | None:
    """None: a problem."""
    known = get_args(ExportFormat)
    found = environ.get("EXPORT_FORMAT", "").strip().lower()
    if found in known:
        return found  # type: ignore[return-value]
    if not found:
        problems.append(f"EXPORT_FORMAT is missing ({', '.join(known)})")
    elif found in NOT_EXPORTED:
        problems.append(f"EXPORT_FORMAT={found!r} is not written: {NOT_EXPORTED[found]}")
    else:
        problems.append(f"EXPORT_FORMAT={found!r} is unknown{did_you_mean(found, dict.fromkeys(known))}")
    return None


def read_training_job_id(environ: Mapping[str, str], problems: list[str]) -> str | None:
    """The training that a model came from: its exports are put below its id."""
    found = environ.get("TRAINING_JOB_ID", "").strip()
    if found and not re.fullmatch(JOB_ID, found):
        problems.append(f"TRAINING_JOB_ID={found!r} may hold only letters, digits, '.', '_' and '-' (64 at most)")
        return None
    return found or None


def names_a_dataset(environ: Mapping[str, str]) -> bool:
    """Whether `read_dataset` has anything to read."""
    return any(environ.get(name, "").strip() for name in ("DATASET_PATH", "DATASET_S3_URI", "DATASET_ID"))


def read_dataset(environ: Mapping[str, str], problems: list[str]) -> DatasetRef | None:
    """DATASET_PATH is a local folder; otherwise DATASET_S3_URI in any of its forms, or the bare DATASET_ID."""
    path = environ.get("DATASET_PATH", "").strip() or None
    uri = environ.get("DATASET_S3_URI", "").strip()
    given_id = environ.get("DATASET_ID", "").strip().strip("/")
    bucket = prefix = None
    if uri.startswith("/") or uri.startswith("file://"):
        local = uri.removeprefix("file://")
        if path and path.rstrip("/") != local.rstrip("/"):
            problems.append(f"DATASET_PATH={path!r} and DATASET_S3_URI={uri!r} name different folders: give one")
        path = path or local
    elif uri.startswith("s3://"):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket or not prefix.strip("/"):
            problems.append(f"DATASET_S3_URI={uri!r} lacks a bucket or a folder (s3://bucket/datasets/<id>/)")
    uri_id = uri.rstrip("/").rpartition("/")[2]
    if uri_id and given_id and uri_id != given_id:
        problems.append(f"DATASET_ID={given_id!r} and DATASET_S3_URI={uri!r} name different data sets: give one")
    dataset_id = given_id or uri_id or (path or "").rstrip("/").rpartition("/")[2]
    if not dataset_id:
        problems.append("no data set: set DATASET_PATH (a local folder), DATASET_S3_URI or DATASET_ID")
        return None
    if ".." in re.split(r"[/\\]", f"{dataset_id}/{prefix or ''}"):
        problems.append(
            f"the data set {prefix or dataset_id!r} leaves its folder: DATASET_ID or DATASET_S3_URI has '..'"
        )
    snapshot_id = environ.get("SNAPSHOT_ID", "").strip() or None
    if snapshot_id and not re.fullmatch(SNAPSHOT, snapshot_id):
        problems.append(f"SNAPSHOT_ID={snapshot_id!r} may hold only letters, digits, '.', '_' and '-' (128 at most)")
    version_hash = environ.get("DATASET_VERSION_HASH", "").strip().lower().removeprefix("sha256:") or None
    if version_hash and not re.fullmatch(r"[0-9a-f]{64}", version_hash):
        problems.append(f"DATASET_VERSION_HASH={version_hash!r} is not a sha256 (64 hex digits)")
        version_hash = None
    return DatasetRef(
        id=dataset_id,
        path=path,
        bucket=bucket,
        prefix=(prefix.strip("/") if prefix else f"datasets/{dataset_id}") + "/",
        snapshot_id=snapshot_id,
        version_hash=version_hash,
    )


def _texts(
    environ: Mapping[str, str], names: tuple[str, ...], lifted: GivenValues, problems: list[str]
) -> list[tuple[str, str]]:
    given: list[Given] = [(name, environ.get(name, "")) for name in names]
    given += [one for name in names for one in lifted.get(name, [])]
    problems += [f"{source}={value!r} is no text" for source, value in given if not isinstance(value, str)]
    texts = [(source, value.strip()) for source, value in given if isinstance(value, str)]
    return [(source, text) for source, text in texts if text]

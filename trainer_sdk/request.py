"""From environment variables to one typed specification. Two dialects, one table, every problem at once."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import DatasetRef, TrainConfig, TrainSpec
from trainer_sdk.platform_tree import PATIENCE, is_generic_tree, wishes
from trainer_sdk.settings import settings_problems
from trainer_sdk.tasks import TASK_ALIASES
from trainer_sdk.values import as_device

HINT = "docs/environment.md lists every variable and CONFIG key"

VARIABLES = {
    "epochs": "EPOCHS",
    "batch": "BATCH_SIZE",
    "lr0": "LEARNING_RATE",
    "imgsz": "IMGSZ",
    "device": "DEVICE",
}
OTHER_KEYS: dict[str, tuple[str, ...]] = {
    "epochs": ("max_epochs",),
    "batch": ("batch_size",),
    "lr0": ("learning_rate", "lr"),
    "imgsz": ("image_size", "img_scale", "crop_size"),
    "workers": ("num_workers",),
    "seed": ("random_seed",),
    "lr_scheduler": ("scheduler",),
    "lr_milestones": ("milestones",),
    "lr_gamma": ("gamma",),
    "lr_final_ratio": ("lrf",),
    "grad_clip": ("clip_grad", "gradient_clip_value", "gradient_clip", "max_grad_norm"),
    "accumulate": ("gradient_accumulation_steps", "accumulative_counts"),
    "weak_epochs": ("close_mosaic", "close_mosaic_epochs"),
    "amp": ("mixed_precision",),
    "early_stopping": ("patience", "early_stopping_patience"),
    "early_stopping_min_delta": ("min_delta",),
    "checkpoint_keep_max": ("keep", "max_keep_ckpts", "keep_n_checkpoints"),
    "backbone_frozen_stages": ("frozen_stages",),
}
"""The same values in the platform's forms, older trainers and OpenMMLab's own configurations."""
# One row per value: our name, the environment variables and the CONFIG keys that may carry it (contract 0, 1 and 3.1).
NAMES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = tuple(
    (name, (VARIABLES[name],) if name in VARIABLES else (), (name, *OTHER_KEYS.get(name, ())))
    for name in sorted(TrainConfig.model_fields, key=lambda name: name not in VARIABLES)
)
KEY_TO_NAME = {key: name for name, _, keys in NAMES for key in keys}
STRUCTURED = frozenset(
    [
        "lr_milestones", "albumentations", "class_weights", "freeze", "val_interval", "keypoints", "split_config",
        "imgsz", "early_stopping",
    ]
)  # fmt: skip
"""Keys whose values may be lists or objects."""
REFUSED = {
    "resume_from": "a job goes on by itself when it is started again with the same JOB_ID",
    "load_from": "set the environment variable CHECKPOINT_PATH",
    "auxiliary_head": "the heads are the recipe's",
    "cutmix": "it is for classification",
    "auto_augment": "name transforms in albumentations",
    "nesterov": "SGD runs with momentum",
    "cos_lr": "set lr_scheduler to cosine",
}
"""Keys of other trainers, and why or what instead."""

CHECKPOINTS = ("CHECKPOINT_PATH", "CHECKPOINT_S3_URI")
PRETRAINED = "pretrained"
SHOWN_NAMES, CLOSEST_NAMES = 20, 3
TEXTS = ("MODEL_NAME", "DATASET_ID", "DATASET_PATH", "DATASET_S3_URI", "SNAPSHOT_ID", *CHECKPOINTS)

Given = tuple[str, Any]
"""Where a value came from, as the user would write it, and the value."""


def read_train_spec(environ: Mapping[str, str]) -> TrainSpec:
    """The job that the environment asks for.

    Raises:
        ConfigError: with every problem of the request in one message.
    """
    problems = settings_problems(environ)
    problems += [f"{name}={environ[name]!r} is not UTF-8" for name in TEXTS if not _is_utf8(environ.get(name, ""))]
    config, notes = _read_config(environ, problems)
    dataset = _read_dataset(environ, problems)
    checkpoint_path = _read_checkpoint(environ, problems)
    job_id = _read_job_id(environ, problems)
    task = _read_task(environ, problems)
    model_name = environ.get("MODEL_NAME", "").strip()
    if not model_name:
        problems.append("MODEL_NAME is missing (`python -m mmtrain.recipes` lists the models; `auto` asks the data)")
    elif len(model_name) > 100:
        problems.append(f"MODEL_NAME={model_name[:20]!r}... has {len(model_name)} characters, 100 at most")
    if problems or config is None or dataset is None:
        raise ConfigError.of_problems("the request cannot be honoured", problems, hint=HINT)
    return TrainSpec(
        job_id=job_id,
        task=task,
        model_name=model_name,
        dataset=dataset,
        config=config,
        checkpoint_path=checkpoint_path,
        notes=tuple(notes),
    )


def _is_utf8(text: str) -> bool:
    """Python hands over other bytes as half surrogate pairs, which no JSON file and no request can hold."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def job_id_of(environ: Mapping[str, str]) -> str | None:
    """The id alone, for reporting a request that cannot be read any further. None: absent or unusable."""
    found = environ.get("JOB_ID", "").strip()
    return found if re.fullmatch(TrainSpec.model_fields["job_id"].metadata[0].pattern, found) else None


def _read_job_id(environ: Mapping[str, str], problems: list[str]) -> str:
    found = environ.get("JOB_ID", "").strip()
    if not found:
        problems.append("JOB_ID is missing")
    elif job_id_of(environ) is None:
        problems.append(f"JOB_ID={found!r} may hold only letters, digits, '.', '_' and '-' (64 at most)")
    elif environ.get("CALLBACK_URL", "").strip() and not found.isdecimal():
        problems.append(f"JOB_ID={found!r} must be a number when CALLBACK_URL is given: the backend's ids are integers")
    return found


def _read_task(environ: Mapping[str, str], problems: list[str]) -> Any:
    name = environ.get("TASK_TYPE", "").strip().lower()
    if name and name not in TASK_ALIASES:
        problems.append(f"TASK_TYPE={name!r} is unknown{_did_you_mean(name, TASK_ALIASES)}")
    return TASK_ALIASES.get(name)


def _read_checkpoint(environ: Mapping[str, str], problems: list[str]) -> str | None:
    """The word ``pretrained`` is the platform's for the published weights."""
    given = {name: found for name in CHECKPOINTS if (found := environ.get(name, "").strip())}
    if len(set(given.values())) > 1:
        problems.append(" and ".join(f"{name}={value!r}" for name, value in given.items()) + " differ: give one")
    for name, address in given.items():
        scheme, separator, rest = address.partition("://")
        if address == PRETRAINED:
            return None
        if scheme in ("http", "https") and "@" in rest.partition("/")[0]:  # not quoted: messages are logged and sent
            problems.append(f"{name} holds a user or a password: URLs are logged")
        elif scheme == "s3" and not rest.partition("/")[2].strip("/"):
            problems.append(f"{name}={address!r} lacks a bucket or a key (s3://bucket/checkpoints/<job>/best.pt)")
        elif separator and scheme not in ("s3", "http", "https", "file"):
            problems.append(f"{name}={address!r} is neither a file nor an s3:// or https:// address")
        return address
    return None


def _read_dataset(environ: Mapping[str, str], problems: list[str]) -> DatasetRef | None:
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
    version_hash = environ.get("DATASET_VERSION_HASH", "").strip().lower().removeprefix("sha256:") or None
    if version_hash and not re.fullmatch(r"[0-9a-f]{64}", version_hash):
        problems.append(f"DATASET_VERSION_HASH={version_hash!r} is not a sha256 (64 hex digits)")
        version_hash = None
    return DatasetRef(
        id=dataset_id,
        path=path,
        bucket=bucket,
        prefix=(prefix.strip("/") if prefix else f"datasets/{dataset_id}") + "/",
        snapshot_id=environ.get("SNAPSHOT_ID", "").strip() or None,
        version_hash=version_hash,
    )


def _read_config(environ: Mapping[str, str], problems: list[str]) -> tuple[TrainConfig | None, list[str]]:
    given: dict[str, list[Given]] = {name: [] for name, _, _ in NAMES}
    for name, variables, _ in NAMES:
        given[name] += [(variable, _typed(environ[variable])) for variable in variables if environ.get(variable)]
    notes = _collect_config(environ.get("CONFIG", ""), given, problems)
    chosen = {name: _agreed(name, values, problems) for name, values in given.items() if values}
    try:
        return TrainConfig(**{name: value for name, (_, value) in chosen.items()}), notes
    except ValidationError as error:
        problems += _in_the_users_words(error, chosen)
        return None, notes


def _collect_config(text: str, given: dict[str, list[Given]], problems: list[str]) -> list[str]:
    """Adds what CONFIG says to `given`; returns the notes on what had no effect."""
    if not text.strip():
        return []
    try:
        config = orjson.loads(text)  # stricter than json: no NaN, no half characters, no 10000 brackets
    except orjson.JSONDecodeError as error:
        problems.append(
            f"CONFIG is not JSON: {error.msg} at character {error.pos}, "
            f"near {text[max(0, error.pos - 20) : error.pos + 20]!r}"
        )
        return []
    if not isinstance(config, dict):
        problems.append(f"CONFIG must be a JSON object, found {type(config).__name__}")
        return []
    notes: list[str] = []
    for where, key, value in _keys(config, notes, given, problems):
        if key in REFUSED:
            if value is not None:
                problems.append(f"{where}.{key} is not supported: {REFUSED[key]}")
        elif key in KEY_TO_NAME:
            if value is not None:
                given[KEY_TO_NAME[key]].append((f"{where}.{key}", _as_ours(key, _from_a_form(key, value))))
        else:
            problems.append(f"{where}.{key} is unknown{_did_you_mean(key, KEY_TO_NAME)}")
    given["early_stopping"] = _patience(given["early_stopping"])
    return notes


def _from_a_form(key: str, value: Any) -> Any:
    """Lists and objects as text, where a form has only a line for them."""
    return _typed(value) if isinstance(value, str) and KEY_TO_NAME[key] in STRUCTURED else value


def _as_ours(key: str, value: Any) -> Any:
    """Values that OpenMMLab writes in another form under another key."""
    if key == "crop_size" and isinstance(value, list) and len(value) == 2:
        return value[::-1]  # MMSegmentation's (height, width)
    if key == "clip_grad" and isinstance(value, dict) and value.keys() <= {"max_norm", "norm_type"}:
        return value.get("max_norm") if value.get("norm_type", 2) == 2 else value
    return value


def _patience(values: list[Given]) -> list[Given]:
    """``early_stopping`` is a switch beside ``patience`` in some forms, and the number itself in ours."""
    if any(value is False for _, value in values):
        return []
    numbers = [given for given in values if given[1] is not True]
    return numbers or [(source, PATIENCE) for source, _ in values]


def _keys(
    config: dict[str, Any], notes: list[str], given: dict[str, list[Given]], problems: list[str]
) -> Iterator[tuple[str, str, Any]]:
    """Every (place, key, value) of the flat, the basic/advanced and the platform's form."""
    # The generic tree comes last, wherever it stands: its wishes win over the level above.
    for key, value in sorted(config.items(), key=lambda item: isinstance(item[1], dict) and is_generic_tree(item[1])):
        if key not in ("basic", "advanced", "advanced_config"):
            yield "CONFIG", key, value
        elif value is not None and not isinstance(value, dict):
            problems.append(f"CONFIG.{key} must be an object, found {type(value).__name__}")
        elif value and is_generic_tree(value):
            chosen, ignored = wishes(value)
            notes += ignored
            for name, (leaf, wish) in chosen.items():
                # Chosen by hand: wins over the level above.
                given[name] = [(f"CONFIG.{key}.{leaf}", _from_a_form(name, wish))]
        elif value:
            yield from ((f"CONFIG.{key}", inner, item) for inner, item in value.items())


def _agreed(name: str, values: list[Given], problems: list[str]) -> Given:
    """One value; a name given twice with different values is a problem that names both."""
    first = values[0]
    for other in values[1:]:
        if _comparable(other[1], name) != _comparable(first[1], name):
            problems.append(f"{first[0]}={first[1]!r} and {other[0]}={other[1]!r} contradict each other: give one")
    return first


def _comparable(value: Any, name: str) -> Any:
    """So that two ways of writing the same are the same: ``DEVICE=cuda:0`` and CONFIG's ``"device": "0"``."""
    if name == "device":
        with contextlib.suppress(ValueError):  # what is none is said later
            return as_device(_typed(value) if isinstance(value, str) else value)
    typed = _typed(value) if isinstance(value, str) else value
    return tuple(typed) if isinstance(typed, list) else typed


def _typed(text: str) -> Any:
    """Environment variables are text: a number or a list where it reads as one, else the text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _in_the_users_words(error: ValidationError, chosen: Mapping[str, Given]) -> list[str]:
    """Pydantic's findings under the names the user wrote, one line per value.

    Of a value with several forms, what is said of the form that was read furthest.
    """
    furthest: dict[str, ErrorDetails] = {}
    for detail in error.errors():
        name = str(detail["loc"][0])
        if name not in furthest or len(detail["loc"]) > len(furthest[name]["loc"]):
            furthest[name] = detail
    lines = []
    for name, detail in furthest.items():
        source, value = chosen[name]
        message = _uncapitalised(detail["msg"]).replace("a valid tuple", "a list")
        lines.append(f"{source}={value!r}: {message} ({TrainConfig.model_fields[name].description})")
    return lines


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _did_you_mean(word: str, known: Mapping[str, Any]) -> str:
    """The likeliest few; all of them only where they are few."""
    likely = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if likely:
        return f"; did you mean {likely[0]!r}?"
    if len(known) <= SHOWN_NAMES:
        return f" (known: {', '.join(sorted(known))})"
    close = difflib.get_close_matches(word, known, n=CLOSEST_NAMES, cutoff=0.0)
    return f" (the closest are {', '.join(close)}; all {len(known)}: docs/environment.md)"

"""How somebody wants the images split: every form in which the platform or a user says it, as one model."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator, model_validator

from converters.partition import SPLIT_NAMES, SplitName
from converters.strata import FOLDER, METADATA
from trainer_sdk.errors import ConfigError, JobError

DEFAULT_RATIO = (0.8, 0.2)
DEFAULT_SEED = 42

Method = Literal["auto", "manual", "partial", "use_dataset"]
METHODS: dict[str, Method] = {
    **{name: name for name in get_args(Method)},
    "custom": "manual",
    "stratified": "auto",
    "grouped": "auto",
}

_SPELLINGS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_name(found: Any) -> SplitName | None:
    """The split meant by a name, None for no split.

    Raises:
        ValueError: no known name.
    """
    if found is None or found == "":
        return None
    name = _SPELLINGS.get(found.strip().lower()) if isinstance(found, str) else None
    if name is None:
        raise ValueError(f"unknown split {reprlib.repr(found)}, known: {', '.join(SPLIT_NAMES)}")
    return name


def _method(found: Any) -> Method:
    if not isinstance(found, str) or found not in METHODS:
        raise ValueError(f"unknown method {reprlib.repr(found)}{_did_you_mean(found, METHODS)}")
    return METHODS[found]


def _grouping(found: Any) -> str | None:
    if found is None:
        return None
    if isinstance(found, str) and (found == FOLDER or (found.startswith(METADATA) and found != METADATA)):
        return found
    known = (FOLDER, f"{METADATA}<key>")
    raise ValueError(f"unknown grouping {reprlib.repr(found)}{_did_you_mean(found, known)}")


class SplitRequest(BaseModel):
    """How somebody wants the images split; ``manual`` and ``partial`` differ in what becomes of unassigned images.

    ``stratify`` and ``group_by`` (``folder`` or ``metadata.<key>``) say how images without an assignment are
    distributed; without them it is done as the platform does it.
    """

    model_config = ConfigDict(frozen=True)

    method: Annotated[Method, BeforeValidator(_method)]
    ratio: tuple[float, ...] = DEFAULT_RATIO
    seed: int = DEFAULT_SEED
    stratify: bool = False
    group_by: Annotated[str | None, BeforeValidator(_grouping)] = None
    splits: dict[str, Annotated[SplitName | None, BeforeValidator(split_name)]] = {}
    exclude_images: frozenset[str] = frozenset()
    source: str = ""

    @field_validator("ratio")
    @classmethod
    def _is_partition(cls, ratio: tuple[float, ...]) -> tuple[float, ...]:
        fractions = all(0 <= part <= 1 for part in ratio)
        if len(ratio) not in (2, 3) or not fractions or ratio[0] == 0 or sum(ratio) > 1 + 1e-9:
            raise ValueError("want [train, val] or [train, val, test] as fractions that add up to at most 1")
        return ratio

    @model_validator(mode="after")
    def _has_something_to_distribute(self) -> SplitRequest:
        if (self.stratify or self.group_by) and self.method not in ("auto", "partial"):
            raise ValueError(f"stratify and group_by need method auto or partial, {self.method} distributes nothing")
        return self

    @property
    def decides(self) -> bool:
        """Does it say anything, or leave the decision to the next level?"""
        return self.method == "auto" or (self.method != "use_dataset" and any(self.splits.values()))


KNOWN_KEYS = frozenset({
    "method", "ratio", "default_ratio", "seed", "stratify", "group_by", "splits", "custom_splits", "exclude_images",
    "source",
})  # fmt: skip


def check_split_config(form: Mapping[str, Any]) -> None:
    """A user's CONFIG.split_config, before any data are there: a mistyped key must not be ignored.

    Raises:
        ConfigError: unknown keys, or values that make no sense.
    """
    unknown = sorted(set(form) - KNOWN_KEYS)
    if unknown:
        problems = [f"unknown {key!r}{_did_you_mean(key, KNOWN_KEYS)}" for key in unknown]
        raise ConfigError.of_problems("CONFIG.split_config", problems, hint=f"Known: {', '.join(sorted(KNOWN_KEYS))}.")
    parse_split_request(form, "CONFIG.split_config")


def parse_split_request(form: Any, origin: str, error: type[JobError] = ConfigError) -> SplitRequest:
    """A request from any of the platform's forms: of a job or CONFIG, of a snapshot, of an annotation file.

    Raises:
        JobError: of the type ``error``, naming every field that makes no sense.
    """
    hint = "Correct the split configuration."
    if not isinstance(form, Mapping):
        raise error(f"{origin} is not an object of split settings but {reprlib.repr(form)}", hint=hint)
    given = {key: value for key, value in form.items() if value is not None}
    splits = given.get("custom_splits") or given.get("splits") or {}
    method = given.get("method") or ("manual" if splits else "auto")
    fields = {
        "method": method,
        "ratio": given.get("ratio", given.get("default_ratio")),
        "seed": given.get("seed"),
        "stratify": given.get("stratify", method == "stratified"),
        "group_by": given.get("group_by", FOLDER if method == "grouped" else None),
        "splits": {str(key): value for key, value in splits.items()} if isinstance(splits, Mapping) else splits,
        "exclude_images": _as_text(given.get("exclude_images", [])),
        "source": given.get("source"),
    }
    try:
        return SplitRequest.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as invalid:
        raise error.of_problems(origin, [_problem(item) for item in invalid.errors()], hint=hint) from invalid


def _problem(item: Mapping[str, Any]) -> str:
    where = ".".join(map(str, item["loc"]))
    return f"{where}: {item['msg']}" if where else str(item["msg"])


def _did_you_mean(word: Any, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6) if isinstance(word, str) else []
    return f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(sorted(known))})"


def _as_text(ids: Any) -> Any:
    if not isinstance(ids, list | tuple | set | frozenset):
        return ids
    return [str(image_id) if isinstance(image_id, int) else image_id for image_id in ids]

"""CONFIG, from JSON in any of its dialects to one typed model, with every problem in the user's own words."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer_sdk.config.frozen import Asked
from trainer_sdk.config.platform_tree import is_generic_tree, of_the_tree, wishes
from trainer_sdk.config.text import parse_object, parse_value
from trainer_sdk.config.values import as_device

Model = TypeVar("Model", bound=Asked)
Given = tuple[str, Any]
"""Where a value came from, as the user would write it, and the value."""
GivenValues = dict[str, list[Given]]
SHOWN_NAMES, CLOSEST_NAMES = 20, 3


@dataclass(frozen=True)
class ConfigForm(Generic[Model]):
    """How one kind of job's CONFIG may be written."""

    model: type[Model]
    also: Mapping[str, tuple[str, ...]]
    """Our name -> the keys that others use for it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Our name -> the environment variable that may carry it too."""
    structured: frozenset[str] = frozenset()
    """Our names whose values may be lists or objects, which a form may give as text."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Keys of other trainers, and why or what instead."""
    lifted: Mapping[str, str] = field(default_factory=dict)
    """Keys of CONFIG that say what an environment variable says."""
    sources: tuple[str, ...] = ("CONFIG",)
    """The variables that hold the JSON."""
    asks_nothing: tuple[Any, ...] = ()
    """Values of a refused key that are as good as its absence, beside null."""
    takes_tree: bool = False
    """Whether the platform's generic ``advanced_config`` tree may come."""
    as_ours: Callable[[str, Any], Any] = lambda key, value: value
    """(key, value) -> value, for what others write in another form under another key."""
    settled: Callable[[GivenValues], None] = lambda given: None
    """Last changes to all that was given."""

    @property
    def names(self) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
        """One row per value: our name, the environment variables and the CONFIG keys that may carry it."""
        ordered = sorted(self.model.model_fields, key=lambda name: name not in self.variables)
        return tuple(
            (
                name,
                (self.variables[name],) if name in self.variables else (),
                (name, *self.also.get(name, ())),
            )
            for name in ordered
        )

    @property
    def key_to_name(self) -> dict[str, str]:
        return {key: name for name, _, keys in self.names for key in keys}


@dataclass(frozen=True)
class ReadConfig(Generic[Model]):
    """What CONFIG said."""

    config: Model | None
    """None: problems."""
    notes: list[str]
    lifted: GivenValues
    """Environment variable -> what CONFIG says in its place."""


def read_config(form: ConfigForm[Model], environ: Mapping[str, str], problems: list[str]) -> ReadConfig[Model]:
    """Adds to `problems` what is wrong with it."""
    given: GivenValues = {name: [] for name in form.model.model_fields}
    lifted: GivenValues = {}
    for name, variables, _ in form.names:
        given[name] += [(variable, typed(environ[variable])) for variable in variables if environ.get(variable)]
    notes: list[str] = []
    for source in form.sources:
        _Collector(form, source, given, lifted, notes, problems).collect(environ.get(source, ""))
    form.settled(given)
    chosen = {name: agreed(values, problems, same=SAME.get(name)) for name, values in given.items() if values}
    try:
        return ReadConfig(form.model(**{name: value for name, (_, value) in chosen.items()}), notes, lifted)
    except ValidationError as error:
        problems += _in_the_users_words(error, chosen, form.model)
        return ReadConfig(None, notes, lifted)


@dataclass(frozen=True)
class _Collector(Generic[Model]):
    """Sorts one JSON text's values under our names."""

    form: ConfigForm[Model]
    source: str
    given: GivenValues
    lifted: GivenValues
    notes: list[str]
    problems: list[str]

    def collect(self, text: str) -> None:
        config = self._parsed(text)
        key_to_name = self.form.key_to_name
        for where, key, value in self._keys(config):
            place = f"{where}.{key}"
            if key in self.form.refused:
                if value is not None and value not in self.form.asks_nothing:
                    self.problems.append(f"{place} is not supported: {self.form.refused[key]}")
            elif key in self.form.lifted:
                if value is not None and value != "":
                    self.lifted.setdefault(self.form.lifted[key], []).append((place, value))
            elif key in key_to_name:
                if value is not None:
                    name = key_to_name[key]
                    self.given[name].append((place, self.form.as_ours(key, self._from_a_form(name, value))))
            else:
                known = {**key_to_name, **self.form.lifted}
                self.problems.append(f"{place} is unknown{did_you_mean(key, known)}")

    def _parsed(self, text: str) -> dict[str, Any]:
        if not text.strip():
            return {}
        config, wrong = parse_object(text, self.source)
        self.problems.extend(wrong)
        return config

    def _keys(self, config: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
        """Every (place, key, value) of the flat, the basic/advanced and the platform's form."""
        # The generic tree comes last, wherever it stands: its wishes win over the level above.
        for key, value in sorted(config.items(), key=lambda item: self._is_tree(item[1])):
            if key not in ("basic", "advanced", "advanced_config"):
                yield self.source, key, value
            elif value is not None and not isinstance(value, dict):
                self.problems.append(f"{self.source}.{key} must be an object, found {type(value).__name__}")
            elif value and self._is_tree(value):
                place = f"{self.source}.{key}"
                tree = {inner: item for inner, item in value.items() if not self._is_ours(inner, beside_tree=key)}
                yield from ((place, inner, item) for inner, item in value.items() if inner not in tree)
                chosen, ignored = wishes(tree, place)
                self.notes.extend(ignored)
                for name, (leaf, wish) in chosen.items():
                    # Chosen by hand: wins over the level above.
                    self.given[name] = [(f"{place}.{leaf}", self._from_a_form(name, wish))]
            elif value:
                yield from ((f"{self.source}.{key}", inner, item) for inner, item in value.items())

    def _is_ours(self, key: str, *, beside_tree: str) -> bool:
        """Whether a key beside the branches of the generic tree is read as anywhere else. What the platform itself
        may add to its tree is not refused."""
        if of_the_tree(key):
            return False
        known = {**self.form.key_to_name, **self.form.lifted, **self.form.refused}
        return key in known or beside_tree != "advanced_config"

    def _is_tree(self, value: Any) -> bool:
        return self.form.takes_tree and isinstance(value, dict) and is_generic_tree(value)

    def _from_a_form(self, name: str, value: Any) -> Any:
        """Lists and objects as text, where a form has only a line for them."""
        return typed(value) if isinstance(value, str) and name in self.form.structured else value


def agreed(values: list[Given], problems: list[str], *, same: Callable[[Any], Any] | None = None) -> Given:
    """One value; a name given twice with different values is a problem that names both.

    Args:
        same: brings spellings of one value together.
    """
    plain = same or _comparable
    first = values[0]
    for other in values[1:]:
        if plain(other[1]) != plain(first[1]):
            problems.append(f"{first[0]}={first[1]!r} and {other[0]}={other[1]!r} contradict each other: give one")
    return first


def typed(text: str) -> Any:
    """Environment variables are text: a number or a list where it reads as one, else the text."""
    return parse_value(text)


def did_you_mean(word: str, known: Mapping[str, Any]) -> str:
    """The likeliest few; all of them only where they are few."""
    likely = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if likely:
        return f"; did you mean {likely[0]!r}?"
    if len(known) <= SHOWN_NAMES:
        return f" (known: {', '.join(sorted(known))})"
    close = difflib.get_close_matches(word, known, n=CLOSEST_NAMES, cutoff=0.0)
    return f" (the closest are {', '.join(close)}; all {len(known)}: docs/environment.md)"


def _comparable(value: Any) -> Any:
    found = typed(value) if isinstance(value, str) else value
    return tuple(found) if isinstance(found, list) else found


def _same_device(value: Any) -> Any:
    """``DEVICE=cuda:0`` and CONFIG's ``"device": "0"`` are the same."""
    found = _comparable(value)
    with contextlib.suppress(ValueError):  # what is none is said later
        return as_device(found)
    return found


SAME: Mapping[str, Callable[[Any], Any]] = {"device": _same_device}
"""How two ways of writing one value are compared, by our name."""


def _in_the_users_words(error: ValidationError, chosen: Mapping[str, Given], model: type[Asked]) -> list[str]:
    """Pydantic's findings under the names the user wrote, one line per value.

    Of a value with several forms, what is said of the form that was read furthest.
    """
    furthest: dict[str, ErrorDetails] = {}
    for detail in error.errors():
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if name not in furthest or len(detail["loc"]) > len(furthest[name]["loc"]):
            furthest[name] = detail
    lines = []
    for name, detail in furthest.items():
        message = _uncapitalised(detail["msg"]).replace("a valid tuple", "a list")
        if not name:  # of several values together
            lines.append(message)
            continue
        source, value = chosen[name]
        lines.append(f"{source}={value!r}: {message} ({model.model_fields[name].description})")
    return lines


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]

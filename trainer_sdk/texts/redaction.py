"""Secrets, by the names and forms in which an environment holds them; and texts without them.

A job inherits its backend's whole environment (platform contract, section 1.0), so there are more than we were meant
to know. They are taken out of whatever is logged, sent or written, also where a library quotes one in an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel

SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|ACCESS_KEY|API_?KEY|_KEY$|_PAT$|_PWD$|DATABASE_URL|_DSN$|COOKIE"
    r"|CONNECTION_STRING",
    re.IGNORECASE,
)
FILE_NAME = re.compile(r"_(FILE|PATH|DIR)$", re.IGNORECASE)
"""Of a variable that says where a secret is."""
USER_IN_URL = re.compile(r"[a-z][\w+.-]*://([^/?#\s@]+)@", re.IGNORECASE)
QUERY_OF_URL = re.compile(r"https?://[^\s?#]+\?(\S+)", re.IGNORECASE)
"""It may be a signature."""
LEAST_CHARACTERS = 6
"""Shorter ones would be found everywhere."""
LEAST_LINE = 16
"""Of a secret of several lines, such as a private key, or of a signature in a query: each is quoted alone."""
PUBLIC = frozenset({"minioadmin"})
"""The platform's defaults, which its documents name."""
MASK = "***"
FREE_TEXTS = ("message", "error_message", "traceback")
"""Of events: what quotes others."""
OUR_WORDS = frozenset({"job_id", "status", "phase", "code"})
"""Of records: what quotes nobody."""

Told = TypeVar("Told", bound=BaseModel)


def hides(name: str, value: str) -> bool:
    """Whether a variable is called like a secret or the way to one, or is a URL with a user or a password."""
    return bool(SECRET_NAME.search(name) or USER_IN_URL.search(value))


class Redaction:
    """Takes the secrets of one environment out of texts."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        parts = {part for name, value in environ.items() for part in _secret_parts(name, value)}
        known = {part for part in parts if len(part) >= LEAST_CHARACTERS and part not in PUBLIC}
        forms = {
            form for part in known for form in (part, quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1])
        }
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._found = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        return text if self._found is None else self._found.sub(MASK, text)

    def of_event(self, event: Told) -> Told:
        """The same event, without secrets in what it quotes."""
        texts = {name: text for name in FREE_TEXTS if isinstance(text := getattr(event, name, None), str)}
        return event.model_copy(update={name: self(text) for name, text in texts.items()})

    def of_record(self, record: BaseModel) -> Any:
        """A record as JSON, without secrets in what it quotes."""
        return self.everywhere(record.model_dump(mode="json"), OUR_WORDS)

    def everywhere(self, value: Any, plain: frozenset[str] = frozenset()) -> Any:
        """The same for all texts in a JSON value.

        Args:
            plain: keys whose values are words of ours.
        """
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {key: item if key in plain else self.everywhere(item, plain) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(item, plain) for item in value]
        return value


def _secret_parts(name: str, value: str) -> Iterator[str]:
    value = value.strip()
    if SECRET_NAME.search(name) and not FILE_NAME.search(name):
        yield value
        yield from (line for line in value.splitlines() if len(line) >= LEAST_LINE)
    for user in USER_IN_URL.findall(value):
        password = user.partition(":")[2]
        yield from (user, password, unquote(password)) if password else (user,)
    for query in QUERY_OF_URL.findall(value):
        yield query
        yield from (one for one in re.split(r"[&=]", query) if len(one) >= LEAST_LINE)

"""Secrets as a backend's environment holds them, and who looks for them afterwards."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

STORAGE = {
    f"{role}_STORAGE_{part}_KEY": f"planted-{role.lower()}-{part.lower()}-4711"
    for role in ("EXTERNAL", "INTERNAL")
    for part in ("ACCESS", "SECRET")
}
PLANTED = {
    **STORAGE,
    "CALLBACK_TOKEN": "planted-callback-token-4711",
    "CALLBACK_SECRET": "planted-callback-secret-4711",
    "INTERNAL_AUTH_TOKEN": "planted-internal-auth-4711",
    "DATABASE_URL": "postgresql://platform:planted-database-4711@db:5432/platform",
    "OPENAI_API_KEY": "planted-openai-4711",
    "SENTRY_DSN": "https://planted-sentry-4711@sentry.example/1",
    "REDIS": "redis://:planted-redis-4711@cache:6379/0",
    "SIGNING_PRIVATE_KEY": "-----BEGIN KEY-----\nplanted-private-line-4711\n-----END KEY-----",
    "MLFLOW_TRACKING_URI": "http://tracker:planted-mlflow-4711@127.0.0.1:9",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password-4711",
}  # fmt: skip
"""Every variable that carries a secret of ours, and some that a job merely inherits."""
MARKS = ("planted-", "-4711")
"""How every one of them begins and ends."""


def told(texts: Iterable[tuple[str, bytes]]) -> list[str]:
    """Where one of the secrets stands, plain or in a form that decodes to it."""
    values = {value for value in PLANTED.values() if "://" not in value and "\n" not in value}
    values |= {f"planted-{one}-4711" for one in ("database", "sentry", "redis", "private-line", "mlflow")}
    forms = {form for value in values for form in (value, quote(value, safe=""))}
    sought = {form.encode() for form in forms} | {base64.b64encode(value.encode()) for value in values}
    return [f"{where}: {secret.decode()}" for where, raw in texts for secret in sorted(sought) if secret in raw]


def files_below(*folders: Path) -> list[tuple[str, bytes]]:
    """Name and content of every file that a process left."""
    paths = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [(str(path), path.read_bytes()) for path in paths if path.is_file()]

"""How the backend is to be spoken to: who we are to it, whom we trust, and how patient we are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

CA_BUNDLES = ("CALLBACK_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
"""What a token may be made of: anything else would be refused by the HTTP library, in a message that quotes it."""
NUMBERS = {
    "CALLBACK_MAX_RETRIES": (re.compile(r"\d{1,9}"), "a whole number"),
    "CALLBACK_RETRY_DELAY": (re.compile(r"\d+(\.\d*)?|\.\d+"), "a number of seconds"),
    "CALLBACK_INTERVAL": (re.compile(r"(?=.*[1-9])(\d+(\.\d*)?|\.\d+)"), "a number of seconds above 0"),
}


class CallbackSettings(BaseModel):
    """Everything about the calls to the backend but its address."""

    model_config = ConfigDict(frozen=True)

    token: SecretStr | None = None
    token_file: Path | None = None
    """Read again when the backend answers 401: platforms rotate such files."""
    secret: SecretStr | None = None
    """Signs the body of every call."""
    ca_bundle: Path | None = None
    max_retries: int | None = None
    """Of one progress event or log row; None: as long as the job runs. Validations and outcomes are never given up."""
    retry_delay_s: float = 0.5
    """Before the first repetition; it doubles from there."""
    interval_s: float = 30.0
    """The backend hears of the progress at least this often."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> CallbackSettings:
        """Problems with the values: `callback_problems`; a value that has one counts as not given."""
        given = {name: environ[name].strip() for name in environ if name.startswith("CALLBACK_") and environ[name]}
        numbers = {name: float(given[name]) for name in NUMBERS if name in given and _is_number(name, given[name])}
        token = given.get("CALLBACK_TOKEN", "")
        chosen = {
            "token": SecretStr(token) if HEADER_SAFE.fullmatch(token) else None,
            "token_file": Path(given["CALLBACK_TOKEN_FILE"]) if "CALLBACK_TOKEN_FILE" in given else None,
            "secret": SecretStr(environ["CALLBACK_SECRET"]) if environ.get("CALLBACK_SECRET") else None,
            "ca_bundle": next((Path(environ[name]) for name in CA_BUNDLES if environ.get(name)), None),
            "max_retries": numbers.get("CALLBACK_MAX_RETRIES"),
            "retry_delay_s": numbers.get("CALLBACK_RETRY_DELAY"),
            "interval_s": numbers.get("CALLBACK_INTERVAL"),
        }
        return cls.model_validate({name: value for name, value in chosen.items() if value is not None})


def callback_problems(environ: Mapping[str, str]) -> list[str]:
    """What is wrong with these variables, in words that quote no secret."""
    problems = []
    for name, (_, wanted) in NUMBERS.items():
        if environ.get(name) and not _is_number(name, environ[name].strip()):
            problems.append(f"{name}={environ[name]!r} is not {wanted}")
    token = environ.get("CALLBACK_TOKEN", "").strip()
    if token and not HEADER_SAFE.fullmatch(token):
        problems.append("CALLBACK_TOKEN holds spaces, line breaks or letters that no HTTP header can carry")
    if token and environ.get("CALLBACK_TOKEN_FILE"):
        problems.append("CALLBACK_TOKEN and CALLBACK_TOKEN_FILE are both given: name one")
    bundle = environ.get("CALLBACK_CA_BUNDLE")
    if bundle and not Path(bundle).is_file():
        problems.append(f"CALLBACK_CA_BUNDLE={bundle!r} is no file")
    return problems


def _is_number(name: str, text: str) -> bool:
    return bool(NUMBERS[name][0].fullmatch(text)) and math.isfinite(float(text))

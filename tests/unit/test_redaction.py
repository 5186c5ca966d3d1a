"""What an environment hides stays hidden, in whatever form somebody quotes it."""

from __future__ import annotations

import json
import logging
from urllib.parse import quote

import pytest

from trainer_sdk.texts.console import JsonLines, Safely
from trainer_sdk.texts.redaction import Redaction, hides

KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----"
SECRETS = {
    "INTERNAL_STORAGE_SECRET_KEY": "internal/secret+key",
    "EXTERNAL_STORAGE_ACCESS_KEY": "external-access",
    "CALLBACK_TOKEN": "callback-token",
    "CALLBACK_SECRET": 'quote"and\\backslash',
    "DATABASE_URL": "postgresql://admin:p%40ssw0rd@db/platform",
    "OPENAI_API_KEY": "sk-0123456789",
    "TLS_PRIVATE_KEY": KEY,
    "HTTPS_PROXY": "http://someone:proxypass@proxy:3128",
    "MLFLOW_TRACKING_URI": "https://tracker-user@mlflow",
    "CHECKPOINT_PATH": "https://store/best.pt?X-Amz-Date=1&X-Amz-Signature=0123456789abcdef",
}
PLAIN = {"PATH": "/usr/bin", "JOB_ID": "123", "CALLBACK_TOKEN_FILE": "/run/secrets/token", "A_TOKEN": "short",
         "INTERNAL_STORAGE_ACCESS_KEY": "minioadmin"}  # fmt: skip
PARTS = [
    *(SECRETS[name] for name in sorted(SECRETS.keys() - {"HTTPS_PROXY", "MLFLOW_TRACKING_URI", "CHECKPOINT_PATH"})),
    "p%40ssw0rd", "p@ssw0rd", "someone:proxypass", "proxypass", "tracker-user", "0123456789abcdef",
    "MIIEvQIBADANBgkqhkiG9w0B",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("form", [str, repr, json.dumps, lambda text: quote(text, safe=""), lambda text: f"a{text}b"])
def test_every_secret_is_taken_out_in_every_form(part: str, form: object) -> None:
    text = f"cannot open {form(part)} here"  # type: ignore[operator]
    shown = Redaction({**SECRETS, **PLAIN})(text)
    assert "***" in shown
    assert form(part) not in shown  # type: ignore[operator]


def test_what_hides_nothing_stays() -> None:
    text = "minioadmin /usr/bin 123 /run/secrets/token short https://store/best.pt"
    assert Redaction({**SECRETS, **PLAIN})(text) == text
    assert Redaction({})(text) == text


def test_a_record_keeps_its_shape() -> None:
    redact = Redaction({"CALLBACK_TOKEN": "completed"})
    found = redact.everywhere({"status": "completed", "lines": ["was completed", 3, None]}, frozenset({"status"}))
    assert found == {"status": "completed", "lines": ["was ***", 3, None]}


def test_a_log_line_has_neither_secrets_nor_commands() -> None:
    handler = Safely(JsonLines(), Redaction(SECRETS))
    try:
        raise ValueError("callback-token")
    except ValueError as error:
        told = (type(error), error, error.__traceback__)
    record = logging.LogRecord("trainer", 20, "f.py", 1, "token %s\n\x1b[2J", ("callback-token",), told)
    line = json.loads(handler.format(record))
    assert line["message"] == "token ***\n\x1b[2J"  # JSON's own escapes: nothing of it reaches a terminal
    assert "callback-token" not in json.dumps(line)
    terminal = Safely(logging.Formatter("%(message)s"), Redaction(SECRETS)).format(record)
    assert "\x1b" not in terminal
    assert r"\x1b[2J" in terminal


def test_a_worker_does_not_get_what_hides_something() -> None:
    assert all(hides(name, value) for name, value in SECRETS.items() if name != "CHECKPOINT_PATH")
    assert not any(
        hides(name, value) for name, value in {"PATH": "/bin", "NCCL_DEBUG": "INFO", "HF_HOME": "/h"}.items()
    )

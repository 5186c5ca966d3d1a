"""What the process prints: a person at a terminal gets words and colours, a log collector one JSON object a line."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from trainer_sdk.texts.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

QUIET = ("botocore", "boto3", "s3transfer", "urllib3", "httpx", "httpcore", "matplotlib", "faster_coco_eval", "PIL")


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", ...}``; a traceback goes under "traceback"."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _printable(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = _printable(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


def _printable(text: str) -> str:
    """Without half surrogate pairs: a file name that is not UTF-8 must not silence a line."""
    return text.encode("utf-8", "replace").decode()


class Safely(logging.Formatter):
    """Another formatter's text without secrets, and without what a terminal would obey."""

    def __init__(self, formatter: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return printable(self._redact(self._formatter.format(record)), keep="\n\t")


def set_up_logging(level: str, redact: Callable[[str], str] = str) -> None:
    """Logs of this process to standard output.

    Args:
        redact: takes the secrets out of a text.
    """
    handler = _handler()
    handler.setFormatter(Safely(handler.formatter or logging.Formatter(), redact))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def terminal() -> Console:
    """The one console: a live bar and log lines that do not know of each other garble the screen."""
    from rich.console import Console  # only a terminal pays for importing it

    return Console()


def _handler() -> logging.Handler:
    if not sys.stdout.isatty():
        handler: logging.Handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines())
        return handler
    from rich.logging import RichHandler

    handler = RichHandler(console=terminal(), show_path=False, log_time_format="%H:%M:%S", omit_repeated_times=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler

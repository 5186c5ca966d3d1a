"""The one argument that a script takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from trainer_sdk.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse's own exit code, 2, means "completed but undelivered" here."""
        self.exit(ConfigError.exit_code, f"{self.format_usage()}{self.prog}: {message}\n")


def log_level_of(arguments: Sequence[str]) -> str:
    """The platform starts every script with ``--log-level INFO``; unknown arguments end the process with usage."""
    parser = _Parser(description="Configured by environment variables: docs/environment.md.")
    parser.add_argument("--log-level", default="INFO", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return str(parser.parse_args(arguments[1:]).log_level)

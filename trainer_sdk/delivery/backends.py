"""Who listens. The outbox hands one recorded event at a time to a Backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Rejected(Exception):
    """The backend understood and refuses (4xx): sending it again cannot help."""


class Unavailable(Exception):
    """The backend could not be reached or broke (connection, timeout, 5xx): later may help."""

    def __init__(self, message: str, *, broke: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.broke = broke
        """It answered 500: perhaps it is this very event that it cannot take."""
        self.retry_after_s = retry_after_s
        """When it wants to be asked again."""


class Backend(Protocol):
    """Takes one call; raises `Rejected` or `Unavailable`."""

    def deliver(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None: ...

    def state(self, route: str) -> str | None:
        """The status that the backend has for the job at this route; None: it does not say. Raises `Unavailable`."""

    def close(self) -> None: ...


class FileBackend:
    """No server: the event log on disk is what remains, and it already holds the event."""

    def deliver(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        return

    def state(self, route: str) -> str | None:
        return None

    def close(self) -> None:
        return

"""Who listens. The outbox hands one recorded event at a time to a Backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import httpx


class Rejected(Exception):
    """The backend understood and refuses (4xx): sending it again cannot help."""


class Unavailable(Exception):
    """The backend could not be reached or broke (connection, timeout, 5xx): later may help."""

    def __init__(self, message: str, *, broke: bool = False) -> None:
        super().__init__(message)
        self.broke = broke
        """It answered 500: perhaps it is this very event that it cannot take."""


class Backend(Protocol):
    """Takes one call; raises `Rejected` or `Unavailable`."""

    def deliver(self, route: str, body: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class FileBackend:
    """No server: the event log on disk is what remains, and it already holds the event."""

    def deliver(self, route: str, body: dict[str, Any]) -> None:
        return

    def close(self) -> None:
        return


class HttpBackend:
    """JSON over POST below the API base, with the time-outs of the platform's own client (contract 2.11)."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._client: httpx.Client | None = None

    def deliver(self, route: str, body: dict[str, Any]) -> None:
        import httpx  # here, on the delivery thread: importing it takes longer than starting a job may

        if self._client is None:
            timeout = httpx.Timeout(connect=15, read=60, write=30, pool=10)
            self._client = httpx.Client(timeout=timeout, follow_redirects=True)
        try:
            response = self._client.post(self._base_url + route, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code >= 500 or response.status_code in (408, 429):
            broke = response.status_code == 500
            raise Unavailable(f"HTTP {response.status_code}: {response.text[:200]}", broke=broke)
        if response.status_code >= 400:
            raise Rejected(f"HTTP {response.status_code}: {response.text[:200]}")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

"""The platform's backend: JSON over POST below the API base (contract 2).

Nothing it answers is trusted: an answer is bounded in size and time, and a redirect is followed only to where we have
been sent by the user. Secrets are in headers alone; what is logged of an answer has them blotted out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from trainer_sdk.callback import HEADER_SAFE, CallbackSettings
from trainer_sdk.delivery.backends import Rejected, Unavailable

if TYPE_CHECKING:
    import httpx

MOST_CALL_S = 75.0
"""Of one call, the answer included: the time-outs of an HTTP library begin anew with every byte that trickles in."""
MOST_ANSWER_BYTES = 2**20
MOST_QUOTED = 200
MOST_REDIRECTS = 3
LONGEST_RETRY_AFTER_S = 600.0
LATER = (408, 425, 429)
"""The only refusals (4xx) that say "later" rather than "no"."""
REDIRECTS = (301, 302, 307, 308)
NO_PLAIN_ANSWER = ValueError, ImportError, OSError
"""What httpx raises for a proxy, or a certificate bundle, that it cannot use."""


class Answer(NamedTuple):
    """What came back, as far as it was read."""

    status: int
    content: bytes
    headers: Mapping[str, str]


class HttpBackend:
    """One connection, used by one thread at a time, with the time-outs of the platform's own client (contract 2.11).

    Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``, ...).
    """

    def __init__(self, base_url: str, access: CallbackSettings | None = None) -> None:
        self._base_url = base_url
        self._access = access or CallbackSettings()
        self._token = self._access.token.get_secret_value() if self._access.token else ""
        self._client: httpx.Client | None = None
        self._line = _Line()

    def deliver(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Raises: Rejected, Unavailable."""
        answer = self._ask("POST", route, orjson.dumps(body), headers)
        if 300 <= answer.status < 400:
            raise Unavailable(f"HTTP {answer.status}: a redirect to another place, which is not followed")
        said = f"HTTP {answer.status}: {self._quoted(answer)}"
        if answer.status >= 500 or answer.status in LATER:
            raise Unavailable(said, broke=answer.status == 500, retry_after_s=_retry_after(answer))
        if answer.status >= 400:
            raise Rejected(said + self._about_the_token(answer.status))

    def _about_the_token(self, status: int) -> str:
        if status not in (401, 403):
            return ""
        return "; correct CALLBACK_TOKEN" if self._authorization() else "; it wants CALLBACK_TOKEN to be set"

    def state(self, route: str) -> str | None:
        """As `Backend.state`; whatever is no plain answer says nothing."""
        answer = self._ask("GET", route)
        if answer.status != 200:
            return None
        try:
            found = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return None
        status = found.get("status") if isinstance(found, dict) else None
        return status if isinstance(status, str) else None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _ask(self, method: str, route: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request, once more with a fresh token when ours is not taken."""
        signed = {**(headers or {}), **self._signature(content)}
        answer = self._follow(method, self._base_url + route, content, signed)
        if answer.status == 401 and self._fresh_token():
            answer = self._follow(method, self._base_url + route, content, signed)
        return answer

    def _follow(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """The method stays what it is: a POST that became a GET would be an event lost."""
        import httpx

        answer = self._send(method, url, content, headers)
        for _ in range(MOST_REDIRECTS):
            if answer.status not in REDIRECTS:
                break
            try:
                target = httpx.URL(url).join(answer.headers.get("location", ""))
            except httpx.InvalidURL:
                break
            if not _same_place(httpx.URL(url), target):
                break
            url = str(target)
            answer = self._send(method, url, content, headers)
        return answer

    def _send(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        import httpx  # here, on the delivery thread: importing it takes longer than starting a job may

        with self._line.for_at_most(MOST_CALL_S) as late:
            try:
                client, headers = self._ready(), {**headers, **self._authorization()}
                extensions = {"trace": self._line.listen}
                with client.stream(method, url, content=content, headers=headers, extensions=extensions) as response:
                    return Answer(response.status_code, _bounded(response), response.headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                what = f"no whole answer in {MOST_CALL_S:.0f} s" if late.is_set() else str(error)
                raise Unavailable(f"{type(error).__name__}: {self._blotted(what)}") from error

    def _ready(self) -> httpx.Client:
        import httpx

        if self._client is None:
            timeout = httpx.Timeout(connect=15, read=60, write=30, pool=10)
            plain = {"Content-Type": "application/json", "Accept-Encoding": "identity"}  # nothing to be inflated
            try:
                self._client = httpx.Client(timeout=timeout, verify=self._trust(), headers=plain)
            except NO_PLAIN_ANSWER as error:  # its words may hold a proxy's password
                problem = "the proxy or the certificates of the environment cannot be used"
                raise Unavailable(f"{problem} ({type(error).__name__})") from None
        return self._client

    def _trust(self) -> Any:
        import ssl

        bundle = self._access.ca_bundle
        if bundle is None or (self._base_url.startswith("http://") and not bundle.is_file()):
            return True
        return ssl.create_default_context(cafile=bundle)

    def _authorization(self) -> dict[str, str]:
        if not self._token and self._access.token_file is not None:
            self._token = _token_in(self._access.token_file)
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _fresh_token(self) -> bool:
        """Whether the file holds another token by now; if so, that one counts."""
        if self._access.token_file is None:
            return False
        earlier, self._token = self._token, _token_in(self._access.token_file)
        return self._token != earlier

    def _signature(self, content: bytes) -> dict[str, str]:
        if self._access.secret is None:
            return {}
        key = self._access.secret.get_secret_value().encode()
        return {"X-Signature-256": f"sha256={hmac.new(key, content, hashlib.sha256).hexdigest()}"}

    def _quoted(self, answer: Answer) -> str:
        return self._blotted(answer.content.decode("utf-8", "replace"))[:MOST_QUOTED]

    def _blotted(self, text: str) -> str:
        """A backend may echo what it was sent."""
        secret = self._access.secret.get_secret_value() if self._access.secret else ""
        for word in filter(None, (self._token, secret)):
            text = text.replace(word, "***")
        return text


class _Line:
    """The connection in use, which another thread can cut."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def listen(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's trace: it tells of every connection it makes."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    @contextlib.contextmanager
    def for_at_most(self, seconds: float) -> Iterator[threading.Event]:
        """Cuts the connection when the time is over; gives an event that is set then."""
        late = threading.Event()
        timer = threading.Timer(seconds, self._cut, [late])
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _cut(self, late: threading.Event) -> None:
        late.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own would first forget its state


def _token_in(file: Path) -> str:
    """Raises: Unavailable, in words that do not quote it."""
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"CALLBACK_TOKEN_FILE cannot be read ({type(error).__name__})") from None
    if token and not HEADER_SAFE.fullmatch(token):
        raise Unavailable("CALLBACK_TOKEN_FILE holds what no HTTP header can carry")
    return token


def _bounded(response: httpx.Response) -> bytes:
    content = b""
    for piece in response.iter_raw():
        content += piece
        if len(content) >= MOST_ANSWER_BYTES:
            break
    return content[:MOST_ANSWER_BYTES]


def _same_place(one: httpx.URL, other: httpx.URL) -> bool:
    """The same server, or its encrypted self."""
    places = [(url.scheme, url.host, url.port) for url in (one, other)]
    return places[0] == places[1] or places == [("http", one.host, None), ("https", one.host, None)]


def _retry_after(answer: Answer) -> float | None:
    """Seconds, from either of the header's forms; None: not given, or nonsense."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)

"""A server that answers as no honest backend would: endless, huge, elsewhere, with other certificates."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    """With names in small letters."""
    body: bytes


Answer = Callable[[Request, BinaryIO], None]
"""Writes the whole answer, status line and headers included; the connection is closed afterwards."""


def plain(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    """An ordinary answer; ``retry_after="3"`` is the header ``retry-after: 3``."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} because", *lines, f"content-length: {len(body)}", "connection: close"])
    return lambda request, out: out.write(head.encode() + b"\r\n\r\n" + body) and None


class RudeBackend:
    """Gives the answers of `script`, the last one for ever. Use as a context manager."""

    def __init__(self, *script: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._script = list(script)
        handler = type("Handler", (_Handler,), {"backend": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> RudeBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def next_answer(self) -> Answer:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: RudeBackend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.backend.requests.append(request)
        with contextlib.suppress(OSError):  # whoever asked had enough
            self.backend.next_answer()(request, self.wfile)
            self.wfile.flush()
        self.close_connection = True

    do_GET = do_CONNECT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        return

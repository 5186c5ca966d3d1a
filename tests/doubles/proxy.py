"""A network between a job and its storage that can be slow and can damage what passes."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}

Damage = Callable[[str, int, bytes], bytes]
"""(path, how many times it was asked for, body) -> what passes; a shorter body ends in a broken connection."""


class FaultyProxy:
    """Stands before an S3 endpoint. Use as a context manager."""

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self.damage: Damage = lambda path, times, body: body
        self.delay_s = 0.0
        self.missing: set[str] = set()
        """Paths of objects that are listed and not there."""
        self.failures = 0
        """How many of the next requests for objects end in a 503."""
        self.headers: dict[str, str] = {}
        """Of the last request."""
        self.asked: Counter[str] = Counter()
        """How often each object was asked for."""
        handler = type("Handler", (_Handler,), {"proxy": self, "target": urlsplit(target).netloc})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, environ: dict[str, str]) -> dict[str, str]:
        """The same storage, through this proxy."""
        return {**environ, **{f"{role}_STORAGE_ENDPOINT": self.endpoint for role in ("EXTERNAL", "INTERNAL")}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    target: str

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.headers = dict(self.headers.items())
        if self.command == "GET" and urlsplit(self.path).path in self.proxy.missing:
            self._refuse(b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>")
            return
        if self.command == "GET" and "list-type" not in self.path and self.proxy.failures:
            self.proxy.failures -= 1
            self._refuse(b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>", 503)
            return
        upstream = http.client.HTTPConnection(self.target)
        upstream.request(self.command, self.path, sent, dict(self.headers.items()))
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        passed = self._passed(answer.status, body)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(passed)
        self.close_connection = len(passed) < len(body)

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET

    def _refuse(self, body: bytes, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _passed(self, status: int, body: bytes) -> bytes:
        path = urlsplit(self.path)
        if self.command != "GET" or path.query.startswith("list-type") or status not in (200, 206):
            return body
        self.proxy.asked[path.path] += 1
        time.sleep(self.proxy.delay_s)
        return self.proxy.damage(path.path, self.proxy.asked[path.path], body)

    def log_message(self, format: str, *args: Any) -> None:
        return

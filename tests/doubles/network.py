"""A network between a job and an HTTP server, storage or backend, that fails on command."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
DRIPS = 20


class Request(NamedTuple):
    """What came from the job."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What the server said to it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Fault = Callable[["Exchange"], None]
"""Does with one request whatever it does, instead of passing it on."""


@dataclass
class _Order:
    """One command."""

    fault: Fault
    when: Callable[[Request], bool]
    times: float
    until: float


class Network:
    """Stands before a server. Use as a context manager."""

    def __init__(self, target: str) -> None:
        split = urlsplit(target)
        self.target, self._path = split.netloc, split.path
        self.requests: list[Request] = []
        self.faults = 0
        """How often a command struck."""
        self.last_fault_at = 0.0
        """`time.monotonic()`."""
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self.port = 0
        self.restore()

    @property
    def url(self) -> str:
        """The server's address, with its path, through this network."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def fail(
        self,
        fault: Fault,
        *,
        when: Callable[[Request], bool] = lambda request: True,
        times: float = float("inf"),
        seconds: float = float("inf"),
    ) -> None:
        """From now on, so often, so long; of several commands the first that fits strikes."""
        with self._lock:
            self._orders.append(_Order(fault, when, times, time.monotonic() + seconds))

    def heal(self) -> None:
        with self._lock:
            self._orders.clear()

    def cut(self) -> None:
        """Nobody listens, and every open connection is reset."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            self.last_fault_at = time.monotonic()
            server.stop()

    def restore(self) -> None:
        """Listens again, on the same port."""
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="network", daemon=True).start()

    def cut_for(self, seconds: float) -> None:
        """Comes back by itself."""
        self.cut()
        timer = threading.Timer(seconds, self.restore)
        timer.daemon = True
        timer.start()

    def since_last_fault_s(self) -> float:
        return time.monotonic() - self.last_fault_at

    def storage_environment(self, environ: dict[str, str]) -> dict[str, str]:
        """The same storage, through this network."""
        return environ | {f"{role}_STORAGE_ENDPOINT": self.url for role in ("EXTERNAL", "INTERNAL")}

    def strike(self, request: Request) -> Fault | None:
        """The fault for this request."""
        with self._lock:
            self.requests.append(request)
            for order in self._orders:
                if order.times > 0 and time.monotonic() < order.until and order.when(request):
                    order.times -= 1
                    self.faults += 1
                    self.last_fault_at = time.monotonic()
                    return order.fault
        return None


class Exchange:
    """One request, for a fault to spoil."""

    def __init__(self, handler: _Handler, network: Network, request: Request) -> None:
        self._handler, self._network, self.request = handler, network, request

    def pass_on(self, body: bytes | None = None) -> Answer:
        """The request, or another body under its name, to the server."""
        request = self.request
        upstream = http.client.HTTPConnection(self._network.target)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        upstream.request(request.method, request.path, request.body if body is None else body, headers)
        answer = upstream.getresponse()
        told = Answer(answer.status, answer.getheaders(), answer.read())
        upstream.close()
        return told

    def answer(self, answer: Answer) -> None:
        self.begin(answer)
        if self.request.method != "HEAD":
            self.write(answer.body)

    def begin(self, answer: Answer) -> None:
        """The head of an answer, with the length of its whole body."""
        self._handler.send_response(answer.status)
        lengths = [value for name, value in answer.headers if name.lower() == "content-length"]
        for name, value in answer.headers:
            if name.lower() not in HOP_BY_HOP:
                self._handler.send_header(name, value)
        self._handler.send_header("Content-Length", lengths[0] if lengths else str(len(answer.body)))
        self._handler.end_headers()

    def write(self, piece: bytes) -> None:
        self._handler.wfile.write(piece)
        self._handler.wfile.flush()

    def close(self) -> None:
        """In order, though perhaps too early."""
        self._handler.close_connection = True

    def reset(self) -> None:
        """As from a machine that lost its memory: RST, no FIN."""
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())
        self._handler.close_connection = True


def status(number: int, code: str = "", **headers: str) -> Fault:
    """An answer of the server's own; `code` is S3's word for it."""
    body = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode() if code else b"told to fail"
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda exchange: exchange.answer(Answer(number, named, b"" if exchange.request.method == "HEAD" else body))


def reset(exchange: Exchange) -> None:
    """Before the request reaches the server."""
    exchange.reset()


def answer_lost(exchange: Exchange) -> None:
    """The server does it, and the job never hears."""
    exchange.pass_on()
    exchange.reset()


def truncated(exchange: Exchange) -> None:
    """Half of the body, then an orderly end."""
    answer = exchange.pass_on()
    exchange.begin(answer)
    exchange.write(answer.body[: len(answer.body) // 2])
    exchange.close()


def reset_in_body(exchange: Exchange) -> None:
    answer = exchange.pass_on()
    exchange.begin(answer)
    exchange.write(answer.body[: len(answer.body) // 2])
    exchange.reset()


def flipped(exchange: Exchange) -> None:
    """One bit of what comes back."""
    answer = exchange.pass_on()
    exchange.answer(answer._replace(body=flip(answer.body)))


def flipped_on_the_way_there(exchange: Exchange) -> None:
    exchange.answer(exchange.pass_on(flip(exchange.request.body)))


def garbage(exchange: Exchange) -> None:
    """Not HTTP."""
    exchange.write(b"\x00\xff" * 200 + b"\r\n\r\n")
    exchange.close()


def hang(seconds: float) -> Fault:
    """Takes the request and says nothing, then resets."""

    def do(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.reset()

    return do


def drip(seconds: float) -> Fault:
    """The answer in small pieces, over this time."""

    def do(exchange: Exchange) -> None:
        answer = exchange.pass_on()
        exchange.begin(answer)
        size = max(1, -(-len(answer.body) // DRIPS))
        for start in range(0, len(answer.body), size):
            time.sleep(seconds / DRIPS)
            exchange.write(answer.body[start : start + size])

    return do


def flip(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, network: Network) -> None:
        self.network = network
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", network.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or one that we left."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has left already


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, dict(self.headers.items()), sent)
        exchange = Exchange(self, self.server.network, request)
        fault = self.server.network.strike(request)
        if fault is None:
            exchange.answer(exchange.pass_on())
        else:
            fault(exchange)

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET

    def handle_expect_100(self) -> bool:
        passed = super().handle_expect_100()
        self.wfile.flush()  # else boto3 waits a second for this word
        return passed

    def log_message(self, format: str, *args: Any) -> None:
        return

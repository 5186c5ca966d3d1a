"""A web server that goes on from the middle of a file, breaks off, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


class Request(NamedTuple):
    """What somebody asked for."""

    path: str
    range: str | None


class FileServer:
    """The files of a folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[Request] = []
        self.break_off_after: int | None = None
        """Bytes after which the next answer, and only that, ends."""
        self.delay_s = 0.0
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Request(self.path, self.headers.get("Range"))
                double.requests.append(asked)
                time.sleep(double.delay_s)
                file = folder / urlsplit(self.path).path.lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                    return
                content = file.read_bytes()
                begin = int(re.findall(r"\d+", asked.range)[0]) if asked.range else 0
                if asked.range and begin >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if asked.range else 200)
                if asked.range:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                cut, double.break_off_after = double.break_off_after, None
                self.wfile.write(content[begin:][:cut])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

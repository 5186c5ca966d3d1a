"""A large file by HTTP: continued where a broken transfer stopped, never longer than it may be."""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

CONNECT_S, SILENCE_S = 10.0, 30.0
TOO_SLOW_BYTES_S, SLOW_AT_FIRST_S = 1000, 60.0
"""A server that sends a byte now and then is never silent, and never done."""
PAUSES_S = (0.5, 2.0, 5.0)
"""Before another attempt at a transfer that broke off or a server that was busy."""


class BrokeOff(OSError):
    """Worth another attempt."""


def fetch(url: str, part: Path, *, max_bytes: int, ca_bundle: Path | None = None) -> None:
    """Fills `part`, going on from what is already in it where the server can do that.

    Whether the whole is what it should be is for the caller to say: `part` may have been begun from another file.

    Raises:
        OSError: for everything that the network and the server do; `part` stays for the next attempt.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    for pause_s in PAUSES_S:
        try:
            return _fetch_once(url, part, max_bytes, ca_bundle)
        except BrokeOff:
            time.sleep(pause_s)
    return _fetch_once(url, part, max_bytes, ca_bundle)


def _fetch_once(url: str, part: Path, max_bytes: int, ca_bundle: Path | None) -> None:
    import httpx

    present = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={present}-"} if present else {})}
    trusted = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else True
    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    try:
        with httpx.stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=timeout, verify=trusted
        ) as answer:
            if url.startswith("https://") and answer.url.scheme != "https":
                raise OSError("the server leads from https to http")
            begun = _begun(answer, present)
            if begun is None:
                part.unlink()
                raise BrokeOff("the server has less than was already received")
            _write(answer, part, begun, max_bytes)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BrokeOff(f"{type(error).__name__}: {error}") from error


def _begun(answer: httpx.Response, present: int) -> int | None:
    """Where in the file the body begins; None: the server cannot go on from where we are."""
    status = answer.status_code
    if status == 206 and re.match(rf"bytes {present}-", answer.headers.get("Content-Range", "")):
        return present
    if status in (206, 416):
        return None
    if status >= 500 or status in (408, 429):
        raise BrokeOff(f"HTTP {status}")
    if status >= 400:
        raise OSError(f"HTTP {status}")
    return 0


def _write(answer: httpx.Response, part: Path, begun: int, max_bytes: int) -> None:
    too_long = OSError(f"it is longer than {max_bytes / 1e9:.0f} GB")
    if begun + int(answer.headers.get("Content-Length", 0)) > max_bytes:
        raise too_long
    since = time.monotonic()
    with part.open("r+b" if begun else "wb") as file:
        file.seek(begun)
        for piece in answer.iter_raw():  # as they come: gathered ones would be lost when it breaks off
            file.write(piece)
            if file.tell() > max_bytes:
                raise too_long
            took_s = time.monotonic() - since
            if took_s > SLOW_AT_FIRST_S and file.tell() - begun < took_s * TOO_SLOW_BYTES_S:
                raise BrokeOff(f"{file.tell() - begun} bytes came in {took_s:.0f} s")

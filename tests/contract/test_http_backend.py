"""What goes over the wire, and what no answer can do to us."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO

import pytest
from pydantic import SecretStr

from tests.doubles.backend import ContractBackend
from tests.doubles.rude_backend import Request, RudeBackend, plain
from tests.doubles.tls import private_authority
from trainer_sdk.callback import CallbackSettings, callback_problems
from trainer_sdk.delivery import http_backend
from trainer_sdk.delivery.backends import Rejected, Unavailable
from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.settings import Settings, settings_problems

PROGRESS = "/training/jobs/123/callback/progress"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def send(url: str, access: CallbackSettings | None = None) -> None:
    backend = HttpBackend(url, access)
    try:
        backend.deliver(PROGRESS, {"job_id": 123}, {"Idempotency-Key": "k", "X-Event-Sequence": "7"})
    finally:
        backend.close()


def test_who_we_are_is_in_headers() -> None:
    with RudeBackend(plain(200)) as server:
        send(server.url, CallbackSettings(token=SecretStr("t0ken"), secret=SecretStr("s3cret")))
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer t0ken"
    assert (request.headers["idempotency-key"], request.headers["x-event-sequence"]) == ("k", "7")
    expected = hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-signature-256"] == f"sha256={expected}"
    assert request.headers["content-type"] == "application/json"


def test_without_them_nothing_is_claimed() -> None:
    with RudeBackend(plain(200)) as server:
        send(server.url)
    assert not {"authorization", "x-signature-256"} & set(server.requests[0].headers)


def test_a_rotated_token_is_read_again_on_401(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    def guarded(request: Request, out: BinaryIO) -> None:
        taken = request.headers["authorization"] == "Bearer new"
        file.write_text("new\n")
        plain(200 if taken else 401)(request, out)

    with RudeBackend(guarded) as server:
        send(server.url, CallbackSettings(token_file=file))
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]


def test_a_token_that_stays_wrong_is_a_refusal_and_not_asked_twice(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    with RudeBackend(plain(401)) as server, pytest.raises(Rejected, match=r"HTTP 401"):
        send(server.url, CallbackSettings(token_file=tmp_path / "token"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("content", [None, b"two\nlines", b"\xff\xfe"])
def test_a_token_file_that_cannot_be_used_says_so_and_is_not_quoted(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with RudeBackend(plain(200)) as server, pytest.raises(Unavailable) as error:
        send(server.url, CallbackSettings(token_file=tmp_path / "token"))
    assert "CALLBACK_TOKEN_FILE" in str(error.value)
    assert "two" not in str(error.value)
    assert server.requests == []


def test_who_is_not_let_in_learns_which_variable_it_is() -> None:
    with RudeBackend(plain(401)) as server:
        with pytest.raises(Rejected, match=r"HTTP 401.*it wants CALLBACK_TOKEN to be set"):
            send(server.url, CallbackSettings())
        with pytest.raises(Rejected, match=r"HTTP 401.*correct CALLBACK_TOKEN"):
            send(server.url, CallbackSettings(token=SecretStr("t0ken")))


@pytest.mark.parametrize("status", [500, 401, 422])
def test_a_secret_that_the_backend_echoes_is_blotted_out(status: int) -> None:
    with RudeBackend(plain(status, b"bad: t0ken s3cret")) as server, pytest.raises((Rejected, Unavailable)) as error:
        send(server.url, CallbackSettings(token=SecretStr("t0ken"), secret=SecretStr("s3cret")))
    assert "bad: *** ***" in str(error.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(status: int) -> None:
    with RudeBackend(plain(200)) as other, RudeBackend(plain(status, location=f"{other.url}{PROGRESS}")) as server:
        with pytest.raises(Unavailable, match="redirect"):
            send(server.url, CallbackSettings(token=SecretStr("t0ken")))
        assert other.requests == []
        assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["", "http://[", "//evil.example/x", "ftp://127.0.0.1/"])
def test_a_redirect_to_nowhere_is_an_answer_like_any_other(location: str) -> None:
    with RudeBackend(plain(307, location=location)) as server, pytest.raises(Unavailable):
        send(server.url)
    assert len(server.requests) <= 1 + http_backend.MOST_REDIRECTS


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_server_keeps_method_body_and_credentials(status: int) -> None:
    with RudeBackend(plain(status, location="/elsewhere"), plain(200)) as server:
        send(server.url, CallbackSettings(token=SecretStr("t0ken")))
    first, second = server.requests
    assert (second.method, second.path, second.body) == ("POST", "/elsewhere", first.body)
    assert second.headers["authorization"] == "Bearer t0ken"


def test_redirects_in_a_circle_end() -> None:
    with RudeBackend(plain(307, location=PROGRESS)) as server, pytest.raises(Unavailable):
        send(server.url)
    assert len(server.requests) == 1 + http_backend.MOST_REDIRECTS


def endless_body(request: Request, out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        out.write(b"x" * 65536)


def trickle(head: bytes) -> Callable[[Request, BinaryIO], None]:
    def answer(request: Request, out: BinaryIO) -> None:
        out.write(head)
        while True:
            out.write(b"x")
            out.flush()
            time.sleep(0.02)

    return answer


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    with RudeBackend(endless_body) as server:
        send(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx-a: ", b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n"])
def test_an_answer_that_trickles_for_ever_is_cut(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(http_backend, "MOST_CALL_S", 0.5)
    with RudeBackend(trickle(head)) as server, pytest.raises(Unavailable, match="no whole answer"):
        send(server.url)


def test_over_tls_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http_backend, "MOST_CALL_S", 0.5)
    authority, context = private_authority(tmp_path)
    with RudeBackend(trickle(b"HTTP/1.1 200 OK\r\nx-a: "), tls=context) as server, pytest.raises(Unavailable):
        send(server.url, CallbackSettings(ca_bundle=authority))


def test_a_compressed_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    with RudeBackend(plain(422, bomb, content_encoding="gzip")) as server, pytest.raises(Rejected) as error:
        send(server.url)
    assert len(str(error.value)) < 300
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("3", 3, 3), ("0", 0, 0), ("in a minute", 30, 61), ("9" * 400, 600, 600)],
)
def test_retry_after_is_read_in_both_forms(header: str, least: float, most: float) -> None:
    header = formatdate(time.time() + 60, usegmt=True) if header == "in a minute" else header
    with RudeBackend(plain(503, retry_after=header)) as server, pytest.raises(Unavailable) as error:
        send(server.url)
    assert error.value.retry_after_s is not None
    assert least <= error.value.retry_after_s <= most


@pytest.mark.parametrize("header", ["soon", "-5", "1e3", "Fri, 99 Foo"])
def test_a_retry_after_that_makes_no_sense_is_none(header: str) -> None:
    with RudeBackend(plain(429, retry_after=header)) as server, pytest.raises(Unavailable) as error:
        send(server.url)
    assert error.value.retry_after_s is None


def test_a_private_authority_is_trusted_when_it_is_named_and_not_otherwise(tmp_path: Path) -> None:
    authority, context = private_authority(tmp_path)
    with RudeBackend(plain(200), tls=context) as server:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            send(server.url)
        send(server.url, CallbackSettings(ca_bundle=authority))
    assert len(server.requests) == 1


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(Unavailable, match="certificates"):
        send("https://127.0.0.1:9", CallbackSettings(ca_bundle=tmp_path / "ca.pem"))


def test_the_environments_proxy_is_used_and_its_exceptions_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    with RudeBackend(plain(200)) as proxy, RudeBackend(plain(200)) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        send("http://backend.example/api/v1")
        assert proxy.requests[0].path == f"http://backend.example/api/v1{PROGRESS}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        send(server.url)
        assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_a_proxy_that_is_none_does_not_leak_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://user:pa55word@proxy.example")
    with pytest.raises(Unavailable) as error:
        send("http://backend.example")
    assert "pa55word" not in str(error.value)


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"status": 7}', b"[" * 100_000, b"\xff"])
def test_a_state_that_cannot_be_understood_is_none(body: bytes) -> None:
    with RudeBackend(plain(200, body)) as server:
        assert HttpBackend(server.url).state("/training/jobs/123") is None


def test_the_state_is_what_the_backend_has(backend: ContractBackend) -> None:
    backend.jobs[123].status = "cancelled"
    client = HttpBackend(backend.url)
    assert client.state("/training/jobs/123") == "cancelled"
    assert client.state("/training/jobs/999") is None
    client.close()


def test_settings_are_read_and_secrets_do_not_show() -> None:
    environ = {
        "CALLBACK_TOKEN": " t0ken ",
        "CALLBACK_SECRET": "s3cret",
        "CALLBACK_MAX_RETRIES": "3",
        "CALLBACK_RETRY_DELAY": "2.0",
        "CALLBACK_INTERVAL": "1",
        "SSL_CERT_FILE": "/ca.pem",
    }
    callback = Settings.from_env(environ).callback
    assert (callback.max_retries, callback.retry_delay_s, callback.interval_s) == (3, 2.0, 1.0)
    assert callback.ca_bundle == Path("/ca.pem")
    assert callback.token is not None
    assert callback.token.get_secret_value() == "t0ken"
    assert not {"t0ken", "s3cret"} & set(str(callback).replace("'", " ").split())
    assert settings_problems(environ) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CALLBACK_MAX_RETRIES", "3.5", "CALLBACK_MAX_RETRIES='3.5' is not a whole number"),
        ("CALLBACK_MAX_RETRIES", "-1", "CALLBACK_MAX_RETRIES"),
        ("CALLBACK_RETRY_DELAY", "nan", "CALLBACK_RETRY_DELAY='nan' is not a number of seconds"),
        ("CALLBACK_INTERVAL", "0", "CALLBACK_INTERVAL='0' is not a number of seconds above 0"),
        ("CALLBACK_CA_BUNDLE", "/nowhere.pem", "CALLBACK_CA_BUNDLE='/nowhere.pem' is no file"),
        ("CALLBACK_TOKEN", "two\nlines", "CALLBACK_TOKEN holds"),
    ],
)
def test_what_is_wrong_is_said_and_counts_as_not_given(name: str, value: str, said: str) -> None:
    (problem,) = callback_problems({name: value})
    assert problem.startswith(said)
    assert "two" not in problem
    if "BUNDLE" not in name:
        assert CallbackSettings.from_env({name: value}) == CallbackSettings()


def test_two_tokens_are_one_too_many() -> None:
    (problem,) = callback_problems({"CALLBACK_TOKEN": "t0ken", "CALLBACK_TOKEN_FILE": "/file"})
    assert "name one" in problem
    assert "t0ken" not in problem


def test_the_http_library_does_not_log_what_we_send(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.WARNING, logger=name)  # as trainer_sdk.texts.console sets them
    with RudeBackend(plain(200)) as server:
        send(server.url, CallbackSettings(token=SecretStr("t0ken"), secret=SecretStr("s3cret")))
    assert "t0ken" not in caplog.text

"""Nonsense over HTTP and WebSockets: every answer is the client's fault, and the platform stays up."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from eventsplatform.entrypoints.websocket import FRAME_BYTES
from tests.support.platform import Account, RunningPlatform, event_fields
from tests.support.polling import eventually

REFUSALS = {400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 426, 431}
EXAMPLES = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)

# What JSON can say, and a few things that only look like it.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(
        ["\x00", "\ud800", "9999-12-31T23:59:59-23:59", "A" * 70_000, 10**400, -0.0, "' OR 1=1 --", "🦉"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def someone(platform: RunningPlatform) -> Account:
    return platform.sign_up()


@pytest.fixture(autouse=True)
def survives(platform: RunningPlatform) -> Iterator[None]:
    """After each test the same process serves, every engine answers, and a function still works."""
    yield
    assert platform.process.poll() is None, platform.output
    eventually(lambda: platform.http.get("/health").json()["status"] == "healthy", what="a healthy platform")
    assert platform.http.get("/v1/search/events").status_code == 200
    assert "Traceback" not in platform.output


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code in REFUSALS, f"{answer.request.method} {answer.request.url}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"


@EXAMPLES
@given(body=st.binary(max_size=400) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_bodies_of_any_kind_are_refused(platform: RunningPlatform, someone: Account, body: bytes) -> None:
    for path in ("/v1/events", "/v1/auth/register", "/v1/auth/login"):
        assert_refused(
            platform.http.post(path, content=body, headers={**someone.headers, "content-type": "application/json"})
        )


@EXAMPLES
@given(field=st.sampled_from(sorted(event_fields())), value=VALUES)
def test_any_value_of_a_field_is_taken_or_named(
    platform: RunningPlatform, someone: Account, field: str, value: Any
) -> None:
    answer = platform.http.post(
        "/v1/events",
        content=json.dumps(event_fields() | {field: value}),
        headers={**someone.headers, "content-type": "application/json"},
    )

    if answer.status_code == 201:
        assert platform.http.get(answer.headers["location"], headers=someone.headers).json() == answer.json()
    else:
        assert_refused(answer)
        if answer.status_code == 422:
            assert all(error["pointer"].startswith(f"/{field}") for error in answer.json()["errors"]) or (
                field == "ends_at" or field == "starts_at"
            )


@EXAMPLES
@given(path=st.binary(min_size=1, max_size=60), query=st.binary(max_size=60))
def test_paths_and_queries_of_any_kind_are_refused(platform: RunningPlatform, path: bytes, query: bytes) -> None:
    for prefix in ("/v1/x", "/v1/events/x", "/@connections/"):
        url = f"{platform.endpoints['gateway']}{prefix}{quote(path, safe='')}?{quote(query, safe='=&')}"
        answer = platform.http.get(url)
        assert answer.status_code in REFUSALS, f"{url}: {answer.status_code} {answer.text[:500]}"


@pytest.mark.parametrize(
    "identifier", ["0", "-1", "1e3", "99999999999999999999", "9223372036854775808", "١", "1%00", "..%2f..", "%ff"]
)
def test_ids_that_are_none_are_refused(platform: RunningPlatform, someone: Account, identifier: str) -> None:
    assert_refused(platform.http.get(f"/v1/events/{identifier}"))
    assert_refused(platform.http.post(f"/v1/events/{identifier}/registrations", headers=someone.headers))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nbroken header line\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=lambda request: repr(request[:40]),
)
def test_what_is_not_http_ends_its_own_connection_only(platform: RunningPlatform, request_bytes: bytes) -> None:
    with _connection(platform) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = _everything_from(connection)

    assert not answer or 400 <= int(answer.split(b" ", 2)[1]) < 500, answer[:200]


@EXAMPLES
@given(frame=st.text(max_size=80) | VALUES.map(json.dumps) | st.sampled_from(["{", "[]", "0", '{"action":null}']))
def test_text_frames_of_any_kind_are_answered_with_an_error(
    platform: RunningPlatform, someone: Account, frame: str
) -> None:
    encodable = frame.encode(errors="replace").decode()
    assume(len(encodable.encode()) <= FRAME_BYTES)
    with platform.socket(someone) as live:
        live.connection.send(encodable)
        answer = live.receive()
        assert answer.get("type") == "error" or "message" in answer

        assert live.request("ping")["type"] == "pong"


@pytest.mark.parametrize(
    "frame_bytes",
    [
        b"\xff" * 64,  # reserved bits and opcode
        b"\x81\x05hello",  # a client's frame without a mask
        b"\x81\x82\x00\x00\x00\x00\xc3\x28",  # text that is not UTF-8
        b"\x81\xff" + struct.pack(">Q", 2**63 - 1) + b"\x00" * 4,  # longer than anything
        b"\x80\x80\x00\x00\x00\x00",  # the continuation of nothing
        b"\x88\x81\x00\x00\x00\x00\x01",  # half a close code
        b"\x89\xfe\x00\x80\x00\x00\x00\x00" + b"p" * 128,  # a ping that is too long
        b"\x81\x85\x00",  # cut off
    ],
    ids=lambda frame: repr(frame[:8]),
)
def test_what_is_not_a_websocket_frame_ends_its_own_connection_only(
    platform: RunningPlatform, someone: Account, frame_bytes: bytes
) -> None:
    with platform.socket(someone) as bystander, _connection(platform) as connection:
        _upgrade(connection, someone)
        connection.sendall(frame_bytes)
        connection.shutdown(socket.SHUT_WR)
        _everything_from(connection)

        assert bystander.request("ping")["type"] == "pong"


def _connection(platform: RunningPlatform) -> closing[socket.socket]:
    gateway = urlsplit(platform.endpoints["gateway"])
    return closing(socket.create_connection((gateway.hostname, gateway.port or 80), timeout=20))


def _everything_from(connection: socket.socket) -> bytes:
    """What comes until the other side closes, however it does."""
    received = b""
    try:
        while data := connection.recv(65_536):
            received += data
    except ConnectionError:
        return received
    return received


def _upgrade(connection: socket.socket, account: Account) -> None:
    """The opening handshake of RFC 6455."""
    lines = [
        "GET /ws HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Authorization: Bearer {account.access_token}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer

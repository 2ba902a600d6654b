"""HTTP/1.1 connections: offers that are ignored, requests that are refused, streams that fail, and their end."""

import asyncio
import gc
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from app_api.connection import HttpConnection
from app_api.settings import ApiSettings, HttpSettings
from app_api.testing import served
from app_runtime.testing.processes import wait_until
from packages.api.tests.conftest import app_of

pytestmark = pytest.mark.integration

PATIENCE = 90
LAST = b"GET /probe/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


def add_routes(app: FastAPI) -> None:
    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"body": (await request.body()).decode(), "names": [*request.headers.keys()]}

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError

        return StreamingResponse(pieces())

    @app.get("/events", response_class=EventSourceResponse)
    async def events(*, fail: bool) -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(0.1)
        if fail:
            raise RuntimeError

    @app.get("/lines", response_class=StreamingResponse)
    async def lines() -> AsyncIterator[str]:
        yield "one"
        raise RuntimeError


@pytest.fixture(scope="module")
def port(api_settings: ApiSettings) -> Iterator[int]:
    """The port of a server with two routes of this module."""
    app = app_of(api_settings)
    add_routes(app)
    with served(app) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one after the other; return all that is answered until the connection is closed."""
    with connect(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.01)
        return b"".join(iter(lambda: client.recv(65536), b""))


def bodies(answer: bytes) -> list[Any]:
    return [json.loads(part.partition(b"\r\n\r\n")[2]) for part in answer.split(b"HTTP/1.1 ")[1:]]


OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
}
FRAMINGS = {
    "length": b'Content-Length: 7\r\n\r\n{"a":1}',
    "chunks": b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\nX-Harmless: 1\r\n\r\n',
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("size", [10_000, 1, 100])
def test_a_request_that_offers_an_upgrade_keeps_its_body(port: int, offer: bytes, framing: bytes, size: int) -> None:
    """RFC 9110, 7.8: a server may ignore what is offered. Java's HttpClient offers h2c with the first request."""
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + JSON + offer + framing
    sent = request + request + LAST

    answer = exchange(port, *[sent[start : start + size] for start in range(0, len(sent), size)])

    first, second, last = bodies(answer)
    assert first == second
    assert first["body"] == '{"a":1}'
    assert "x-harmless" not in first["names"]
    assert last == "ok"


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_what_follows_an_offer_without_a_body_is_read(port: int, offer: bytes) -> None:
    answer = exchange(port, b"GET /probe/live HTTP/1.1\r\nHost: localhost\r\n" + offer + b"\r\n" + LAST)

    assert bodies(answer) == ["ok", "ok"]


def test_an_offer_does_not_let_a_broken_body_through(port: int) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + JSON + OFFERS["h2c"]

    answer = exchange(port, head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n" + LAST)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("name", ["X-Harmless", "X-Request-ID", "Host", "Authorization", "Content-Type"])
def test_trailer_fields_are_no_header_fields(port: int, name: str) -> None:
    """RFC 9110, 6.5.1: a server that merges them lets a guard read one thing and a handler another."""
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine\r\n" + JSON
    body = f"Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{name}: trailer\r\n\r\n".encode()

    answer = exchange(port, head + body + LAST)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-request-id: mine" in answer
    assert bodies(answer)[0]["names"] == ["host", "x-request-id", "content-type", "transfer-encoding"]


MALFORMED = [
    *[b"GET /probe/live#x", b"GET /probe/live?a#", b"GET *", b"POST *", b"GET ftp://localhost/", b"GET http:///x"],
    *[b"GET http://localhost/#x", b"OPTIONS /#x"],
]


@pytest.mark.parametrize("line", MALFORMED, ids=lambda line: line.decode())
def test_a_target_that_no_client_sends_is_refused(port: int, line: bytes) -> None:
    """RFC 9112, 3.2: no form of a target has a fragment, and `*` is for OPTIONS alone."""
    answer = exchange(port, line + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")


ELSEWHERE = [
    (b"http://evil.test/probe/live", b"localhost"),
    (b"http://localhost/probe/live", b"evil.test"),
    (b"http://localhost:81/probe/live", b"localhost"),
    (b"http://localhost/probe/live", b"127.0.0.1"),
    (b"http://u:p@localhost/probe/live", b"localhost"),
    (b"http://evil.test", b"localhost"),
]


@pytest.mark.parametrize(("target", "host"), ELSEWHERE)
def test_a_target_for_another_host_is_refused(port: int, target: bytes, host: bytes) -> None:
    """RFC 9112, 3.2.2: the target counts, not the Host field; a proxy in front may have read the other one."""
    answer = exchange(port, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_host" in answer


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://localhost/probe/live", b"localhost"),
        (b"HTTP://LOCALHOST:80/probe/live", b"localhost"),
        (b"https://localhost/probe/live?", b"localhost:443"),
        (b"http://localhost?", b"localhost"),
        (b"http://localhost", b"localhost:80"),
    ],
)
def test_an_absolute_target_for_our_host_is_served(port: int, target: bytes, host: bytes) -> None:
    answer = exchange(port, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_the_server_in_general_says_its_methods(port: int) -> None:
    answer = exchange(port, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"allow: DELETE, GET, HEAD, PATCH, POST, PUT\r\n" in answer


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_body_is_framed_in_one_way(port: int, fields: bytes) -> None:
    """RFC 9112, 6.1 and 6.3: what follows such a body might be read as a request, or not."""
    answer = exchange(port, b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + JSON + fields + LAST)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_half_a_stream_is_no_whole_one_for_a_proxy_that_speaks_http_1_0(port: int) -> None:
    """As nginx does by default: without chunks the end of the connection would be the end of the answer."""
    answer = exchange(port, b"GET /half HTTP/1.0\r\nHost: localhost\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"4\r\nhalf\r\n"


@pytest.mark.parametrize("path", [b"/half", b"/events?fail=1", b"/lines"])
def test_a_stream_of_events_that_fails_has_no_end(port: int, path: bytes) -> None:
    """RFC 9112, 8: a chunked answer without its last chunk is incomplete. FastAPI 0.165 ends failed events with one."""
    answer = exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_stream_of_events_that_is_whole_has_an_end_and_leaves_the_connection_usable(port: int) -> None:
    answer = exchange(port, b"GET /events?fail=0 HTTP/1.1\r\nHost: localhost\r\n\r\n" + LAST)

    first, _, second = answer.partition(b"0\r\n\r\n")
    assert b'data: "one"' in first
    assert second.startswith(b"HTTP/1.1 200 ")


def living() -> int:
    return sum(isinstance(each, HttpConnection) for each in gc.get_objects())


@pytest.mark.parametrize("request_", [b"", LAST.replace(b"Connection: close\r\n", b""), LAST[:-2]])
def test_a_connection_that_was_reset_leaves_nothing_behind(port: int, request_: bytes) -> None:
    """uvicorn 0.54 kept the timer of such a connection until it fired, and with it all objects of the connection."""
    gc.collect()
    gc.disable()
    before = living()
    try:
        for _ in range(20):
            with connect(port) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(request_)
                if request_.endswith(b"\r\n\r\n"):
                    client.recv(65536)

        assert wait_until(lambda: living() <= before, 5)
    finally:
        gc.enable()


def test_an_idle_connection_is_kept_for_its_time(api_settings: ApiSettings) -> None:
    http = HttpSettings.model_validate({"port": 0, "keep_alive": 1})
    with served(app_of(api_settings), http=http) as port, closing(connect(port)) as client:
        client.sendall(LAST.replace(b"Connection: close\r\n", b""))
        answer = b""
        while not (b"\r\n\r\n" in answer and answer.endswith(b'"')):
            answer += client.recv(65536)
        began = time.monotonic()

        assert client.recv(1) == b""

    assert 0.8 < time.monotonic() - began < 4.5  # uvicorn's own time is 5 s

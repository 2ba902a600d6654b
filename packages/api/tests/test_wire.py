"""Behaviour that only a socket shows: connections that are kept and closed, and bodies that are never sent."""

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from app_api.settings import ApiSettings
from app_api.testing import served
from packages.api.tests.conftest import app_of

SECRET = "do-not-repeat-me"
JSON = {"Content-Type": "application/json"}


def add_faults(app: FastAPI) -> None:
    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError(SECRET)

    @app.get("/boom-midway")
    async def boom_midway() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError(SECRET)

        return StreamingResponse(pieces())


@pytest.fixture(scope="module")
def port(api_settings: ApiSettings) -> Iterator[int]:
    """The port of a uvicorn that serves the application, with two routes that fail."""
    app = app_of(api_settings)
    add_faults(app)
    with served(app) as port:
        yield port


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    """One connection, which never reconnects by itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.auto_open = 0
    yield connection
    connection.close()


def is_alive(connection: http.client.HTTPConnection) -> bool:
    connection.request("GET", "/probe/live")
    return connection.getresponse().read() == b'"ok"'


def test_a_fault_of_ours_leaves_the_connection_usable(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/boom")

    response = connection.getresponse()

    body = response.read().decode()
    assert response.status == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert SECRET not in body
    assert response.headers["X-Request-ID"] in body
    assert is_alive(connection)


def test_a_response_that_breaks_off_is_not_taken_for_a_whole_one(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/boom-midway")

    response = connection.getresponse()

    with pytest.raises(http.client.IncompleteRead):
        response.read()


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b"NaN", b"\xff\xfe", b"9" * 5000, rb'"\ud800"', rb'"\u0000"', b"", b"null", b'{"email": 1e999}'],
    ids=range(9),
)
def test_bad_input_leaves_the_connection_usable(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/auth/register", body=body, headers=JSON)

    response = connection.getresponse()

    response.read()
    assert response.status in {400, 422}
    assert is_alive(connection)


def test_head_sends_the_length_and_no_body(connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", "/probe/live")

    response = connection.getresponse()

    assert response.status == 200
    assert response.headers["Content-Length"] == "4"
    assert response.read() == b""
    assert is_alive(connection)


def test_a_body_that_announces_itself_as_too_large_is_answered_before_it_is_sent(
    connection: http.client.HTTPConnection,
) -> None:
    connection.putrequest("POST", "/auth/register")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10**9))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()

    response = connection.getresponse()

    assert response.status == 413
    assert response.headers["Connection"] == "close"
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_body_that_grows_too_large_is_answered_and_the_connection_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        head = "POST /auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        client.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n" + b"1\r\n \r\n")

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_an_answer_reaches_a_client_that_goes_on_sending(port: int) -> None:
    size = 16 * 1024 * 1024
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        head = f"POST /auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(head.encode() + b" " * size)

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"payload_too_large" in answer


def test_a_client_that_stops_sending_is_not_waited_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"POST /auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n ")

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_response_that_takes_too_long_breaks_off(api_settings: ApiSettings) -> None:
    app = app_of(ApiSettings.model_validate(api_settings.model_dump() | {"http": {"request_timeout": "PT0.2S"}}))

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            await asyncio.Event().wait()

        return StreamingResponse(pieces())

    with served(app) as port, closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/endless")
        response = connection.getresponse()

        with pytest.raises(http.client.IncompleteRead):
            response.read()


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"FOO", b"OPTIONS"])
def test_a_method_that_is_not_ours_is_refused(port: int, method: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(method + b" /auth/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.split(b" ")[1] in {b"400", b"405"}


@pytest.mark.parametrize("target", [b"/\xff", b"/\xc3\xa9", b"/%ff", b"/%", b"//", b"/jobs?after=\xff", b"*"])
def test_a_strange_target_is_an_error_of_the_client(port: int, target: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("hosts", [b"", b"Host: evil.test\r\n", b"Host: \r\n"])
def test_a_request_without_a_host_of_ours_is_refused(port: int, hosts: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /probe/live HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")

        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_host" in answer

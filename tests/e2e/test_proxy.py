"""deploy/haproxy.cfg in front of a real API: limits that an application cannot set, as it gets whole requests only."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .processes import Api
from .proxy import PATIENCE, exchange, proxied

HEAD = b"GET /probe/live HTTP/1.1\r\nHost: localhost\r\n"
SECOND = b"GET /probe/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = b"POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

REFUSED = {
    "no host": b"GET /probe/live HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: evil.test\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a chunk that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
    "two encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a target of another kind": b"GET @evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another site's target": b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    "a bare CR": HEAD + b"X: a\rb\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}

TOO_MUCH = {
    "101 fields": (HEAD + b"X: y\r\n" * 100 + b"\r\n", 431, "header_too_large"),
    "17 KiB of fields": (HEAD + b"X: " + b"y" * 17 * 1024 + b"\r\n\r\n", 431, "header_too_large"),
    "9 KiB of target": (b"GET /" + b"y" * 9 * 1024 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "uri_too_long"),
    "a trace": (b"TRACE /probe/live HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method_not_allowed"),
}


@pytest.fixture(scope="module")
def proxy(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an HAProxy in front of the API."""
    with proxied(api.url.removeprefix("http://"), log=tmp_path_factory.mktemp("proxy") / "log") as port:
        yield port


@pytest.mark.parametrize("request_", list(REFUSED.values()), ids=list(REFUSED))
def test_what_can_be_read_in_two_ways_is_refused_with_all_that_follows(proxy: int, request_: bytes) -> None:
    answer = exchange(proxy, request_ + SECOND)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(("request_", "status", "code"), list(TOO_MUCH.values()), ids=list(TOO_MUCH))
def test_what_is_too_long_is_refused_with_a_problem(proxy: int, request_: bytes, status: int, code: str) -> None:
    answer = exchange(proxy, request_ + SECOND)

    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head.lower()
    assert b"cache-control: no-store" in head.lower()
    assert (problem["status"], problem["code"]) == (status, code)
    assert f"x-request-id: {problem['request_id']}".lower().encode() in head.lower()


def test_length_and_chunks_together_leave_one_reading(proxy: int) -> None:
    answer = exchange(proxy, POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("value", [b"a\r\n b", b"a\0b", b"a\xffb"], ids=["fold", "NUL", "ff"])
def test_a_strange_field_does_no_harm(proxy: int, value: bytes) -> None:
    answer = exchange(proxy, HEAD + b"Connection: close\r\nX: " + value + b"\r\n\r\n")

    assert answer.split(b" ")[1] in {b"200", b"400"}
    assert answer.count(b"HTTP/1.") == 1


def test_a_header_without_end_is_cut_off_early(proxy: int) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.sendall(HEAD + b"X: ")
        try:
            while sent < 16 * 1024 * 1024:
                sent += client.send(b"y" * 65536)
        except OSError:  # closed before all was sent
            pass

    assert sent < 16 * 1024 * 1024


def test_a_client_that_never_finishes_its_header_is_cut_off(proxy: int) -> None:
    beginnings = [b"", b"G", HEAD, HEAD + b"X: y\r\n"] * 25
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE)) for _ in beginnings
        ]
        for client, beginning in zip(clients, beginnings, strict=True):
            client.sendall(beginning)

        meanwhile = exchange(proxy, SECOND)

        answers = [b"".join(iter(lambda: client.recv(65536), b"")) for client in clients]  # noqa: B023  used at once
    assert meanwhile.startswith(b"HTTP/1.1 200 ")
    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


def test_a_body_that_is_too_large_is_refused_through_the_proxy(proxy: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy, timeout=PATIENCE)) as connection:
        connection.request("POST", "/auth/register", body=b" " * (64 * 1024 + 1))

        response = connection.getresponse()

        assert json.loads(response.read())["code"] == "payload_too_large"
        assert response.status == 413


def test_an_answer_of_the_api_comes_through_as_it_is(proxy: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy, timeout=PATIENCE)) as connection:
        connection.request("GET", "/auth/me", headers={"X-Request-ID": "mine"})

        response = connection.getresponse()

        assert json.loads(response.read())["request_id"] == "mine"
        assert response.headers["X-Request-ID"] == "mine"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert len(response.headers.get_all("X-Content-Type-Options") or []) == 1
        assert "Server" not in response.headers


def test_without_an_api_the_proxy_says_to_try_again(tmp_path: Path) -> None:
    with proxied("127.0.0.1:1", log=tmp_path / "log") as port:
        answer = exchange(port, SECOND)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head.lower()
    assert json.loads(body)["code"] == "unavailable"

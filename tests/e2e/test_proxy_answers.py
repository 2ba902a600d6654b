"""The answers that deploy/haproxy.cfg gives itself: problems like the API's, readable by pages of other origins."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from app_api.http_names import METHODS, RESPONSE_HEADERS

from .proxy import PATIENCE, exchange, proxied, release

ORIGIN = "https://app.example.test"
ORIGINS = f"https://admin.example.test {ORIGIN}"
HEAD = "GET /probe/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"

OWN = {
    "unavailable": (HEAD, 503),
    "two long a target": (HEAD.replace("live", "y" * 9000), 414),
    "too many fields": (HEAD + "X: y\r\n" * 101, 431),
    "no host": (HEAD.replace("Host: localhost\r\n", ""), 400),
    "a trace": (HEAD.replace("GET", "TRACE"), 405),
}


GIVES_FILES = (3, 3)
"""The first release of HAProxy that sends the error file when its parser refuses (its issue 3032, mux_h1.c)."""
REFUSED_BY_THE_PARSER = {
    "a malformed name": (HEAD + "B@d name: x\r\n\r\n", 400),
    "two lengths": (HEAD + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    "a header that never ends": (HEAD, 408),
    "40 KiB of fields": (HEAD + f"X: {'y' * 40960}\r\n\r\n", 431),
    "40 KiB of target": (HEAD.replace("live", "y" * 40960) + "\r\n", 414),
    "another transfer coding": (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n", 422),
}
"""With the status of newer releases: older ones answer 400 where the request is too long."""


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return int(status.split()[1]), headers, body


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an HAProxy without any API behind it, which allows two origins."""
    with proxied("127.0.0.1:1", log=tmp_path_factory.mktemp("proxy") / "log", origins=ORIGINS) as port:
        yield port


@pytest.mark.parametrize(("head", "status"), OWN.values(), ids=OWN)
def test_what_the_proxy_says_itself_can_be_read_by_a_page_that_may_ask(alone: int, head: str, status: int) -> None:
    """Fetch, 3.3.4: without these fields a page learns only that the request failed."""
    answer = exchange(alone, f"{head}Origin: {ORIGIN}\r\n\r\n".encode())

    found, headers, body = parsed(answer)
    problem = json.loads(body)
    assert (found, problem["status"]) == (status, status)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-expose-headers"] == ", ".join(RESPONSE_HEADERS)
    assert headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.test", "null", f"{ORIGIN}.evil.test", ORIGINS])
def test_what_the_proxy_says_itself_is_not_for_other_pages(alone: int, origin: str) -> None:
    _, headers, _ = parsed(exchange(alone, f"{HEAD}Origin: {origin}\r\n\r\n".encode()))

    assert not [name for name in headers if name.startswith("access-control-")]
    assert headers["vary"] == "Origin"


@pytest.mark.parametrize(("head", "status"), REFUSED_BY_THE_PARSER.values(), ids=REFUSED_BY_THE_PARSER)
def test_what_the_parser_of_the_proxy_refuses_is_a_problem_where_the_release_can(
    alone: int, head: str, status: int
) -> None:
    """HAProxy reads this answer when it starts, so it has no request id and is readable by pages of all origins."""
    found, headers, body = parsed(exchange(alone, head.encode()))

    if release() < GIVES_FILES:
        assert found in {400, status}
        assert headers["content-type"] == "text/html"
        return
    problem = json.loads(body)
    assert (found, problem["status"]) == (status, status)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert "request_id" not in problem
    assert headers["access-control-allow-origin"] == "*"


def test_no_request_has_the_target_of_an_options(alone: int) -> None:
    """HAProxy 2.6 leaves the refusal to our rules; the parser of newer releases refuses."""
    found, headers, _ = parsed(exchange(alone, f"{HEAD.replace('/probe/live', '*')}\r\n".encode()))

    assert (found, headers["content-type"]) == (400, "application/problem+json")


def test_the_proxy_offers_the_methods_of_the_api(alone: int) -> None:
    _, headers, _ = parsed(exchange(alone, (OWN["a trace"][0] + "\r\n").encode()))

    assert headers["allow"] == ", ".join(METHODS)


class Patient(BaseHTTPRequestHandler):
    """Keeps connections open for ever, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.startswith("/probe"):
            time.sleep(0.5)  # so that the clients need a connection each
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Counting(ThreadingHTTPServer):
    """Counts its open connections."""

    open_connections = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing when a connection was reset."""

    def process_request_thread(self, request: object, client_address: object) -> None:
        self.open_connections += 1
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]  # as it comes
        finally:
            self.open_connections -= 1


def test_the_proxy_gives_up_idle_connections_before_the_api_does(tmp_path: Path) -> None:
    """RFC 9112, 9.3.1: a request on a connection that the server is about to close gets no answer.

    Users of nginx and of Go's proxies report it again and again; HAProxy repeats only requests that it may repeat.
    """
    with Counting(("127.0.0.1", 0), Patient) as server, ExitStack() as stack:
        thread = Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        port = stack.enter_context(proxied(f"127.0.0.1:{server.server_port}", log=tmp_path / "log"))
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(4)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        busiest = server.open_connections
        began = time.monotonic()

        while server.open_connections > 1 and time.monotonic() - began < PATIENCE:  # one may be that of a health check
            time.sleep(0.1)

    assert busiest >= len(clients)
    assert time.monotonic() - began < 25  # log2(4) + 2 times pool-purge-delay, and some

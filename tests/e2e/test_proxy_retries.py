"""deploy/haproxy.cfg in front of two hosts of the API, one of which dies at every request."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from .proxy import exchange, proxied

REQUEST = "{method} /auth/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TIMES = 4


class Living(BaseHTTPRequestHandler):
    """Answers each request with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the name that http.server asks for

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Dying(Living):
    """Closes the connection without an answer, except to probes."""

    def do_GET(self) -> None:
        if self.path.startswith("/probe/"):
            super().do_GET()
        else:
            self.close_connection = True

    do_POST = do_GET  # noqa: N815  as above


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[int]:
    """The port of an HAProxy in front of both."""
    with (
        serving(Dying) as dying,
        serving(Living) as living,
        proxied(dying, living, log=tmp_path / "log") as port,
    ):
        yield port


def statuses(port: int, method: str) -> set[bytes]:
    request = REQUEST.format(method=method).encode()
    return {exchange(port, request).split(b" ", 2)[1] for _ in range(TIMES)}


def test_a_read_that_a_dying_host_left_unanswered_is_asked_of_another(proxy: int) -> None:
    assert statuses(proxy, "GET") == {b"200"}


def test_a_write_that_a_dying_host_left_unanswered_is_never_repeated(proxy: int) -> None:
    assert statuses(proxy, "POST") == {b"200", b"502"}

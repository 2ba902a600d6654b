"""A client for attacks, with control over its connection and over every byte that it sends.

A `Wire` is one client at one address on one connection, which it opens anew only after an answer that announced the
close: a server that closes it unannounced fails the test. So does an answer of 500, or one that takes ten seconds.
"""

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any
from urllib.parse import urlencode, urlsplit

HANG = 10.0
"""Seconds after which a request counts as one that hangs."""
KEPT_FOR = 3.0
"""Seconds for which a connection without requests is surely kept; the server closes it after five."""
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that has been read completely."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def outcome(self) -> tuple[int, str | None]:
        """The status, and the `code` of a problem document, which is checked to be complete."""
        if self.status < 400 or not self.body:
            return self.status, None
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        problem = self.json
        assert {"type", "title", "detail", "instance"} <= problem.keys()
        assert problem["status"] == self.status
        assert problem["request_id"] == self.headers["X-Request-ID"]
        return self.status, problem["code"]

    @property
    def seen_by_a_stranger(self) -> tuple[int, list[str], bytes]:
        """All that could tell two answers apart, without the request id, which is new for every request."""
        names = sorted(name.lower() for name in self.headers)
        request_id = (self.headers["X-Request-ID"] or "-").encode()
        return self.status, names, self.body.replace(request_id, b"")


class Wire:
    """One client. With `address`, it sends X-Forwarded-For as a proxy that the server trusts."""

    def __init__(self, url: str, *, address: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.address = address
        self.may_fail = False
        """Whether the test has broken the server, so that a 500 is the right answer."""
        self._last_answer = time.monotonic()
        self._connection = self._connect()

    def _connect(self) -> HTTPConnection:
        connection = HTTPConnection(self.host, self.port, timeout=HANG)
        connection.connect()
        connection.auto_open = 0
        return connection

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        bearer: str | None = None,
    ) -> Reply:
        """Send a request and read the answer, over a new connection if the last answer announced the close."""
        if self._connection.sock is None:
            self._connection = self._connect()
        told = {"X-Forwarded-For": self.address} if self.address else {}
        proof = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        with suppress(BrokenPipeError, ConnectionResetError):  # the server answered before it read all
            self._connection.request(method, path, body=body, headers={**told, **proof, **(headers or {})})
        response = self._connection.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        self._last_answer = time.monotonic()
        assert reply.status != 500 or self.may_fail, reply.body
        return reply

    def get(self, path: str, **how: Any) -> Reply:
        return self.request("GET", path, **how)

    def post(self, path: str, fields: object = None, **how: Any) -> Reply:
        """Post JSON; a string may hold half of a surrogate pair."""
        body = b"" if fields is None else json.dumps(fields).encode()
        return self.request("POST", path, body=body, headers={**JSON, **how.pop("headers", {})}, **how)

    def post_form(self, path: str, fields: Mapping[str, str] | Sequence[tuple[str, str]]) -> Reply:
        return self.request("POST", path, body=urlencode(fields).encode(), headers=FORM)

    def register(self, email: str, password: str) -> Reply:
        return self.post("/auth/register", {"email": email, "password": password})

    def login(self, email: str, password: str) -> Reply:
        return self.post_form("/auth/access-token", {"username": email, "password": password})

    def tokens(self, email: str, password: str) -> tuple[str, str]:
        """Sign in; return the access token and the refresh token."""
        reply = self.login(email, password)
        assert reply.status == 200, reply.body
        return reply.json["access_token"], reply.json["refresh_token"]

    def refresh(self, token: str) -> Reply:
        return self.post("/auth/refresh-token", {"refresh_token": token})

    def me(self, access_token: str | None) -> Reply:
        return self.get("/auth/me", bearer=access_token)

    def lives(self) -> bool:
        """Whether the same connection, unless its end was announced, still answers."""
        reply = self.get("/probe/live")
        return (reply.status, reply.body) == (200, b'"ok"')

    @property
    def is_idle(self) -> bool:
        """Whether the server may close the connection at any moment, because it got no request for some seconds."""
        return time.monotonic() - self._last_answer > KEPT_FOR

    def reconnect(self) -> None:
        """Go on over a new connection: an idle one may be closed after five seconds."""
        self.close()
        self._connection = self._connect()

    def close(self) -> None:
        self._connection.close()


def an_address() -> str:
    """A random client address of a network that belongs to nobody (RFC 2544)."""
    return f"198.{random.choice((18, 19))}.{random.randrange(256)}.{random.randrange(1, 255)}"


def at_once[W, T](call: Callable[[W], T], each: Sequence[W]) -> list[T]:
    """Make all calls at the same moment, each in its own thread, and return their results in order."""
    start = threading.Barrier(len(each))

    def when_all_are_there(one: W) -> T:
        start.wait(HANG)
        return call(one)

    with ThreadPoolExecutor(len(each)) as threads:
        return list(threads.map(when_all_are_there, each))


def say(url: str, data: bytes) -> bytes:
    """Open a connection, send exactly these bytes, and return all bytes that come until the server closes it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG) as client:
        try:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):  # the server closed before it read all
            return b""

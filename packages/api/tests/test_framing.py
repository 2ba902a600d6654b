"""Statements that a request makes twice must agree: the length and the type of its body, and its path."""

from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from starlette.types import Message

from app_api.lifespan import State
from app_api.testing import assert_problem

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


async def test_a_body_that_is_said_to_be_two_things_is_refused(client: AsyncClient) -> None:
    """RFC 9110, 5.3: such a field stands once; a server that takes the last of two would read a form here."""
    twice = [(b"Content-Type", JSON.encode()), (b"Content-Type", FORM.encode())]

    response = await client.post("/auth/register", content=b"{}", headers=twice)

    assert_problem(response, 400, "malformed_request")


@pytest.mark.parametrize("name", ["Content-Encoding", "Content-Length", "Transfer-Encoding"])
async def test_a_header_field_that_decides_is_there_once(client: AsyncClient, name: str) -> None:
    value = {"Content-Encoding": "identity", "Content-Length": "2", "Transfer-Encoding": "chunked"}[name]
    twice = [("Content-Type", JSON), (name, value), (name, value)]

    response = await client.post("/auth/register", content=b"{}", headers=twice)

    assert_problem(response, 400, "malformed_request")
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize("length", ["0", "1", "3"])
async def test_a_body_of_another_length_than_announced_is_refused(client: AsyncClient, length: str) -> None:
    """RFC 9112, 6.3: a server that believes the other length would take the rest for the beginning of a request."""
    headers = {"Content-Type": JSON, "Content-Length": length}

    response = await client.post("/auth/register", content=b"{}", headers=headers)

    assert_problem(response, 400, "invalid_content_length")
    assert response.headers["Connection"] == "close"


PATHS = [("/jobs/%zz", 400), ("/jobs/%", 400), ("/%e", 400), ("/%ff", 422), ("/probe/%ED%A0%80", 422)]


@pytest.mark.parametrize(("path", "status"), PATHS)
async def test_a_path_that_can_be_read_in_two_ways_is_refused(
    app: FastAPI, state: State, path: str, status: int
) -> None:
    """RFC 3986, 2.1: an escape is two hexadecimal digits. Readers keep, drop or replace others, and bad UTF-8."""
    answer = await asked(app, state, path=unquote(path), raw_path=path.encode())

    assert answer == status


@pytest.mark.parametrize(("path", "raw"), [("/probe/live", b"/auth/me"), ("/probe/live", b"/probe%2")])
async def test_path_and_raw_path_say_the_same(app: FastAPI, state: State, path: str, raw: bytes) -> None:
    assert await asked(app, state, path=path, raw_path=raw) == 400


async def test_a_server_may_keep_the_raw_path_to_itself(app: FastAPI, state: State) -> None:
    assert await asked(app, state, path="/probe/live", raw_path=None) == 200


async def asked(app: FastAPI, state: State, *, path: str, raw_path: bytes | None) -> int:
    """Ask an application without a client's help, and return the status."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": raw_path,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": None,
        "scheme": "http",
        "http_version": "1.1",
        "state": dict(state),
    }
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request"}

    await app(scope, receive, send)
    return statuses[0]


REFUSED_TYPES = [
    ("POST", "/auth/register", {"Content-Type": "text/plain"}, {"Accept": "application/json"}),
    ("POST", "/auth/access-token", {"Content-Type": JSON}, {"Accept": FORM}),
    ("POST", "/auth/register", {"Content-Encoding": "gzip"}, {"Accept-Encoding": "identity"}),
    ("PATCH", "/auth/me", {"Content-Type": "text/plain"}, {"Accept": JSON, "Accept-Patch": JSON}),
]


@pytest.mark.parametrize(("method", "path", "headers", "expected"), REFUSED_TYPES)
async def test_what_is_refused_for_its_media_type_is_told_what_would_be_taken(
    client: AsyncClient, method: str, path: str, headers: dict[str, str], expected: dict[str, str]
) -> None:
    """RFC 9110, 15.5.16, 12.5.1 and 12.5.3; RFC 5789, 2.2."""
    response = await client.request(method, path, content=b"x", headers=headers)

    assert response.status_code == 415
    found = {name: response.headers[name] for name in response.headers if name.startswith("accept")}
    assert found == {name.lower(): value for name, value in expected.items()}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_without_a_body_there_is_nothing_to_decode(client: AsyncClient, method: str) -> None:
    """RFC 9110, 8.4: Content-Encoding says how the body is coded; many clients send it with each request."""
    response = await client.request(method, "/auth/me", headers={"Content-Encoding": "gzip"})

    assert response.status_code != 415

"""Cases 57 to 60: requests that are too large, come from other sites, or use a wrong path or method.

Cases 54 to 56 need the proxy: test_proxy.py.
"""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app_auth.testing import PASSWORD, Account
from app_db import Database
from tests.attack.conftest import Connect, StartApi, an_email
from tests.attack.wire import HANG, JSON, Reply, Wire, at_once, say

SMALL = 64 * 1024
LARGE = 1024 * 1024


def padded(size: int) -> bytes:
    """A JSON body of exactly this many bytes."""
    body = json.dumps({"email": an_email(), "password": PASSWORD}).encode()
    return body + b" " * (size - len(body))


def in_chunks(body: bytes, size: int = 8192) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


# case 57
def test_a_body_of_64_kib_is_read(wire: Wire) -> None:
    assert wire.request("POST", "/auth/register", body=padded(SMALL), headers=JSON).status == 202


# case 57
def test_a_body_of_one_byte_more_is_too_large_for_accounts(wire: Wire) -> None:
    reply = wire.request("POST", "/auth/register", body=padded(SMALL + 1), headers=JSON)

    assert reply.outcome == (413, "payload_too_large")
    assert reply.headers["Connection"] == "close"


# case 57
@pytest.mark.parametrize("path", ["/auth/register", "/auth/access-token", "/auth/password/reset"])
def test_a_body_in_chunks_is_too_large_at_the_same_size(connect: Connect, path: str) -> None:
    wire = connect()
    connection = HTTPConnection(wire.host, wire.port, timeout=HANG)
    connection.request("POST", path, body=in_chunks(padded(SMALL + 1)), headers=JSON, encode_chunked=True)

    response = connection.getresponse()

    assert Reply(response.status, response.headers, response.read()).outcome == (413, "payload_too_large")
    connection.close()


# case 57
def test_a_body_that_waits_to_be_asked_for_is_refused_before_it_is_sent(connect: Connect) -> None:
    wire = connect()
    head = "POST /auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    answer = say(
        f"http://{wire.host}:{wire.port}", f"{head}Content-Length: {SMALL + 1}\r\nExpect: 100-continue\r\n\r\n".encode()
    )

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


# case 57
@pytest.mark.slow  # a server of its own, and a hundred tries of 8 MiB
def test_a_hundred_bodies_that_are_too_large_leave_no_memory_behind(start_api: StartApi, connect: Connect) -> None:
    api = start_api()

    def refused(wire: Wire) -> int:
        return wire.request("POST", "/auth/register", body=b" " * 8 * LARGE, headers=JSON).status

    at_once(refused, [connect(api) for _ in range(10)])
    before = resident_kib(api.pid)
    for _ in range(10):
        assert set(at_once(refused, [connect(api) for _ in range(10)])) == {413}

    assert resident_kib(api.pid) - before <= 10 * 1024


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


# case 58
@pytest.mark.parametrize("host", ["evil", "evil.test:8000", "localhost.evil.test", "localhost@evil.test", "[::2]", ""])
def test_a_host_that_is_not_ours_is_refused(wire: Wire, host: str) -> None:
    reply = wire.get("/probe/live", headers={"Host": host})

    assert reply.outcome == (400, "invalid_host")


# case 58
@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://localhost.evil.test"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_other_site_is_told_that_it_may_read_us(wire: Wire, method: str, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Evil"}

    reply = wire.request(method, "/auth/me", headers=headers)

    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


# case 58
@pytest.mark.slow  # a server of its own
def test_a_site_that_is_named_may_read_us_and_send_what_is_listed(start_api: StartApi, connect: Connect) -> None:
    wire = connect(start_api(APP_HTTP__CORS_ORIGINS='["https://app.example.test"]'))
    asks = {"Origin": "https://app.example.test", "Access-Control-Request-Method": "GET"}

    granted = wire.request("OPTIONS", "/auth/me", headers={**asks, "Access-Control-Request-Headers": "authorization"})
    refused = wire.request("OPTIONS", "/auth/me", headers={**asks, "Access-Control-Request-Headers": "x-evil"})
    other = wire.request("OPTIONS", "/auth/me", headers={**asks, "Origin": "https://app.example.test.evil.test"})

    assert granted.status == 200
    assert granted.headers["Access-Control-Allow-Origin"] == "https://app.example.test"
    assert refused.outcome[0] == 400
    assert other.headers["Access-Control-Allow-Origin"] is None


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}


def methods_of(paths: dict[str, Any], path: str) -> set[str]:
    """Return the methods of a path, which may match several templates."""
    # The name of a cron may have slashes, so its path fits those of actions too, but for GET.
    patterns = {each: re.sub(r"{\w+}", ".+" if each == "/jobs/crons/{name}" else "[^/]+", each) for each in paths}
    fitting = [each for each, pattern in patterns.items() if re.fullmatch(pattern, path)]
    offered = {method.upper() for each in fitting for method in paths[each]} & METHODS
    return offered | {"HEAD"} if "GET" in offered else offered


# case 59
def test_every_route_knows_its_methods_and_refuses_the_others(wire: Wire) -> None:
    paths: dict[str, Any] = wire.get("/openapi.json").json["paths"]

    for template in paths:
        path = re.sub(r"{\w+}", "0190b0b0-0000-7000-8000-000000000000", template)
        offered = methods_of(paths, path)
        for method in METHODS - offered:
            reply = wire.request(method, path)
            assert reply.outcome == (405, None if method == "HEAD" else "method_not_allowed"), (method, path)
            assert {*reply.headers["Allow"].split(", ")} == offered, (method, path)
            assert reply.headers["Access-Control-Allow-Origin"] is None


# case 59
def test_head_answers_as_get_and_without_a_body(wire: Wire, ada: Account) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    paths = [("/probe/live", None), ("/probe/health", None), ("/auth/me", access), ("/auth/me", None), ("/nope", None)]

    for path, bearer in paths:
        head, get = wire.request("HEAD", path, bearer=bearer), wire.get(path, bearer=bearer)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


# case 59
@pytest.mark.parametrize("path", ["/auth/me/", "//auth/me", "/auth//me", "/AUTH/me", "/auth/me/..", "/./auth/me"])
def test_a_path_that_is_almost_one_of_ours_is_none_and_redirects_nowhere(wire: Wire, path: str) -> None:
    reply = wire.get(path)

    assert reply.outcome == (404, "not_found")
    assert reply.headers["Location"] is None


# case 59
def test_a_method_that_nobody_knows_is_refused(wire: Wire) -> None:
    reply = wire.request("FOO", "/auth/me")

    assert reply.status in {400, 405}  # some parsers refuse it themselves


# case 59
def test_connect_is_refused(wire: Wire) -> None:
    answer = say(f"http://{wire.host}:{wire.port}", b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 405", b"HTTP/1.1 404"}


SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def assert_hardened(reply: Reply) -> None:
    assert {name: reply.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert reply.headers["Server"] is None
    assert reply.headers["Set-Cookie"] is None


# case 60
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/probe/live", {}, 200),
        ("GET", "/auth/me", {}, 401),
        ("GET", "/nope", {}, 404),
        ("DELETE", "/probe/live", {}, 405),
        ("GET", "/probe/live", {"Host": "evil"}, 400),
        ("POST", "/auth/register", {"Content-Type": "text/plain"}, 415),
        ("POST", "/auth/register", JSON, 422),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_every_answer_carries_the_security_headers(
    wire: Wire, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = wire.request(method, path, headers=headers, body=b"{}" if method == "POST" else None)

    assert reply.status == status
    assert_hardened(reply)


# cases 60, 68
async def test_a_fault_of_ours_carries_the_security_headers_and_no_detail(
    connect: Connect, database: Database, ada: Account
) -> None:
    wire = connect()
    wire.may_fail = True
    owner = await asyncpg.connect(database.settings.direct_dsn)
    await owner.execute("ALTER TABLE user_sessions ADD CONSTRAINT nobody_knows CHECK (false) NOT VALID")
    try:
        reply = wire.refresh(f"rt_{'0' * 32}.0.{'A' * 43}")
        fault = wire.login(ada.email, ada.password)
    finally:
        await owner.execute("ALTER TABLE user_sessions DROP CONSTRAINT nobody_knows")
        await owner.close()

    assert reply.status == 400  # its MAC is wrong, so the database is not asked
    assert fault.outcome == (500, "internal_error")
    assert fault.json.keys() == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert fault.json["detail"] == "Something went wrong on our side."
    assert_hardened(fault)

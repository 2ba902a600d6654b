"""Cases 1 to 17: input that naive code misreads, truncates, or crashes on."""

import json
import secrets

import pytest

from app_auth.testing import PASSWORD, Account
from app_db import Database
from tests.attack.conftest import Connect, StartApi, an_email, count
from tests.attack.wire import FORM, JSON, Wire

TEXTS = [
    ("/auth/register", "email"),
    ("/auth/register", "password"),
    ("/auth/refresh-token", "refresh_token"),
    ("/auth/password/forgot", "email"),
    ("/auth/password/reset", "token"),
    ("/auth/password/reset", "new_password"),
    ("/auth/email/verify", "token"),
    ("/auth/email/verify", "password"),
    ("/auth/email/verify/resend", "email"),
]
FIELDS = {
    "/auth/register": {"email": "eve@example.test", "password": PASSWORD},
    "/auth/refresh-token": {"refresh_token": "x"},
    "/auth/password/forgot": {"email": "eve@example.test"},
    "/auth/password/reset": {"token": "x", "new_password": PASSWORD},
    "/auth/email/verify": {"token": "x", "password": PASSWORD},
    "/auth/email/verify/resend": {"email": "eve@example.test"},
}
"""Valid fields for each route that takes JSON from strangers."""


# case 1
@pytest.mark.parametrize(
    ("password", "outcome"),
    [
        ("x" * 73, (400, "invalid_grant")),
        ("x" * 1024, (400, "invalid_grant")),
        ("é" * 512, (400, "invalid_grant")),
        ("x" * 1025, (422, "password_too_long")),
        ("é" * 513, (422, "password_too_long")),
    ],
    ids=["73", "1024", "512 of two bytes", "1025", "513 of two bytes"],
)
def test_how_long_a_login_password_may_be_says_nothing_about_the_account(
    wire: Wire, ada: Account, password: str, outcome: tuple[int, str]
) -> None:
    known = wire.login(ada.email, password)
    unknown = wire.login(an_email(), password)

    assert known.status == outcome[0], known.body
    assert known.seen_by_a_stranger == unknown.seen_by_a_stranger


# case 2
@pytest.mark.slow  # a server of its own
def test_every_character_of_a_long_password_counts_from_registration_to_login(
    start_api: StartApi, connect: Connect
) -> None:
    api = start_api(APP_AUTH__VERIFICATION="off")
    for length in (72, 73, 200, 256):
        wire, email, password = connect(api), an_email(), secrets.token_urlsafe(256)[:length]

        assert wire.register(email, password).status == 201
        assert wire.login(email, password).status == 200
        assert wire.login(email, password[:-1]).outcome == (400, "invalid_grant")


# cases 3, 4
@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("x7-K!m2 Qz9_pL", "password_too_short"),
        ("", "password_too_short"),
        (" " * 15, "password_too_common"),
        ("passwordpassword", "password_too_common"),
        ("123456789012345", "password_too_common"),
        ("aaaaaaaaaaaaaaa", "password_too_common"),
        ("evelyn.hastingsevelyn.hastings", "password_too_common"),
        ("x" * 257, "password_too_long"),
    ],
)
def test_a_password_that_is_guessed_first_is_refused(wire: Wire, password: str, code: str) -> None:
    reply = wire.register("evelyn.hastings@example.test", password)

    assert reply.outcome == (422, code)


# cases 5, 6
@pytest.mark.parametrize("code_point", [0, 0xD800, 0xDFFF, 0xD83D], ids=hex)
@pytest.mark.parametrize(("path", "field"), TEXTS, ids=lambda value: value.rsplit("/")[-1])
def test_text_that_postgres_cannot_hold_is_refused_in_every_field(
    wire: Wire, path: str, field: str, code_point: int
) -> None:
    reply = wire.post(path, {**FIELDS[path], field: f"{chr(code_point)}{PASSWORD}"})

    assert reply.outcome == (422, "invalid_text")


# case 5
@pytest.mark.parametrize("body", [b"username=a%00b&password=x", b"username=a&password=%00", b"username=a\0&password=x"])
def test_nul_in_a_login_form_is_refused(wire: Wire, body: bytes) -> None:
    reply = wire.request("POST", "/auth/access-token", body=body, headers=FORM)

    assert reply.outcome == (422, "invalid_text")


# case 5
@pytest.mark.parametrize("target", ["/jobs/%00", "/jobs?after=%00", "/auth/sessions/%00", "/%00"])
def test_nul_in_a_target_is_refused(wire: Wire, target: str) -> None:
    reply = wire.get(target)

    assert reply.status in {404, 422}, reply.body


# case 6
def test_a_character_beyond_the_basic_plane_is_no_half_of_one(wire: Wire) -> None:
    body = b'{"email": "%s", "password": "\\ud83d\\ude00 and what follows it"}' % an_email().encode()

    reply = wire.request("POST", "/auth/register", body=body, headers=JSON)

    assert reply.status == 202, reply.body


# cases 7, 8, 9, 10
@pytest.mark.parametrize(
    "body",
    [
        b'{"email": NaN, "password": "x"}',
        b'{"email": Infinity}',
        b'{"email": -Infinity}',
        b'{"email": 1e999}',
        b'{"email": ' + b"9" * 5000 + b"}",
        b"9" * 5000,
        b"[" * 50_000,
        b'{"a":' * 12_000,
        b"\xff\xfe",
        '{"email": "a@example.test"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{} {}",
        b'{"email": "a@example.test", "email": "b@example.test", "password": "x"}',
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize("path", FIELDS)
def test_a_body_that_is_not_one_strict_json_object_is_refused(wire: Wire, path: str, body: bytes) -> None:
    reply = wire.request("POST", path, body=body, headers=JSON)

    assert reply.outcome[0] in {400, 422}
    assert b"example.test" not in reply.body


# case 9
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000], ids=["lists", "objects"])
def test_a_body_of_a_hundred_thousand_brackets_is_too_large_to_be_read(wire: Wire, body: bytes) -> None:
    reply = wire.request("POST", "/auth/register", body=body, headers=JSON)

    assert reply.outcome == (413, "payload_too_large")


# case 9
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000], ids=["lists", "objects"])
def test_a_hundred_thousand_brackets_are_no_json_where_so_much_may_be_sent(wire: Wire, body: bytes) -> None:
    reply = wire.request("POST", "/jobs/bulk", body=body, headers=JSON)

    assert reply.outcome == (400, "invalid_json")


# case 11
@pytest.mark.parametrize("twice", ["username", "password"])
def test_a_login_form_that_names_a_field_twice_is_refused(wire: Wire, ada: Account, twice: str) -> None:
    fields = [("username", ada.email), ("password", ada.password)]

    reply = wire.post_form("/auth/access-token", [*fields, (twice, "x"), *fields])

    assert reply.outcome == (400, "invalid_request")
    assert reply.json["error"] == "invalid_request"


# case 12
@pytest.mark.parametrize(
    "more",
    [
        {"is_superuser": True},
        {"role": "operator"},
        {"id": "0190b0b0-0000-7000-8000-000000000000"},
        {"hashed_password": "x"},
        {"password_hash": "x"},
        {"email_verified": True},
        {"email_verified_at": "2026-01-01T00:00:00Z"},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_nobody_registers_as_more_than_they_are(wire: Wire, database: Database, more: dict[str, object]) -> None:
    reply = wire.post("/auth/register", {"email": an_email(), "password": PASSWORD, **more})

    assert reply.outcome == (422, "validation_failed")
    for table in ("users", "one_time_tokens", "audit_events", "jobs"):
        assert await count(database, f"SELECT count(*) FROM {table}") == 0


# case 13
@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml"],
)
@pytest.mark.parametrize("path", FIELDS)
def test_a_body_that_does_not_call_itself_json_is_refused_unquoted(wire: Wire, path: str, media_type: str) -> None:
    body = json.dumps(FIELDS[path] | {"note": "do-not-repeat-me"}).encode()

    reply = wire.request("POST", path, body=body, headers={"Content-Type": media_type} if media_type else {})

    assert reply.outcome == (415, "unsupported_media_type")
    assert b"do-not-repeat-me" not in reply.body


# case 13
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_body_in_a_content_coding_is_refused(wire: Wire, coding: str) -> None:
    reply = wire.post("/auth/register", FIELDS["/auth/register"], headers={"Content-Encoding": coding})

    assert reply.outcome[0] == 415


# case 14
@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"password": "b"}, "invalid_request"),
        ({"username": "a"}, "invalid_request"),
        ({}, "invalid_request"),
    ],
)
def test_the_token_endpoint_names_its_failures_as_oauth_does(wire: Wire, form: dict[str, str], code: str) -> None:
    reply = wire.post_form("/auth/access-token", form)

    assert reply.outcome == (400, code)
    assert reply.json["error"] == code


STRANGE_IDS = ["9223372036854775808", "-1", "1.0", "1_0", "%201", "%D9%A1", "9" * 5000, "null", "..%2f..%2fetc"]


# cases 8, 15
@pytest.mark.parametrize("strange", STRANGE_IDS, ids=lambda value: value[:12])
def test_what_is_no_id_is_refused_alike_for_every_resource(wire: Wire, ada: Account, strange: str) -> None:
    access, _ = wire.tokens(ada.email, ada.password)

    jobs = wire.get(f"/jobs/{strange}", bearer=access)
    sessions = wire.request("DELETE", f"/auth/sessions/{strange}", bearer=access)

    assert jobs.outcome[0] in {404, 422}
    assert sessions.outcome == jobs.outcome


# cases 8, 16
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=101", "limit=1e3", "limit=9999999999", "limit=" + "9" * 5000, "after=nonsense"],
    ids=lambda value: value[:14],
)
def test_a_page_that_cannot_be_is_refused(wire: Wire, ada: Account, query: str) -> None:
    access, _ = wire.tokens(ada.email, ada.password)

    reply = wire.get(f"/jobs?{query}", bearer=access)

    assert reply.outcome[0] == 422


# case 17
@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"&".join(b"f%d=1" % number for number in range(2000)), FORM["Content-Type"]),
        (b"username=" + b"x" * 2**20, FORM["Content-Type"]),
        (
            b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % n for n in range(1001))
            + b"--x--",
            "multipart/form-data; boundary=x",
        ),
    ],
    ids=["2000 fields", "one of 1 MiB", "1001 parts"],
)
def test_a_form_that_wants_to_be_work_is_refused(wire: Wire, body: bytes, media_type: str) -> None:
    reply = wire.request("POST", "/auth/access-token", body=body, headers={"Content-Type": media_type})

    assert reply.outcome[0] in {400, 413, 415}

"""Input that reaches no handler: bodies that are too large, and text and numbers that Postgres cannot hold."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import FastAPI, Form
from httpx2 import AsyncClient
from pydantic import BaseModel
from starlette.types import Message

from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from packages.api.tests.conftest import app_of

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MAX_BODY = 1024 * 1024
MAX_AUTH_BODY = 64 * 1024

INVALID_JSON = {
    "NaN": b'{"email": NaN}',
    "Infinity": b'{"email": Infinity}',
    "-Infinity": b'{"email": -Infinity}',
    "NaN inside": b'{"a": [{"b": NaN}]}',
    "NaN alone": b"NaN",
    "duplicate member": b'{"email": "a@b.test", "email": "c@d.test"}',
    "duplicate member, escaped": rb'{"email": "a@b.test", "\u0065mail": "c@d.test"}',
    "duplicate member, inside": b'{"a": [{"b": 1, "b": 2}]}',
    "depth 65, arrays": b"[" * 65 + b"]" * 65,
    "depth 65, objects": b'{"a":' * 64 + b"[]" + b"}" * 64,
    "deeper than the parser goes": b"[" * 30_000 + b"]" * 30_000,
    "60000 open brackets": b"[" * 60_000,
    "12000 open members": b'{"a":' * 12_000,
    "5000 digits": b'{"email": ' + b"9" * 5000 + b"}",
    "invalid UTF-8": b'{"email": "\xff\xfe"}',
    "only ff fe": b"\xff\xfe",
    "an encoded surrogate": b'{"email": "\xed\xa0\x80"}',
    "UTF-16": '{"email": "a@b.test"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"email": "a@b.test"}'.encode("utf-16-le"),
    "UTF-32": '{"email": "a@b.test"}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"email": "a@b.test"}',
    "raw NUL": b'{"email": "a\0b"}',
    "trailing bytes": b'{"email": "a@b.test"} {}',
    "a trailing comma": b'{"email": "a@b.test",}',
    "single quotes": b"{'email': 1}",
    "a comment": b"{} // x",
    "cut off": b'{"email": "a@b',
    "only a space": b" ",
    "a form": b"email=a%40b.test",
}

INVALID_TEXT = {
    "NUL in a value": rb'{"email": "a\u0000@b.test"}',
    "NUL in a name": rb'{"a\u0000": 1}',
    "NUL inside": rb'{"a": [{"b": "\u0000"}]}',
    "NUL alone": rb'"\u0000"',
    "high surrogate": rb'{"email": "\ud800"}',
    "low surrogate": rb'{"email": "\udfff"}',
    "half a pair": rb'{"email": "a\ud83d"}',
    "surrogates in the wrong order": rb'{"email": "\ude00\ud83d"}',
    "surrogate in a name": rb'{"\ud800": 1}',
    "surrogate inside": rb'[[["\udc00"]]]',
}

OUT_OF_RANGE = {
    "2^63": b'{"email": 9223372036854775808}',
    "-2^63-1": b'{"email": -9223372036854775809}',
    "4000 digits": b'{"email": ' + b"9" * 4000 + b"}",
    "1e999": b'{"email": 1e999}',
    "-1e999": b'{"email": -1e999}',
    "inside": b"[[9223372036854775808]]",
}

# These pass the guard; the schema has to refuse them.
STRICT_JSON = {
    "2^63-1": b'{"email": 9223372036854775807}',
    "-2^63": b'{"email": -9223372036854775808}',
    "the largest float": b'{"email": 1.7976931348623157e308}',
    "depth 64": b"[" * 64 + b"]" * 64,
    "null": b"null",
    "a list": b"[]",
    "a string": b'"x"',
    "true": b"true",
    "a whole pair": rb'{"email": "\ud83d\ude00"}',
    "spaces": b' \r\n\t{"email": 1} ',
}

INVALID_FORMS = {
    "username twice": b"username=a%40b.test&username=c%40d.test&password=x",
    "password twice": b"username=a%40b.test&password=x&password=y",
    "twice, escaped": b"username=a&password=x&%70assword=y",
    "101 fields": b"&".join(b"f%d=1" % number for number in range(101)),
    "2000 fields": b"&".join(b"f%d=1" % number for number in range(2000)),
    "invalid UTF-8": b"username=\xff&password=x",
    "escapes of Latin-1": b"username=a%40b.test&password=%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC%FC",
}


def by_name(cases: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("body", list(cases.values()), ids=list(cases))


async def in_chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@by_name(INVALID_JSON)
async def test_what_is_not_strict_json_is_refused(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/register", content=body, headers={"Content-Type": JSON})

    assert_problem(response, 400, "invalid_json")


@by_name(INVALID_TEXT)
async def test_text_that_postgres_cannot_hold_is_refused(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/register", content=body, headers={"Content-Type": JSON})

    assert_problem(response, 422, "invalid_text")


@by_name(OUT_OF_RANGE)
async def test_a_number_that_no_column_can_hold_is_refused(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/register", content=body, headers={"Content-Type": JSON})

    assert_problem(response, 422, "number_out_of_range")


@by_name(STRICT_JSON)
async def test_strict_json_is_left_to_the_schema(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/register", content=body, headers={"Content-Type": JSON})

    assert_problem(response, 422, "validation_failed")


@by_name(INVALID_FORMS)
async def test_a_form_that_can_be_read_in_two_ways_is_refused(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/access-token", content=body, headers={"Content-Type": FORM})

    assert_problem(response, 400, "invalid_request")


@by_name(
    {
        "NUL in a value": b"username=a%00&password=x",
        "raw NUL in a value": b"username=a\0&password=x",
        "NUL in a name": b"username=a&password=x&%00=1",
    }
)
async def test_a_form_with_nul_is_refused(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/access-token", content=body, headers={"Content-Type": FORM})

    assert_problem(response, 422, "invalid_text")


async def test_a_form_with_a_hundred_fields_is_left_to_the_schema(client: AsyncClient) -> None:
    body = b"username=a&password=b&" + b"&".join(b"f%d=1" % number for number in range(98))

    response = await client.post("/auth/access-token", content=body, headers={"Content-Type": FORM})

    assert_problem(response, 422, "validation_failed")


@pytest.mark.parametrize(
    "body",
    [rb'{"refresh_token": "\u0000"}', rb'{"refresh_token": "\ud800"}', rb'{"\u0000": "x"}'],
)
async def test_other_routes_are_guarded_alike(client: AsyncClient, body: bytes) -> None:
    response = await client.post("/auth/refresh-token", content=body, headers={"Content-Type": JSON})

    assert_problem(response, 422, "invalid_text")


@pytest.mark.parametrize(
    "target", ["/jobs/%00", "/jobs?after=%00", "/jobs?%00=1", "/nowhere/%00", "/probe/live?x=a%00b"]
)
async def test_nul_in_the_target_is_refused(client: AsyncClient, signed_in: SignedIn, target: str) -> None:
    response = await client.get(target, headers=signed_in.headers)

    assert_problem(response, 422, "invalid_text")


@pytest.mark.parametrize("target", ["/jobs/%ED%A0%80", "/jobs?after=%ED%A0%80", "/jobs/%FF", "/jobs?limit=%FF"])
async def test_a_surrogate_in_the_target_is_refused(client: AsyncClient, signed_in: SignedIn, target: str) -> None:
    response = await client.get(target, headers=signed_in.headers)

    assert response.status_code == 422


@pytest.mark.parametrize("media_type", [JSON, "Application/JSON; charset=utf-8", "application/vnd.api+json"])
async def test_every_name_of_json_is_guarded(client: AsyncClient, media_type: str) -> None:
    response = await client.post("/auth/register", content=b"NaN", headers={"Content-Type": media_type})

    assert_problem(response, 400, "invalid_json")


@pytest.mark.parametrize(
    "media_type",
    [
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/xml",
        b"json",
        b"text/x+json",
        b"application/json\xa0",
    ],
)
async def test_what_is_no_json_is_refused_where_json_is_asked_for(client: AsyncClient, media_type: bytes) -> None:
    body = b'{"email": "do-not-repeat@b.test"}'

    response = await client.post("/auth/register", content=body, headers=[(b"Content-Type", media_type)])

    assert_problem(response, 415, "unsupported_media_type")
    assert "do-not-repeat" not in response.text


async def test_a_body_that_does_not_say_what_it_is_is_refused(client: AsyncClient) -> None:
    response = await client.post("/auth/register", content=b"{}")

    assert "Content-Type" not in response.request.headers
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", [b"", b"text/plain", JSON.encode(), b"multipart/form-data; boundary=x"])
async def test_what_is_no_form_is_refused_where_a_form_is_asked_for(client: AsyncClient, media_type: bytes) -> None:
    body = b"username=do-not-repeat&password=x"

    response = await client.post("/auth/access-token", content=body, headers=[(b"Content-Type", media_type)])

    assert_problem(response, 415, "unsupported_media_type")
    assert "do-not-repeat" not in response.text


@pytest.mark.parametrize("media_type", [JSON, FORM])
async def test_where_no_body_is_asked_for_it_must_still_be_json(client: AsyncClient, media_type: str) -> None:
    response = await client.post("/auth/logout", content=b"{}", headers={"Content-Type": media_type})

    assert response.status_code == (401 if media_type == JSON else 415)


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip", "br", ""])
async def test_a_compressed_body_is_refused(client: AsyncClient, encoding: str) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": encoding}

    response = await client.post("/auth/register", content=b"{}", headers=headers)

    assert_problem(response, 415, "unsupported_content_encoding")


async def test_a_body_that_says_that_it_is_not_compressed_is_read(client: AsyncClient) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": "Identity"}

    response = await client.post("/auth/register", content=b"{}", headers=headers)

    assert_problem(response, 422, "validation_failed")


async def test_of_two_content_types_the_one_that_is_parsed_is_checked(client: AsyncClient) -> None:
    twice = [(b"Content-Type", JSON.encode()), (b"Content-Type", FORM.encode())]

    response = await client.post("/auth/register", content=b"NaN", headers=twice)

    assert_problem(response, 400, "invalid_json")


@pytest.mark.parametrize("media_type", [JSON, FORM])
async def test_an_empty_body_is_left_to_the_schema(client: AsyncClient, media_type: str) -> None:
    response = await client.post("/auth/register", content=b"", headers={"Content-Type": media_type})

    assert_problem(response, 422, "validation_failed")


@pytest.mark.parametrize(("path", "size"), [("/auth/register", MAX_AUTH_BODY), ("/jobs/bulk", MAX_BODY)])
async def test_a_body_as_large_as_allowed_is_read(
    client: AsyncClient, operator: SignedIn, path: str, size: int
) -> None:
    body = json.dumps({"email": "x" * (size - len('{"email": ""}'))}).encode()
    assert len(body) == size

    response = await client.post(path, content=body, headers=operator.headers | {"Content-Type": JSON})

    assert_problem(response, 422, "validation_failed")


@pytest.mark.parametrize("media_type", [JSON, FORM, "text/plain", ""])
@pytest.mark.parametrize(("path", "size"), [("/auth/register", MAX_AUTH_BODY), ("/jobs/bulk", MAX_BODY)])
async def test_a_body_that_announces_itself_as_too_large_is_refused_unread(
    client: AsyncClient, path: str, size: int, media_type: str
) -> None:
    read: list[bytes] = []

    async def noted() -> AsyncIterator[bytes]:
        read.append(b" ")
        yield read[-1]

    headers = {"Content-Type": media_type, "Content-Length": str(size + 1), "Expect": "100-continue"}
    response = await client.post(path, content=noted(), headers=headers)

    assert_problem(response, 413, "payload_too_large")
    assert response.headers["Connection"] == "close"
    assert read == []


@pytest.mark.parametrize(("path", "size"), [("/auth/register", MAX_AUTH_BODY), ("/jobs/bulk", MAX_BODY)])
async def test_a_body_that_turns_out_too_large_is_refused(client: AsyncClient, path: str, size: int) -> None:
    response = await client.post(path, content=in_chunks(b" " * size, b" "), headers={"Content-Type": JSON})

    assert_problem(response, 413, "payload_too_large")
    assert response.headers["Connection"] == "close"


async def test_a_body_that_never_ends_is_given_up(api_settings: ApiSettings) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    impatient = ApiSettings.model_validate(api_settings.model_dump() | {"http": {"body_timeout": "PT0.1S"}})
    async with open_client(app_of(impatient)) as client:
        response = await client.post("/auth/register", content=trickle(), headers={"Content-Type": JSON})

    assert_problem(response, 408, "slow_body")
    assert response.headers["Connection"] == "close"


async def test_a_body_in_chunks_arrives_whole(client: AsyncClient) -> None:
    response = await client.post(
        "/auth/register",
        content=in_chunks(b'{"email": "a@b.te', b'st", "extra', b'": 1}'),
        headers={"Content-Type": JSON},
    )

    errors = assert_problem(response, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == ["#/password", "#/extra"]


@pytest.mark.parametrize("length", ["abc", "9" * 5000, "", "1.5", "+2", "0_2", " 2"])
async def test_a_length_that_is_no_number_is_refused(client: AsyncClient, length: str) -> None:
    headers = {"Content-Type": JSON, "Content-Length": length}

    response = await client.post("/auth/register", content=b"{}", headers=headers)

    assert_problem(response, 400, "invalid_content_length")


async def test_half_a_body_is_not_acted_on(app: FastAPI, state: State, api_settings: ApiSettings) -> None:
    acted: list[bool] = []

    @app.post("/act")
    async def act() -> None:
        acted.append(True)

    incoming: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    outgoing: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        outgoing.append(message)

    await app(post_to("/act", dict(state)), receive, send)

    assert acted == []
    assert outgoing == []


async def test_raw_nul_in_the_query_is_refused(app: FastAPI, state: State) -> None:
    outgoing: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        outgoing.append(message)

    await app(post_to("/nowhere", dict(state)) | {"query_string": b"a=\0"}, receive, send)

    assert outgoing[0]["status"] == 422


def post_to(path: str, state: dict[str, object]) -> dict[str, object]:
    """Return the ASGI scope of a request that no client would send."""
    headers = [(b"host", b"localhost"), (b"content-type", JSON.encode())]
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
        "state": state,
    }


async def test_the_body_of_a_get_is_not_looked_at(client: AsyncClient) -> None:
    response = await client.request("GET", "/probe/live", content=b"access_token=x", headers={"Content-Type": "x/y"})

    assert response.status_code == 200


class TickedRows(BaseModel):
    ids: list[int] = []
    act: str


@pytest.mark.parametrize(
    ("body", "status"), [("ids=1&ids=2&act=x", 200), ("act=x&act=y&ids=1", 400), ("act=x&" + "ids=1&" * 1000, 400)]
)
async def test_a_form_gives_a_list_once_for_each_entry(
    app: FastAPI, client: AsyncClient, body: str, status: int
) -> None:
    @app.post("/rows")
    async def act(form: Annotated[TickedRows, Form()]) -> list[int]:
        return form.ids

    response = await client.post("/rows", content=body, headers={"Content-Type": FORM})

    assert response.status_code == status
    assert status != 200 or response.json() == [1, 2]

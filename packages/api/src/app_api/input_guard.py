"""What no handler ever has to think of: bodies that are too large, and text and numbers that Postgres cannot hold."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app_api.problems import PayloadTooLarge, UnsupportedMediaType, app_error_response
from app_db.errors import AppError, BadRequest, Invalid

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**63 - 1  # a bigint


class InvalidJson(BadRequest):
    """The body is not valid JSON (RFC 8259), names a member twice, or is nested too deep."""

    code = "invalid_json"


class InvalidForm(BadRequest):
    """The form is malformed, or names a field twice."""

    code = "invalid_request"


class InvalidLength(BadRequest):
    """Content-Length is not a number."""

    code = "invalid_content_length"


class InvalidText(Invalid):
    """Text must not contain U+0000 or half of a surrogate pair."""

    code = "invalid_text"


class NumberOutOfRange(Invalid):
    """A number is too large."""

    code = "number_out_of_range"


class InputGuard:
    """Reads the body up to `max_body` bytes, refuses what is not strict JSON or a plain form, and hands it on."""

    def __init__(self, app: ASGIApp, *, max_body: int) -> None:
        self.app = app
        self.max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            _check_target(scope)
            # Of a repeated header the first counts, as for Starlette: what is checked must be what is parsed.
            headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))
            body = await self._read(headers, receive)
            if body:
                _check_body(headers.get(b"content-type", b"").split(b";")[0].strip().lower(), body)
        except ClientDisconnect:
            return  # half a body: nothing is done with it, and nobody waits for an answer
        except AppError as error:
            await app_error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the whole body; one that announces itself as too large is refused unread."""
        try:
            announced = int(headers.get(b"content-length", b"0"))
        except ValueError:  # no server that we know lets it through
            raise InvalidLength from None
        if announced > self.max_body:
            raise PayloadTooLarge  # guard: test_a_body_that_announces_itself_as_too_large_is_refused_unread
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect  # guard: test_half_a_body_is_not_acted_on
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.max_body:
                raise PayloadTooLarge  # guard: test_a_body_that_turns_out_too_large_is_refused
            if not message.get("more_body", False):
                return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what really comes: a disconnect."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _check_target(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise InvalidText  # guard: test_nul_in_the_target_is_refused


def _check_body(media_type: bytes, body: bytes) -> None:
    if media_type == b"application/json" or media_type.endswith(b"+json"):
        _check_json(body)
    elif media_type == b"application/x-www-form-urlencoded":
        _check_form(body)
    else:  # also what FastAPI might still take for JSON or a form: nothing gets past unchecked
        raise UnsupportedMediaType  # guard: test_a_body_that_is_neither_json_nor_a_form_is_refused


def _check_form(body: bytes) -> None:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise InvalidForm from None
    if len({name for name, _ in fields}) != len(fields):  # RFC 6749, 3.2
        raise InvalidForm  # guard: test_a_form_that_can_be_read_in_two_ways_is_refused
    for pair in fields:
        for text in pair:
            _check_text(text)  # guard: test_a_form_with_nul_is_refused


def _check_json(body: bytes) -> None:
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # also: not UTF-8, or an integer of thousands of digits
        raise InvalidJson from None
    pending = [(value, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidJson  # guard: test_what_is_not_strict_json_is_refused
        if isinstance(node, dict):
            for name in node:
                _check_text(name)  # guard: test_text_that_postgres_cannot_hold_is_refused
            pending.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            pending.extend((child, depth + 1) for child in node)
        elif isinstance(node, str):
            _check_text(node)  # guard: test_text_that_postgres_cannot_hold_is_refused
        elif isinstance(node, int | float):
            _check_number(node)  # guard: test_a_number_that_no_column_can_hold_is_refused


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")  # guard: test_what_is_not_strict_json_is_refused
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are not JSON; guard: test_what_is_not_strict_json_is_refused


def _check_number(number: float) -> None:
    if isinstance(number, int) and not -MAX_INTEGER - 1 <= number <= MAX_INTEGER:
        raise NumberOutOfRange
    if not math.isfinite(number):  # 1e999
        raise NumberOutOfRange  # guard: test_a_number_that_no_column_can_hold_is_refused


def _check_text(text: str) -> None:
    if "\0" in text:
        raise InvalidText
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidText from None

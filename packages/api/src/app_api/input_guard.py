"""The input guard: refuses bodies that are too large, and text and numbers that Postgres cannot store."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi.params import Form
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app_api.problems import (
    InvalidRequest,
    InvalidText,
    MalformedRequest,
    PayloadTooLarge,
    UnsupportedMediaType,
    app_error_response,
)
from app_api.query_guard import QueryGuard, names_of
from app_api.reading import BodyLimits, read_body, refuse_unread, replay
from app_api.request_target import check_path
from app_db.errors import AppError, BadRequest, Invalid

MAX_DEPTH: Final = 64
MOST_FIELDS: Final = 100
MOST_ROWS: Final = 1000
"""Fields of a form with lists, such as the ticked rows of a table; Starlette (1.10) parses no more."""
ONCE: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Header fields that decide the length and the format of a body."""
MAX_INTEGER: Final = 2**63 - 1  # a bigint


class InvalidJson(BadRequest):
    """The body is not valid JSON (RFC 8259), names a member twice, or is nested too deep."""

    code = "invalid_json"


class InvalidForm(InvalidRequest):
    """The form is malformed, or names a field twice."""


class EncodedBody(UnsupportedMediaType):
    """A body must not be compressed (Content-Encoding: identity)."""

    code = "unsupported_content_encoding"
    accepts = ("Accept-Encoding", "identity")


class FormExpected(UnsupportedMediaType):
    """Send a form (Content-Type: application/x-www-form-urlencoded): nothing else is taken here, and no JSON."""

    accepts = ("Accept", "application/x-www-form-urlencoded")


class JsonExpected(UnsupportedMediaType):
    """Send JSON (Content-Type: application/json): nothing else is taken here."""


class NumberOutOfRange(Invalid):
    """A number is too large."""

    code = "number_out_of_range"


class InputGuard:
    """Reads the body, refuses all but strict JSON or, for routes with a form, a plain form, and passes it on."""

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        self.app = app
        self.limits = limits
        self._forms: list[tuple[set[str], re.Pattern[str], frozenset[str]]] | None = None
        self._queries: QueryGuard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The first of repeated headers counts, as in Starlette, so that the guard checks the body that is parsed.
        headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))
        try:
            _check_target(scope)
            _check_framing(scope, headers)
            body = await read_body(scope, headers, receive, self.limits)
            if scope["query_string"]:
                self._check_query(scope, authorized=b"authorization" in headers)
            if body and scope["method"] not in {"GET", "HEAD"}:  # their bodies have no meaning (RFC 9110, 9.3.1)
                if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                    raise EncodedBody  # guard: test_a_compressed_body_is_refused
                self._check_body(scope, headers.get(b"content-type", b"").split(b";")[0].strip().lower(), body)
                if len({value for name, value in scope["headers"] if name == b"content-type"}) > 1:
                    raise MalformedRequest  # guard: test_a_body_that_is_said_to_be_two_things_is_refused
        except ClientDisconnect:
            return  # half a body: the client has gone
        except PayloadTooLarge as error:
            refusal = app_error_response(scope, error)
            if b"expect" in headers:  # the client waits for this answer before it sends anything
                await refusal(scope, receive, send)
            else:
                await refuse_unread(refusal, scope, receive, send)
            return
        except AppError as error:
            await app_error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, replay(body, receive), send)

    def _check_query(self, scope: Scope, *, authorized: bool) -> None:
        if self._queries is None:  # once, as in _lists_of_form
            self._queries = QueryGuard(scope["app"].routes)
        self._queries.check(scope, authorized=authorized)  # guard: test_a_query_parameter_that_is_not_known_is_refused

    def _check_body(self, scope: Scope, media_type: bytes, body: bytes) -> None:
        """Check a body by its media type, which must be the route's, so that no body passes unchecked."""
        lists = self._lists_of_form(scope)
        if lists is not None:
            if media_type != b"application/x-www-form-urlencoded":
                raise FormExpected  # guard: test_what_is_no_form_is_refused_where_a_form_is_asked_for
            _check_form(body, lists)
        elif media_type == b"application/json" or (
            media_type.startswith(b"application/") and media_type.endswith(b"+json")
        ):
            _check_json(body)
        else:
            raise JsonExpected  # guard: test_what_is_no_json_is_refused_where_json_is_asked_for

    def _lists_of_form(self, scope: Scope) -> frozenset[str] | None:
        """Return which fields of the route's form are lists; None if it takes no form."""
        if self._forms is None:  # once; routes may be added until the first request
            self._forms = [
                (
                    context.methods or set(),
                    context.path_regex,
                    frozenset(name for name, is_list in names_of([context.body_field]) if is_list),
                )
                for context in iter_route_contexts(scope["app"].routes)
                if isinstance(context.original_route, APIRoute)
                and context.body_field
                and isinstance(context.body_field.field_info, Form)
            ]
        fitting = (
            lists for methods, path, lists in self._forms if scope["method"] in methods and path.match(scope["path"])
        )
        return next(fitting, None)


def _check_target(scope: Scope) -> None:
    check_path(scope)
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise InvalidText  # guard: test_nul_in_the_target_is_refused


def _check_framing(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Refuse a request that states the length or coding of its body twice (RFC 9112, 6.1 and 6.3; RFC 9110, 5.3).

    Our own parser lets some of these through; another server or proxy may read the other statement.
    """
    if len(headers) != len(scope["headers"]):
        names = [name for name, _ in scope["headers"] if name in ONCE]
        if len({*names}) != len(names):
            raise MalformedRequest  # guard: test_a_header_field_that_decides_is_there_once
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or b"content-length" in headers):
        raise MalformedRequest  # guard: test_a_body_is_framed_in_one_way


def _check_form(body: bytes, lists: frozenset[str]) -> None:
    most = MOST_ROWS if lists else MOST_FIELDS
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError:
        raise InvalidForm from None
    once = [name for name, _ in fields if name not in lists]
    if len({*once}) != len(once):  # RFC 6749, 3.2
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

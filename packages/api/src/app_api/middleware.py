"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost more than the endpoint behind it."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from secrets import token_hex
from threading import Event
from typing import Any

import structlog
from fastapi.exceptions import ValidationException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app_api.admission import PROBES, RequestTimedOut
from app_api.cors import VARY, CorsHeaders, RawHeaders
from app_api.host_names import ANY
from app_api.http_names import METHODS
from app_api.metrics import Metrics, name_of
from app_api.problems import app_error_response, internal_error_response, path_as_it_came
from app_api.proxies import ClientAddresses
from app_api.request_target import InvalidHost, host_of
from app_api.settings import HttpSettings
from app_db.errors import AppError, BadRequest
from app_db.telemetry.trace_setup import Tracing

log = structlog.get_logger(__name__)

# Browsers must not show, store or embed these responses, nor guess their type (OWASP REST Security Cheat Sheet).
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
STRICT_TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """Gives every request an id and a line in the log, every response its headers, and internal errors a response.

    After an internal error the connection stays usable. While the process is `stopping`, each response closes its
    connection, so that later none is closed just when its client sends on it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        http: HttpSettings,
        stopping: Event,
        metrics: Metrics,
        streams: Collection[str],
        traces: Tracing = None,
    ) -> None:
        self.app = app
        self.traces = traces
        self.cors = CorsHeaders(http.origins)
        self.metrics = metrics
        self.addresses = ClientAddresses(http.trusted_proxies, metrics)
        self.headers = (*SECURITY_HEADERS, *([STRICT_TRANSPORT_SECURITY] if http.https else []))
        self.stopping = stopping
        self.streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        if self.traces is not None and b"%" in scope.get("raw_path", b""):
            self.traces.name_path(path_as_it_came(scope))  # guard: test_a_span_has_the_path_as_it_came
        answer, began = _Answer(send, lambda headers: self._complete(scope, headers)), time.perf_counter()
        self.metrics.in_flight += 1
        with _named(request_id):
            try:
                await self.app(scope, receive, answer.send)
                await answer.finish()
            except asyncio.CancelledError:  # uvicorn cancels requests that outlive `drain`
                if answer.status or not self.stopping.is_set():
                    raise
                refusal = app_error_response(scope, RequestTimedOut())
                await refusal(scope, receive, answer.send)  # guard: test_what_the_end_cuts_off_is_told_to_come_back
            except Exception as error:
                _hide_values(error)
                # Starlette would answer, too, but raise again: uvicorn then closes the socket under the next request.
                log.exception("request_failed", method=scope["method"], path=path_as_it_came(scope))
                if answer.status:
                    raise
                refusal = internal_error_response(scope)
                await refusal(scope, receive, answer.send)  # guard: test_a_fault_of_ours_shows_nothing_of_itself
            finally:
                self.metrics.in_flight -= 1  # guard: test_a_request_is_in_flight_until_it_is_answered
                self._finish(scope, answer.status, time.perf_counter() - began)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_of(scope)
        error: type[AppError] | None = scope["state"].get("error")
        # A stream lasts as long as somebody looks, which would raise the alert for slow requests.
        lasted = None if route in self.streams else seconds  # guard: test_an_open_page_is_no_slow_request
        self.metrics.finished(scope["method"], route, status, lasted)
        if error is not None:
            self.metrics.refused(error)
        is_probe = route in PROBES
        say = log.debug if is_probe else log.info
        say(
            "request_finished",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
            client=self.addresses.of(scope, is_probe=is_probe),
            error=error and name_of(error),
        )

    def _complete(self, scope: Scope, headers: RawHeaders) -> RawHeaders:
        """Add the security headers to a response; a page may have its own Content-Security-Policy."""
        given = {name for name, _ in headers}
        ours = [header for header in (*self.headers, *self.cors.of(scope)) if header[0] not in given]
        if b"vary" in given and self.cors.origins:
            ours.append(VARY)
        closing = [(b"connection", b"close")] if self.stopping.is_set() and b"connection" not in given else []
        return [*headers, *ours, *closing, (b"x-request-id", scope["state"]["request_id"].encode())]


@contextmanager
def _named(request_id: str) -> Iterator[None]:
    """Name the request in each line of its log, as structlog's `bound_contextvars`, which costs twice as much."""
    tokens = bind_contextvars(request_id=request_id, user_id=None)  # get_principal sets user_id later
    try:
        yield
    finally:
        reset_contextvars(**tokens)  # guard: test_a_request_leaves_no_name_to_the_next


class _Answer:
    """Sends one response: notes its status, adds our header fields, and ends a stream only if nothing has failed.

    FastAPI (0.165) ends a stream of events before it raises the error of their generator. If the end is missing and
    the connection closes, no client takes half a stream for a whole one.
    """

    def __init__(self, send: Send, complete: Callable[[RawHeaders], RawHeaders]) -> None:
        self.status = 0
        self._send = send
        self._complete = complete
        self._streams = False
        self._has_ended = False

    async def send(self, message: Message) -> None:
        """Pass a message on; the end of a response without a length waits for `finish`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._streams = all(name != b"content-length" for name, _ in message["headers"])
            message["headers"] = self._complete(message["headers"])
        elif self._streams and not message.get("more_body", False):
            self._has_ended = True
            message = {**message, "more_body": True}  # guard: test_a_stream_of_events_that_fails_has_no_end
        await self._send(message)

    async def finish(self) -> None:
        """End the stream, if there is one that has not failed."""
        if self._has_ended:
            await self._send({"type": "http.response.body"})


def _hide_values(error: Exception) -> None:
    """Remove values from an error before it is logged: FastAPI's message shows the invalid response."""
    if isinstance(error, ValidationException):
        for problem in error.errors():
            problem.pop("input", None)  # guard: test_an_answer_of_the_wrong_form_is_not_shown_in_the_log
            problem.pop("ctx", None)


def _route_of(scope: Scope) -> str | None:
    """Return the path of the route that took a request, with the prefixes of all routers that it was included by."""
    route = scope.get("route")
    # The route as FastAPI included it: a router may be included twice, and its routes know only their own paths.
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and context.original_route is route:
        route = context  # guard: test_a_router_that_is_included_twice_is_two_routes
    return getattr(route, "path_format", None)


class HeadAsGet:
    """Routes HEAD as GET (RFC 9110, 9.3.2), which FastAPI does not. The server drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            as_get, answer = {**scope, "method": "GET"}, _Head(receive, send)
            try:
                await self.app(as_get, answer.receive, answer.send)
                await answer.finish()
            finally:
                noted: dict[str, Any] = {name: as_get[name] for name in ("route", "fastapi") if name in as_get}
                scope.update(noted)  # guard: test_a_head_is_counted_under_its_route
            return
        await self.app(scope, receive, send)


class _Head:
    """Answers a HEAD: tells a stream that its client has gone once its headers are sent, as nobody gets its body.

    The stream would go on for hours, and with it the connection, on which the server answers nothing else meanwhile.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._has_begun = asyncio.Event()
        self._is_read = self._has_ended = False

    async def receive(self) -> Message:
        """Return the messages of the body, which comes before the answer, and after it that the client has gone."""
        if self._is_read:
            await self._has_begun.wait()
            return {"type": "http.disconnect"}  # guard: test_a_head_of_a_stream_ends_at_once
        message = await self._receive()
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        await self._send(message)
        self._has_begun.set()
        self._has_ended = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def finish(self) -> None:
        """End an answer that was told to stop."""
        if not self._has_ended:
            await self._send({"type": "http.response.body"})  # guard: test_a_head_of_a_stream_ends_at_once


class AllowedHosts:
    """Refuses requests for a host that is not ours: links and caches must not be built from a made-up name.

    `hosts` are names as `read_allowed_host` returns them.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "http":
            try:
                if host_of(scope) not in self.hosts and ANY not in self.hosts:
                    raise InvalidHost  # guard: test_another_host_is_refused
            except BadRequest as error:
                await app_error_response(scope, error)(scope, receive, send)
                return
            if scope["path"] == "*":  # for the whole server (RFC 9110, 9.3.7); host_of has checked that it is OPTIONS
                await Response(status_code=204, headers={"Allow": ", ".join(METHODS)})(scope, receive, send)
                return
        await self.app(scope, receive, send)

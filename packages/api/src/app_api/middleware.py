"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost more than the endpoint behind it."""

import asyncio
import re
import time
from collections.abc import Sequence
from http import HTTPStatus
from secrets import token_hex
from threading import Event

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app_api.admission import PROBES, RequestTimedOut
from app_api.metrics import Metrics, name_of
from app_api.problems import ProblemResponse, app_error_response, internal_error_response
from app_api.proxies import Network, client_of
from app_db.errors import AppError, BadRequest

log = structlog.get_logger(__name__)

type RawHeaders = list[tuple[bytes, bytes]]

# For answers that no browser is to show, keep, embed or guess the type of (OWASP REST Security Cheat Sheet).
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
STRICT_TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class InvalidHost(BadRequest):
    """Invalid host header"""

    code = "invalid_host"


class RequestContext:
    """Gives every request an id and a line in the log, every response its headers, and every fault of ours an answer.

    After a fault the connection stays usable. While the process is `stopping`, connections end with their next answer:
    none is then closed just when its client sends on it.
    """

    def __init__(
        self, app: ASGIApp, *, https: bool, stopping: Event, metrics: Metrics, trusted: tuple[Network, ...]
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.trusted = trusted
        self.headers = (*SECURITY_HEADERS, *([STRICT_TRANSPORT_SECURITY] if https else []))
        self.stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        status, began = 0, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._complete(message["headers"], request_id.encode())
            await send(message)

        self.metrics.in_flight += 1
        # get_principal adds the user when it knows them; both end here.
        with structlog.contextvars.bound_contextvars(request_id=request_id, user_id=None):
            try:
                await self.app(scope, receive, send_with_id)
            except asyncio.CancelledError:  # the server does that to what goes on for longer than `drain`
                if status or not self.stopping.is_set():
                    raise
                answer = app_error_response(scope, RequestTimedOut())
                await answer(scope, receive, send_with_id)  # guard: test_what_the_end_cuts_off_is_told_to_come_back
            except Exception:
                # Starlette would answer, too, but raise on: uvicorn then closes the socket under the next request.
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status:
                    raise
                answer = internal_error_response(scope)
                await answer(scope, receive, send_with_id)  # guard: test_a_fault_of_ours_shows_nothing_of_itself
            finally:
                self.metrics.in_flight -= 1  # guard: test_a_request_is_in_flight_until_it_is_answered
                self._finish(scope, status, time.perf_counter() - began)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", None)
        error: type[AppError] | None = scope["state"].get("error")
        self.metrics.finished(scope["method"], route, status, seconds)
        if error is not None:
            self.metrics.refused(error)
        say = log.debug if route in PROBES else log.info
        say(
            "request_finished",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
            client=client_of(scope, self.trusted),
            error=error and name_of(error),
        )

    def _complete(self, headers: RawHeaders, request_id: bytes) -> RawHeaders:
        """Add ours to the headers of a response; where a page has a policy of its own, that one holds."""
        given = {name for name, _ in headers}
        ours = [header for header in self.headers if header[0] not in given]
        closing = [(b"connection", b"close")] if self.stopping.is_set() and b"connection" not in given else []
        return [*headers, *ours, *closing, (b"x-request-id", request_id)]


class HeadAsGet:
    """Lets HEAD reach what GET reaches (RFC 9110, 9.3.2); FastAPI's routes do not. The server drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            as_get = {**scope, "method": "GET"}
            await self.app(as_get, receive, send)
            scope["route"] = as_get.get("route")  # guard: test_a_head_is_counted_under_its_route
            return
        await self.app(scope, receive, send)


class AllowedHosts:
    """Refuses requests for a host that is not ours: links and caches must not be built from a made-up name."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "http" and "*" not in self.hosts:
            given = [value for name, value in scope["headers"] if name == b"host"]
            # RFC 9112, 3.2: exactly one. Two are read differently by whoever stands in front of us.
            host = given[0].decode("latin-1") if len(given) == 1 else ""  # guard: test_two_hosts_are_refused
            name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.split(":")[0]
            if name.lower() not in self.hosts:
                refusal = app_error_response(scope, InvalidHost())
                await refusal(scope, receive, send)  # guard: test_another_host_is_refused
                return
        await self.app(scope, receive, send)


class Cors(CORSMiddleware):
    """Starlette's, with a problem document where a preflight is refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" and scope["method"] == "OPTIONS" else {}
        if not ("origin" in headers and "access-control-request-method" in headers):
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(Headers(scope=scope))
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            response = ProblemResponse(
                scope,
                response.status_code,
                code="cors_refused",
                detail=bytes(response.body).decode(),
                headers={name: text for name, text in response.headers.items() if not name.startswith("content-")},
            )
        await response(scope, receive, send)

"""The methods and header fields that this API speaks: one list for routes, CORS, figures and the proxy."""

from typing import Final

from fastapi import Request
from starlette.routing import Match, Mount

METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
"""The methods of routes; OPTIONS lists them. deploy/haproxy.cfg refuses all others with the same list."""

REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "X-Request-ID",
    "baggage",
    "traceparent",
    "tracestate",
)
"""Header fields that pages of other origins may send, besides those that Fetch lists as safe."""

RESPONSE_HEADERS: Final = (
    "Accept",
    "Accept-Encoding",
    "Allow",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
"""Header fields that pages of other origins may read; openapi.json lists those of each response."""


def allowed_methods(request: Request, stated: str) -> set[str]:
    """Return all methods of a path (RFC 9110, 15.5.6); FastAPI states only those of its first route."""
    methods = {*stated.split(", ")}
    for method in {*METHODS} - {"HEAD"} - methods:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes if not isinstance(route, Mount)):
            methods.add(method)
    return methods | {"HEAD"} if "GET" in methods else methods

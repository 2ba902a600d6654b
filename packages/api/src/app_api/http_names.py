"""The methods and header fields that this API speaks: one list for routes, CORS, figures and the proxy."""

from typing import Final

from fastapi import Request
from starlette.routing import Match, Mount

METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
"""The methods of routes; OPTIONS lists them. deploy/haproxy.cfg refuses all others with the same list."""

REQUEST_HEADERS: Final = ("Authorization", "Content-Type", "X-Request-ID", "baggage", "traceparent", "tracestate")
"""Header fields that pages of other origins may send, besides those that Fetch lists as safe."""

RESPONSE_HEADERS: Final = (
    "Accept",
    "Accept-Encoding",
    "Allow",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
"""Header fields that such pages may read; openapi.json says which response has which."""


def allowed_methods(request: Request, stated: str) -> set[str]:
    """Return what RFC 9110, 15.5.6 asks for; FastAPI states the methods of the first route with this path only."""
    methods = {*stated.split(", ")}
    for method in {*METHODS} - {"HEAD"} - methods:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes if not isinstance(route, Mount)):
            methods.add(method)
    return methods | {"HEAD"} if "GET" in methods else methods

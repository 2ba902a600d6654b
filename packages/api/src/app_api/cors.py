"""CORS: which pages of other origins may send requests and read responses (Fetch, 3.3)."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app_api.http_names import METHODS, REQUEST_HEADERS, RESPONSE_HEADERS
from app_api.problems import ProblemResponse

type RawHeaders = list[tuple[bytes, bytes]]

VARY = (b"vary", b"Origin")


class CorsHeaders:
    """Adds the CORS headers to every response, refusals and internal errors included."""

    def __init__(self, origins: Sequence[str]) -> None:
        self.origins = origins
        self._other: RawHeaders = [VARY] if origins else []
        self._by_origin: dict[bytes, RawHeaders] = {
            origin.encode(): [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode()),
                VARY,
            ]
            for origin in origins
        }

    def of(self, scope: Scope) -> RawHeaders:
        """Return the header fields for the answer to a request."""
        if not self._other:
            return self._other
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        return self._by_origin.get(origin, self._other)


class Preflights(CORSMiddleware):
    """Answers preflights as Starlette does, but refuses them with a problem document."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_credentials=True,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" and scope["method"] == "OPTIONS" else {}
        if not ("origin" in headers and "access-control-request-method" in headers):
            await self.app(scope, receive, send)
            return
        response = self.preflight_response(_asked_for(Headers(scope=scope)))
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            response = ProblemResponse(
                scope,
                response.status_code,
                code="cors_refused",
                detail=bytes(response.body).decode(),
                headers={name: text for name, text in response.headers.items() if not name.startswith("content-")},
            )
        await response(scope, receive, send)


def _asked_for(headers: Headers) -> Headers:
    """Return the headers of a preflight in the form that Starlette reads.

    All lines of a field are one list, whose empty elements do not count (RFC 9110, 5.3 and 5.6.1.2). A request for
    access to a private network is left out, so that it is not granted; the browser decides, and may only warn.
    """
    names = ("origin", "access-control-request-method")
    lines = headers.getlist("access-control-request-headers")
    fields = [field for line in lines for part in line.split(",") if (field := part.strip(" \t"))]
    listed = {"access-control-request-headers": ",".join(fields)} if fields else {}
    return Headers({name: headers[name] for name in names} | listed)

"""The methods and header fields that this API speaks: one list for routes, CORS, figures and the proxy."""

from typing import Final

METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
"""What a route may offer; OPTIONS besides asks which. deploy/haproxy.cfg names the same to who asks for another."""

REQUEST_HEADERS: Final = ("Authorization", "Content-Type", "X-Request-ID", "baggage", "traceparent", "tracestate")
"""What pages of other origins may send besides the fields that Fetch lists as safe."""

RESPONSE_HEADERS: Final = (
    "Accept",
    "Accept-Encoding",
    "Allow",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
"""What such pages may read; the document says which answer carries which."""

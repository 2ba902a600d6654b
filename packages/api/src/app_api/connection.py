"""uvicorn's connection, changed: it cleans up after a reset, declines upgrades and passes on the raw target."""

import re
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TARGET: Final = "target"
"""Key of the request's `state` for its raw target (RFC 9112, 3.2), which an ASGI scope lacks."""


_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection, on httptools.

    Half a stream must not look like a whole one. On httptools, uvicorn sends chunks even to a proxy with HTTP/1.0, so
    that the missing end shows; on its other parser, h11, only the end of the connection ends such a response.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        """Free everything, however the connection ended; uvicorn keeps the timer of one that was reset."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # guard: test_a_connection_that_was_reset_leaves_nothing_behind
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse the data; go on when a client offers another protocol (RFC 9110, 7.8), where uvicorn would stop."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._decline(data[offer.args[0] :])
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
                return
            else:
                return

    def on_headers_complete(self) -> None:
        """Pass the request on, with its raw target."""
        self.scope["state"][TARGET] = self.url
        if not self.url.startswith(b"/"):
            self.url = _in_origin_form(self.url)
        super().on_headers_complete()
        # Fields after the body are trailers (RFC 9110, 6.5.1), and must not be read as header fields.
        self.headers = []  # guard: test_trailer_fields_are_no_header_fields

    def _should_upgrade(self) -> bool:
        return False

    def _decline(self, rest: bytes) -> bytes:
        """Return the data to parse next; the old parser takes `rest` for the other protocol.

        It has ended the request without its body, so a new parser first gets a header that announces the same body.
        """
        announced = [
            (name, value) for name, value in self.scope["headers"] if name in {b"content-length", b"transfer-encoding"}
        ]
        if not announced:
            self.parser = _parser_for(self)
            return rest
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self.parser = _parser_for(_Continuation(self))
        fields = b"".join(b"%s: %s\r\n" % field for field in announced)
        return b"POST / HTTP/1.1\r\n%s\r\n%s" % (fields, rest)


class _Continuation:
    """Passes on the parser's events, except the header of the first request, which the connection has read already."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._is_next = False

    def on_message_begin(self) -> None:
        if self._is_next:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_next:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_next:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_next:
            self._connection.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._connection.on_body(body)

    def on_message_complete(self) -> None:
        self._is_next = True
        self._connection.on_message_complete()


def _parser_for(protocol: object) -> httptools.HttpRequestParser:
    """Return a parser like uvicorn's own."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _in_origin_form(target: bytes) -> bytes:
    """Return path and query of an absolute target (RFC 9112, 3.2.2); return any other target unchanged."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest

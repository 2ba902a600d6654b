"""Errors as pages: whatever is refused under /console, by whichever layer, is shown with its status and its words."""

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app_api.console.paths import is_ours
from app_api.console.rendering import FORM, Console
from app_api.problems import MEDIA_TYPE

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
POLICY: Final = "console_policy"
"""The state of a request with a policy of its own: a page with a frame, and what stands in that frame."""
REFERRER: Final = (b"referrer-policy", b"same-origin")
"""Not no-referrer, under which browsers send forms with `Origin: null`."""
_REPLACED: Final = frozenset({b"content-security-policy", b"referrer-policy"})
_OF_BODY: Final = frozenset({b"content-type", b"content-length"})


class ErrorPages:
    """Gives answers under /console the headers of pages, and turns problem documents there into pages.

    It is the outermost middleware, so it sees the refusals of all others.
    """

    def __init__(self, app: ASGIApp, *, console: Console) -> None:
        self.app = app
        self.console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and is_ours(scope["path"]):
            await self.app(scope, receive, _Answer(scope, send, self.console).send)
            return
        await self.app(scope, receive, send)


class _Answer:
    def __init__(self, scope: Scope, send: Send, console: Console) -> None:
        self._scope, self._send, self._console = scope, send, console
        self._start: Message | None = None
        """The start of a problem document, kept back until its body is there."""
        self._body = b""

    async def send(self, message: Message) -> None:
        """Pass a message on, or keep it while it is a part of a problem document."""
        if message["type"] == "http.response.start":
            headers = [header for header in message["headers"] if header[0] not in _REPLACED]
            policy: str = self._scope["state"].get(POLICY, CSP)
            message["headers"] = [*headers, (b"content-security-policy", policy.encode()), REFERRER]
            if (b"content-type", MEDIA_TYPE.encode()) in headers:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if len(self._body) < _length_of(self._start):
                return
            start, self._start = self._start, None  # a refusal of an unread body lingers after it
            await self._show(start, more_body=message.get("more_body", False))
            return
        await self._send(message)

    async def _show(self, start: Message, *, more_body: bool) -> None:
        page = HTMLResponse(self._text_of(json.loads(self._body)))
        kept = [header for header in start["headers"] if header[0] not in _OF_BODY]
        await self._send({**start, "headers": [*page.raw_headers, *kept]})
        await self._send({"type": "http.response.body", "body": page.body, "more_body": more_body})

    def _text_of(self, problem: Mapping[str, Any]) -> str:  # Any: JSON
        template, context = self._scope["state"].get(FORM, ("error.html", {"viewer": None}))
        return self._console.render(template, path=self._scope["path"], problem=problem, done=None, **context)


def _length_of(start: Message) -> int:
    return next(int(value) for name, value in start["headers"] if name == b"content-length")

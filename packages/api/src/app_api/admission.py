"""Limits how many requests run at once, and for how long."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from threading import Event

import structlog
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from app_api.problems import app_error_response, path_as_it_came
from app_db.deadline import one_deadline
from app_db.errors import Unavailable

log = structlog.get_logger(__name__)

# Probes are always answered: a busy process is not dead.
PROBES = frozenset({"/probe/live", "/probe/health", "/probe/ready"})
STREAMS = frozenset({"/console/live"})
"""Answers that go on as long as somebody looks: they take no place and have no deadline; their own code bounds them."""


class Overloaded(Unavailable):
    """Too many requests at once. Try again in a moment."""

    code = "overloaded"


class RequestTimedOut(Unavailable):
    """This took too long and was given up. Try again in a moment."""

    code = "timeout"


class Admission:
    """Refuses requests beyond `max_requests`, and gives up requests that take too long.

    It runs after the body was read, so that neither idle sockets nor slow clients take a place. Once the process is
    `stopping`, a new request has a second less than `drain`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_requests: int,
        request_timeout: timedelta,
        stopping: Event,
        drain: timedelta,
        streams: Collection[str],
    ) -> None:
        self.app = app
        self.max_requests = max_requests
        self.stopping = stopping
        self.seconds = request_timeout.total_seconds()
        # So that a request is answered before uvicorn cancels it, even one that begins just before the drain.
        self.last_seconds = min(self.seconds, max(drain.total_seconds() - 1, 1))
        self._running = 0
        self._fixed = PROBES | {path for path in streams if "{" not in path}
        self._patterns = [compile_path(path)[0] for path in streams if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._is_unlimited(scope["path"]):
            await self.app(scope, receive, send)
            return
        if self._running >= self.max_requests:
            refusal = app_error_response(scope, Overloaded())
            await refusal(scope, receive, send)  # guard: test_one_request_too_many_is_told_to_come_back
            return
        self._running += 1
        try:
            await self._within_time(scope, receive, send)
        finally:
            self._running -= 1  # guard: test_a_place_is_free_again_after_its_request

    def _is_unlimited(self, path: str) -> bool:
        if path in self._fixed:
            return True  # guard: test_an_open_page_takes_no_place_of_a_request
        of_stream = [pattern for pattern in self._patterns if pattern.match(path)]
        return bool(of_stream)  # guard: test_a_stream_takes_no_place_of_a_request

    async def _within_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self.seconds
        if self.stopping.is_set():
            seconds = self.last_seconds  # guard: test_a_request_that_begins_late_is_given_up_before_the_end
        deadline = asyncio.timeout(seconds)
        try:
            with one_deadline():  # guard: test_two_slow_pieces_of_one_request_share_its_deadline
                async with deadline:
                    await self.app(scope, receive, send)
        except TimeoutError:
            if not deadline.expired():
                raise
            log.warning("request_timed_out", method=scope["method"], path=path_as_it_came(scope))
            # If a response has begun, the server refuses this second one and closes the connection.
            await app_error_response(scope, RequestTimedOut())(scope, receive, send)

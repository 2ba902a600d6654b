"""Listening and stopping: the server first reports that it stops, then accepts no more, then finishes its requests."""

import math
import signal
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from socket import socket
from threading import Event, current_thread, main_thread
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.lifespan.on import LifespanOn

from app_api.app import create_app
from app_api.connection import HttpConnection
from app_api.settings import ApiSettings, HttpSettings
from app_runtime.ending import end_soon


class Server(uvicorn.Server):
    """A uvicorn that announces its stop: load balancers have `delay` to notice."""

    def __init__(self, config: uvicorn.Config, *, stopping: Event, delay: timedelta) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay = delay.total_seconds()
        self._stop_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal skips the delay.

        uvicorn's own handler would raise the signal again at the end, and the process would die of it.
        """
        if self._stopping.is_set() or not self._delay:
            self.should_exit = True
        self._stop_at = time.monotonic() + self._delay
        self._stopping.set()  # guard: test_a_process_that_is_to_stop_says_so_before_it_closes_its_door

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop, and then wait for no thread: one may be hashing, or waiting for a silent server."""
        await super().shutdown(sockets)
        end_soon()  # guard: test_a_thread_that_goes_on_does_not_keep_the_api

    async def on_tick(self, counter: int) -> bool:
        """Return True, to stop, when the delay is over or the lifespan failed; uvicorn asks ten times a second."""
        due = self._stopping.is_set() and time.monotonic() >= self._stop_at
        return await super().on_tick(counter) or due or self.failed

    @property
    def failed(self) -> bool:
        """Whether an error of a resource's task has ended the lifespan, and so closed all resources of requests."""
        assert isinstance(self.lifespan, LifespanOn), "server_config says so"
        return self.lifespan.shutdown_failed


def stopping_by_signal() -> Event:
    """Return an event that SIGTERM sets, besides what the server does that loads the application.

    uvicorn's command line knows no event of ours, and would wait for streams that are open. It has its handlers
    already; who has none, as tests, keeps none.
    """
    stopping, of_server = Event(), signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        assert callable(of_server), "looked at below"
        stopping.set()  # guard: test_a_server_that_loads_the_application_tells_it_to_stop
        of_server(number, frame)

    if callable(of_server) and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, stop)
    return stopping


def _hosts(host: str) -> str | list[str]:
    """Return the addresses to listen on: for `::` alone, asyncio listens on IPv6 only."""
    return ["::", "0.0.0.0"] if host == "::" else host  # noqa: S104  # the setting asks for it


def serve(settings: ApiSettings, origins: Mapping[str, str]) -> None:
    """Serve until SIGTERM, then for `drain_delay` more, then let running requests finish for up to `drain`."""
    stopping = Event()
    config = server_config(create_app(settings, stopping=stopping, origins=origins), settings.http)
    server = Server(config, stopping=stopping, delay=settings.http.drain_delay)
    server.run()
    if server.failed:  # guard: test_an_api_whose_resource_fails_ends_with_an_error
        sys.exit(1)


def server_config(app: ASGIApp, http: HttpSettings) -> uvicorn.Config:
    """Return uvicorn's configuration for an application; tests that serve one use the same."""
    keep_alive = math.ceil(http.keep_alive.total_seconds())
    return uvicorn.Config(
        app,
        host=_hosts(http.host),  # type: ignore[arg-type]  # handed to create_server, which takes several
        port=http.port,
        loop="uvloop",
        http=HttpConnection,  # httptools; guard: test_a_request_that_offers_an_upgrade_keeps_its_body
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive,  # guard: test_an_idle_connection_is_kept_for_its_time
        timeout_graceful_shutdown=round(http.drain.total_seconds()),
    )

"""The HTTP port for operators: /metrics for Prometheus, /health and /live for the supervisor of the process.

Threads serve it, so it answers even while the event loop is blocked. It uses only the standard library: a few clients
in a minute need no framework.
"""

import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Annotated, Any, NamedTuple

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field

from app_runtime.durations import Duration

log = structlog.get_logger(__name__)

MAX_CLIENTS = 16
"""Clients served at once; further connections are closed. Each costs the process a thread and open files."""
RESERVED = 3
CLIENT_TIMEOUT = 5.0
"""Seconds that a client may be silent."""


class MetricsSettings(BaseModel, frozen=True):
    """`APP_METRICS__…`: a port for Prometheus and for health checks."""

    enabled: bool = False
    """Whether to open the port."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Where to listen, without authentication; `::` is every address, IPv4 too."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """If taken, one of the next fifteen; 0 takes a free port. The log says which."""
    stop_delay: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(minutes=5))] = timedelta(0)
    """The port answers so long after the rest has stopped, for the last scrape."""


class Health(NamedTuple):
    """The health of a process, as it reports it."""

    signs: Mapping[str, Any]
    """Details for people, as JSON."""
    complaint: str | None = None
    """Why the process cannot do its work, or None."""
    restart_helps: bool = True
    """Whether a restart may end the complaint: only then `/live` complains, too."""


class Endpoint(ThreadingMixIn, TCPServer):
    """Listens on the port; each client gets a thread."""

    allow_reuse_address = True  # a restarted process can take the port of the old one
    daemon_threads = True
    request_queue_size = MAX_CLIENTS

    def __init__(
        self,
        settings: MetricsSettings,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        *,
        port: int | None = None,
        client_timeout: float = CLIENT_TIMEOUT,
    ) -> None:
        """Listen on `port`, or else on that of the settings; `health` is called by the threads of the endpoint."""
        self.registry = registry
        self.health = health
        self.client_timeout = client_timeout
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._free = threading.BoundedSemaphore(MAX_CLIENTS)
        self._reserve = _Reserve()
        super().__init__((settings.host, settings.port if port is None else port), _Exchange)

    def server_bind(self) -> None:
        """Bind; `::` means every address, IPv4 too, on any system, as for the API."""
        if self.address_family == socket.AF_INET6:
            only = self.server_address[0] != "::"
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        super().server_bind()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.socket.getsockname()[1])

    def get_request(self) -> Any:  # Any: as in the standard library
        """Accept a client, even if the process has no descriptors left, because health matters most then."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self._reserve.give_up()  # guard: test_a_process_without_descriptors_still_shows_its_figures
            return super().get_request()

    def server_close(self) -> None:
        """Close the port and the reserved descriptor."""
        super().server_close()
        self._reserve.give_up()

    def process_request(self, request: Any, client_address: Any) -> None:  # Any: as in the standard library
        """Start a thread for a client, or hang up."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()  # guard: test_only_so_many_clients_are_served_at_once
            self._reserve.take()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error of a client, unless the client has only disconnected."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("telemetry_failed", exc_info=error)


class _Reserve:
    """Reserved descriptors, for a client and for the files of /proc that the metrics read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[int] = []
        self.take()

    def take(self) -> None:
        """Reserve `RESERVED` descriptors, or as many as there are."""
        with self._lock, suppress(OSError):
            while len(self._kept) < RESERVED:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))

    def give_up(self) -> None:
        """Close the reserved descriptors, so that other code can use them."""
        with self._lock:
            while self._kept:
                os.close(self._kept.pop())


class _Exchange(BaseHTTPRequestHandler):
    """One request and its response."""

    server: Endpoint
    server_version = "app"
    sys_version = ""

    def setup(self) -> None:
        self.request.settimeout(self.server.client_timeout)  # guard: test_a_client_that_says_nothing_is_hung_up_on
        super().setup()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, media_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, media_type, encode(self.server.registry))
        elif path in {"/health", "/live"}:
            health = self.server.health()
            if path == "/live" and not health.restart_helps:
                health = health._replace(complaint=None)  # guard: test_an_outage_asks_for_no_restart
            self._answer_health(health)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_health(self, health: Health) -> None:
        if health.complaint is not None:
            self._answer_problem(HTTPStatus.SERVICE_UNAVAILABLE, health.complaint, **health.signs)
        else:
            self._answer(HTTPStatus.OK, "application/json", json.dumps({"status": "ok", **health.signs}).encode())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with a problem document (RFC 9457); the standard library calls this also if a request is not HTTP."""
        # The standard library says 501 (Not Implemented) for a method that has no `do_…` here; that is a 405.
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._answer_problem(status, status.description)

    def _answer_problem(self, status: HTTPStatus, detail: str, **more: Any) -> None:  # Any: JSON
        problem = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status,
            "code": status.name.lower(),
            "detail": detail,
            **more,
        }
        self._answer(status, "application/problem+json", json.dumps(problem).encode())

    def _answer(self, status: HTTPStatus, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Log nothing: a scrape is no event."""

"""/metrics and /health, over a real socket."""

import asyncio
import json
import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from structlog.testing import capture_logs

from app_runtime.telemetry.endpoint import MAX_CLIENTS, Endpoint, Health, MetricsSettings


@pytest.fixture
def health() -> list[Health]:
    """The list whose last entry is the current health of the process."""
    return [Health({"running": 3})]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def endpoint(registry: CollectorRegistry, health: list[Health]) -> Iterator[Endpoint]:
    endpoint = Endpoint(MetricsSettings(port=0), registry, lambda: health[-1])
    with serving(endpoint):
        yield endpoint


@pytest.mark.parametrize(("host", "reached"), [("::", ["127.0.0.1", "::1"]), ("::1", ["::1"])])
def test_all_addresses_are_those_of_both_protocols(host: str, reached: list[str], registry: CollectorRegistry) -> None:
    endpoint = Endpoint(MetricsSettings(port=0, host=host), registry, lambda: Health({}))

    with serving(endpoint):
        for address in ("127.0.0.1", "::1"):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
                assert (client.connect_ex((address, endpoint.port)) == 0) == (address in reached)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(45):
        while not condition():  # noqa: ASYNC110  # another thread changes it
            await asyncio.sleep(0.01)


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[None]:
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        endpoint.shutdown()
        thread.join()
        endpoint.server_close()


def ask(endpoint: Endpoint, path: str, *, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.port), timeout=20)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(65536):
        received += part
    return received


def problem(answer: tuple[HTTPResponse, bytes]) -> tuple[int, str | None, dict[str, Any]]:
    response, body = answer
    return response.status, response.getheader("Content-Type"), json.loads(body)


def test_prometheus_gets_its_text(endpoint: Endpoint, registry: CollectorRegistry) -> None:
    Counter("app_mails", "Sent.", ["kind"], registry=registry).labels("notice").inc()

    response, body = ask(endpoint, "/metrics")

    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain; version=")
    assert b'app_mails_total{kind="notice"} 1.0' in body


def test_open_metrics_is_spoken_to_who_asks_for_it(endpoint: Endpoint) -> None:
    response, body = ask(endpoint, "/metrics", accept="application/openmetrics-text; version=1.0.0")

    assert (response.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_process_that_is_well_says_how_it_is(endpoint: Endpoint) -> None:
    response, body = ask(endpoint, "/health?from=probe")

    assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
    assert json.loads(body) == {"status": "ok", "running": 3}


def test_a_process_that_is_not_well_says_why(endpoint: Endpoint, health: list[Health]) -> None:
    health.append(Health({"running": 4}, "It is tired."))

    status, media_type, body = problem(ask(endpoint, "/health"))

    assert (status, media_type) == (503, "application/problem+json")
    assert (body["detail"], body["code"], body["running"]) == ("It is tired.", "service_unavailable", 4)


@pytest.mark.parametrize("complaint", [None, "It is tired."])
def test_a_process_that_a_restart_may_mend_asks_for_one(
    complaint: str | None, endpoint: Endpoint, health: list[Health]
) -> None:
    health.append(Health({"running": 4}, complaint))

    assert ask(endpoint, "/live")[0].status == (503 if complaint else 200)


def test_an_outage_asks_for_no_restart(endpoint: Endpoint, health: list[Health]) -> None:
    health.append(Health({"running": 4}, "Postgres is away.", restart_helps=False))

    assert [ask(endpoint, path)[0].status for path in ("/health", "/live")] == [503, 200]


def test_there_is_nothing_else(endpoint: Endpoint) -> None:
    status, media_type, body = problem(ask(endpoint, "/metrics/more"))

    assert (status, media_type) == (404, "application/problem+json")
    assert (body["status"], body["code"], body["title"]) == (404, "not_found", "Not Found")


@pytest.mark.parametrize("method", ["POST", "DELETE", "BREW"])
def test_the_endpoint_is_only_for_looking(endpoint: Endpoint, method: str) -> None:
    answer = ask(endpoint, "/health", method=method)

    status, _, body = problem(answer)
    assert (status, body["code"]) == (405, "method_not_allowed")
    assert answer[0].getheader("Allow") == "GET, HEAD"


def test_head_is_answered_without_a_body(endpoint: Endpoint) -> None:
    response, body = ask(endpoint, "/health", method="HEAD")

    assert (response.status, body) == (200, b"")
    assert int(response.getheader("Content-Length") or 0) > 0


def test_what_is_not_http_is_refused(endpoint: Endpoint) -> None:
    with connect(endpoint) as client:
        client.sendall(b"\x16\x03\x01 this is not HTTP/1.1\r\n\r\n")

        assert b'"status": 400' in read_all(client)


def test_an_answer_says_nothing_about_versions(endpoint: Endpoint) -> None:
    response, _ = ask(endpoint, "/health")

    assert "Python" not in (response.getheader("Server") or "")


def test_a_client_that_says_nothing_is_hung_up_on() -> None:
    endpoint = Endpoint(MetricsSettings(port=0), CollectorRegistry(), lambda: Health({}), client_timeout=0.05)

    with serving(endpoint), connect(endpoint) as client:
        assert client.recv(1) == b""


async def test_only_so_many_clients_are_served_at_once(endpoint: Endpoint) -> None:
    with ExitStack() as idle:
        for _ in range(MAX_CLIENTS):
            idle.enter_context(connect(endpoint)).sendall(b"GET /health HTTP/1.1\r\n")

        assert not is_served(endpoint)

    await until(lambda: is_served(endpoint))


def is_served(endpoint: Endpoint) -> bool:
    try:
        return ask(endpoint, "/health")[0].status == 200
    except OSError:  # hung up on
        return False


async def test_a_client_that_goes_away_is_nothing_to_report(endpoint: Endpoint) -> None:
    threads = threading.active_count()
    with capture_logs() as logs:
        client = connect(endpoint)
        client.sendall(b"GET /health")
        await until(lambda: threading.active_count() > threads)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # by a reset
        await until(lambda: threading.active_count() == threads)

    assert logs == []


def test_a_fault_of_our_own_is_reported(endpoint: Endpoint, health: list[Health]) -> None:
    health.clear()

    with capture_logs() as logs, connect(endpoint) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        read_all(client)

    assert [(event["event"], type(event["exc_info"])) for event in logs] == [("telemetry_failed", IndexError)]


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_without_descriptors_still_shows_its_figures(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    with (
        Endpoint(MetricsSettings(port=0), registry, lambda: Health({})) as endpoint,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with no_descriptors():
            endpoint.process_request(*endpoint.get_request())
            answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert b"process_max_fds" in answer


def test_a_port_that_is_closed_accepts_nobody(endpoint: Endpoint) -> None:
    other = Endpoint(MetricsSettings(port=0), CollectorRegistry(), lambda: Health({}))
    other.server_close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        other.get_request()

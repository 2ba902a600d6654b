"""How long a process serves its metrics, and at which address."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app_runtime.telemetry.endpoint import Health, MetricsSettings
from app_runtime.telemetry.exporting import PORTS, exporting

WELL = Health({})


@asynccontextmanager
async def exported(**settings: Any) -> AsyncIterator[tuple[str, int]]:
    """Yield the address on which a process listens."""
    with capture_logs() as logs:
        async with exporting(MetricsSettings(enabled=True, **settings), CollectorRegistry(), lambda: WELL):
            (where,) = [(event["host"], event["port"]) for event in logs if event["event"] == "telemetry_started"]
            yield where


def get(host: str, port: int, path: str = "/metrics") -> str:
    connection = HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def test_a_start_is_counted() -> None:
    async with exported(port=0) as where:
        metrics = get(*where)  # without `await`: the answer does not need the loop

    assert "app_started_total 1.0" in metrics
    assert "app_stopped_total 0.0" in metrics


async def test_the_last_figures_can_be_scraped() -> None:
    left = asyncio.Event()
    where: list[tuple[str, int]] = []

    async def process() -> None:
        async with exported(port=0, stop_delay=60) as here:
            where.append(here)
            left.set()

    running = asyncio.create_task(process())
    await left.wait()
    await asyncio.sleep(0)  # it has left the block

    assert "app_stopped_total 1.0" in await asyncio.to_thread(get, *where[0])

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_second_process_of_a_host_takes_the_next_port() -> None:
    async with exported(port=0) as (_, port), exported(port=port) as (host, other):
        assert port < other < port + PORTS
        assert get(host, other, "/health") == '{"status": "ok"}'


async def test_a_process_that_finds_no_port_works_without() -> None:
    with socket.create_server(("127.0.0.1", 65535)), capture_logs() as logs:
        async with exporting(MetricsSettings(enabled=True, port=65535), CollectorRegistry(), lambda: WELL):
            pass

    assert logs == [{"event": "telemetry_port_taken", "log_level": "warning", "host": "127.0.0.1", "port": 65535}]


async def test_an_address_of_another_machine_is_a_mistake_in_the_settings() -> None:
    settings = MetricsSettings(enabled=True, host="192.0.2.1", port=0)

    with pytest.raises(OSError, match="assign"):
        async with exporting(settings, CollectorRegistry(), lambda: WELL):
            pass


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")
async def test_the_port_may_be_of_ipv6() -> None:
    async with exported(host="::1", port=0) as where:
        assert get(*where, "/health") == '{"status": "ok"}'

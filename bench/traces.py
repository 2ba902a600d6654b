"""The cost of traces: an API without, and others that trace none, a tenth and all of their requests, in one run.

uv run python -m bench.traces [--seconds 5]
"""

import argparse
import asyncio
import statistics
from contextlib import ExitStack

from app_db.testing import databases
from app_runtime.testing.collector import Collector
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.http import ROOT, environment_of, get, served, sign_in
from bench.load import Request

SAMPLES = ("", "0", "0.1", "1")
ROUNDS = 3


async def measure(servers: dict[str, tuple[int, int]], seconds: int) -> dict[str, list[float]]:
    """Load each server in turn, ROUNDS times; return the CPU time per request, in µs."""
    port = servers[""][0]
    tokens = await sign_in(port, "user@example.com")
    me = Request("GET", "/auth/me", (("Authorization", f"Bearer {tokens['access_token']}"),))
    figures: dict[str, list[float]] = {sample: [] for sample in servers}
    for _ in range(ROUNDS):
        for sample, (to, of) in servers.items():
            figures[sample].append((await get(to, of, me, seconds)).cpu_us)
    return figures


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="for each server and round")
    seconds = parser.parse_args().seconds
    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey, Collector() as collector:
        url = asyncio.run(databases.recreate(postgres.url("postgres"), "app_bench_test"))
        asyncio.run(databases.migrate(url, root=ROOT))
        common = environment_of(url, valkey.url, 0)
        servers: dict[str, tuple[int, int]] = {}
        with ExitStack() as running:
            for sample in SAMPLES:
                port = free_port()
                traces = {"APP_TRACING__ENDPOINT": collector.endpoint, "APP_TRACING__SAMPLE": sample} if sample else {}
                environment = {**common, **traces, "APP_HTTP__PORT": str(port)}
                process = running.enter_context(served(["-m", "app_api"], port, "/probe/live", environment))
                servers[sample] = (port, process.pid)
            figures = asyncio.run(measure(servers, seconds))
    off = statistics.median(figures[""])
    for sample, rounds in figures.items():
        median = statistics.median(rounds)
        name = f"sample {sample}" if sample else "off"
        print(f"{name:12} {median:6.0f} µs of CPU for GET /auth/me, {median / off:.2f} x")


if __name__ == "__main__":
    main()

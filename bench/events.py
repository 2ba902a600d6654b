"""`python -m bench.events`: what a process pays for 1,000 clients that follow jobs (`GET /jobs/{id}/events`).

First nothing changes; then each job's progress changes once a second, as often as workers write it. p50 and p99 are how
late its events are.
"""

import argparse
import asyncio
import json
import time
from dataclasses import astuple, dataclass
from os import getloadavg

from app_api.features.jobs.streams import MOST_PER_ACCOUNT
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.http import environment_of, served, sign_in
from bench.jobs_place import Place, cpu_of_family, quantile, say
from bench.load import Connection, Request, cpu_seconds, memory_mb

STREAMS = 1000

_JOBS = """
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, state, claim_at)
    SELECT uuidv7(), id, 'bench.follow', '{}', 1, 'executing', now() + interval '1 hour'
    FROM users, generate_series(1, $1) RETURNING id, owner_id
"""
_PROGRESS = """
    UPDATE jobs SET progress = jsonb_build_object('at', $1::float8, 'step', 'row by row') WHERE kind = 'bench.follow'
"""


@dataclass(frozen=True)
class Cost:
    """What some streams cost."""

    what: str
    streams: int
    api_cpu_percent: float
    postgres_cpu_percent: float
    memory_mb: float
    events_per_second: float
    p50_ms: float
    p99_ms: float


class Clients:
    """Clients that follow a job each, and note how late each event is."""

    def __init__(self, port: int, requests: list[Request]) -> None:
        self.port, self.requests = port, requests
        self.late: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open all, fifty at once."""
        for start in range(0, len(self.requests), 50):
            self._tasks += [asyncio.create_task(self._follow(each)) for each in self.requests[start : start + 50]]
            await asyncio.sleep(0.3)
        await asyncio.sleep(3)
        assert not any(task.done() for task in self._tasks), "a stream was refused"

    async def close(self) -> None:
        """Close all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, request: Request) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.encode(self.port))
        try:
            while line := await reader.readline():
                if line.startswith(b"data: ") and (progress := json.loads(line[6:])["progress"]):
                    self.late.append(time.time() - progress["at"])
        finally:
            writer.close()


async def change(place: Place, seconds: float) -> None:
    """Let each job show its progress once a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        next_at = time.monotonic() + 1
        await place.connection.execute(_PROGRESS, time.time())
        await asyncio.sleep(max(0, next_at - time.monotonic()))


async def measure(place: Place, pid: int, what: str, clients: Clients | None, seconds: float) -> Cost:
    """Measure for some seconds; `changing` with progress."""
    late = clients.late if clients is not None else []
    late.clear()
    before, before_postgres, start = cpu_seconds(pid), cpu_of_family(place.postgres.pid), time.monotonic()
    await (change(place, seconds) if what == "changing" else asyncio.sleep(seconds))
    took = time.monotonic() - start
    api, postgres = cpu_seconds(pid) - before, cpu_of_family(place.postgres.pid) - before_postgres
    p50, p99 = (quantile(late, share) * 1e3 if late else 0.0 for share in (0.5, 0.99))
    streams = len(clients.requests) if clients is not None else 0
    return Cost(what, streams, api / took * 100, postgres / took * 100, memory_mb(pid), len(late) / took, p50, p99)


async def requests_of(place: Place, port: int, streams: int) -> list[Request]:
    """Make accounts with jobs, as many as may be followed; return a request for each job."""
    tokens: dict[str, str] = {}
    for number in range(streams // MOST_PER_ACCOUNT):
        email = f"user-{number}@example.com"
        tokens[email] = (await sign_in(port, email))["access_token"]
    emails = {row["id"]: row["email"] for row in await place.connection.fetch("SELECT id, email FROM users")}
    jobs = await place.connection.fetch(_JOBS, MOST_PER_ACCOUNT)
    return [
        Request("GET", f"/jobs/{job['id']}/events", (("Authorization", f"Bearer {tokens[emails[job['owner_id']]]}"),))
        for job in jobs
    ]


async def run(postgres: PostgresServer, valkey: ValkeyServer, arguments: argparse.Namespace) -> None:
    """Start the API, open the streams, measure, print."""
    place, port = await Place.prepare(postgres, valkey), free_port()
    environment = environment_of(place.url, valkey.url, port) | {"APP_AUTH__BCRYPT_ROUNDS": "4"}
    with served(["-m", "app_api"], port, "/probe/live", environment) as api:
        load = getloadavg()[0]
        say("accounts and jobs")
        requests = await requests_of(place, port, arguments.streams)
        costs = [await measure(place, api.pid, "idle", None, arguments.seconds)]
        clients = Clients(port, requests)
        await clients.open()
        status, _ = await Connection(port).send(requests[0])
        print(f"one stream more is refused with {status}")
        for what in ("quiet", "changing", "quiet"):
            say(what)
            costs.append(await measure(place, api.pid, what, clients, arguments.seconds))
        await clients.close()
        await asyncio.sleep(2)
        costs.append(await measure(place, api.pid, "closed", None, arguments.seconds))
    print(f"load {load:.1f} at the beginning, {getloadavg()[0]:.1f} at the end")
    names = ("", "streams", "API CPU %", "Postgres", "MB", "events/s", "p50 ms", "p99 ms")
    print(" ".join(f"{name:>10}" for name in names))
    for cost in costs:
        what, streams, *figures = astuple(cost)
        print(f"{what:>10} {streams:10}", *(f"{figure:10.1f}" for figure in figures))
    await place.connection.close()


def main() -> None:
    """Start the servers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="for each line")
    parser.add_argument("--streams", type=int, default=STREAMS)
    arguments = parser.parse_args()
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        asyncio.run(run(postgres, valkey, arguments))


if __name__ == "__main__":
    main()

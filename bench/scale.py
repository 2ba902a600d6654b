"""What more processes give on one machine, and what each request and job costs Postgres: direct, and through PgBouncer.

python -m bench.scale [--seconds 5] [--jobs 3000] [--json]

Processes beyond the cores are no faster. What they show is the cost of a request or a job for Postgres, which all
machines of a fleet share: it must not grow with them. bench/README.md computes a fleet from it.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
from redis import Redis

from app_db.testing.databases import open_app_role
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.http import ROOT, environment_of, me_of, served, sign_in
from bench.jobs_place import CREATE_EFFECTS, Place, cpu_of_family, say
from bench.jobs_rates import ours
from bench.load import Request, cpu_seconds, json_request, load
from tests.e2e.pgbouncer import pgbouncer, program_or_none, with_worker

COUNTS = (1, 2, 4)
CONNECTIONS = 16
"""Of all processes together, so that no number of processes has more to do than another."""
KINDS = {"tx, one INSERT": "bench.effect", "lease, nothing": "bench.nothing"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    way: str
    processes: int
    per_second: float
    cpu_us: float
    """CPU of all API or worker processes for each request or job."""
    postgres_us: float
    wal_bytes: float

    def line(self) -> str:
        """Return the line."""
        figures = f"{self.per_second:8.0f} {self.cpu_us:9.0f} {self.postgres_us:9.0f} {self.wal_bytes:9.0f}"
        return f"{self.what:16} {self.way:7} {self.processes:3} {figures}"


HEADER = f"{'':16} {'':7} {'':3} {'each s':>8} {'CPU µs':>9} {'Postgres':>9} {'WAL bytes':>9}"


@contextmanager
def apis(count: int, common: dict[str, str]) -> Iterator[list[tuple[int, int]]]:
    """Run API processes; their ports and ids."""
    with ExitStack() as running:
        ends = []
        for _ in range(count):
            port = free_port()
            environment = {**common, "APP_HTTP__PORT": str(port)}
            process = running.enter_context(served(["-m", "app_api"], port, "/probe/ready", environment))
            ends.append((port, process.pid))
        yield ends


async def measure_requests(place: Place, way: str, ends: list[tuple[int, int]], seconds: int) -> list[Row]:
    """Load all processes at once with signed-in GETs, then with refreshes."""
    each = CONNECTIONS // len(ends)
    names = [f"{way}{len(ends)}of{number}@example.com" for number in range(CONNECTIONS)]
    tokens = [await sign_in(ends[0][0], name) for name in names]

    def me(number: int, _: bytes) -> Request:
        return me_of(tokens[number])

    def refresh(number: int, body: bytes) -> Request:
        token = json.loads(body)["refresh_token"] if body else tokens[number]["refresh_token"]
        return json_request("/auth/refresh-token", {"refresh_token": token})

    rows = []
    for what, request in {"GET /auth/me": me, "refresh": refresh}.items():
        before, wal = _used(place, ends), await _written(place)
        loads = [
            load(port, pid, seconds=seconds, connections=each, next_request=_from(request, number * each))
            for number, (port, pid) in enumerate(ends)
        ]
        figures = await asyncio.gather(*loads)
        if any(figure.refused for figure in figures):
            raise SystemExit(f"{what}, {way}, {len(ends)} processes: answers that were not 2xx")
        rate = sum(figure.per_second for figure in figures)
        done = rate * seconds
        cpu, postgres = (now - then for now, then in zip(_used(place, ends), before, strict=True))
        written = (await _written(place) - wal) / done
        rows.append(Row(what, way, len(ends), rate, cpu / done * 1e6, postgres / done * 1e6, written))
    return rows


def _from(request: Callable[[int, bytes], Request], first: int) -> Callable[[int, bytes], Request]:
    return lambda number, body: request(first + number, body)


def _used(place: Place, ends: list[tuple[int, int]]) -> tuple[float, float]:
    return sum(cpu_seconds(pid) for _, pid in ends), cpu_of_family(place.postgres.pid)


async def _written(place: Place) -> float:
    return float(await place.connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def measure_jobs(place: Place, way: str, environment: dict[str, str], jobs: int) -> list[Row]:
    """Let 1, 2 and 4 workers empty a backlog of each kind."""
    rows = []
    for what, kind in KINDS.items():
        for count in COUNTS:
            rate = await ours(place, f"{what}, {way}, {count}", kind, jobs=jobs, count=count, environment=environment)
            workers, of_postgres = (seconds / jobs * 1e6 for seconds in (rate.cpu.workers, rate.cpu.postgres))
            rows.append(Row(what, way, count, rate.per_second, workers, of_postgres, rate.wal_bytes / jobs))
            print(rows[-1].line(), flush=True)
    return rows


async def measure(
    place: Place, ways: dict[str, tuple[dict[str, str], dict[str, str]]], given: argparse.Namespace
) -> list[Row]:
    """Take each way with each number of processes; `ways` has the variables of an API and of a worker."""
    rows = []
    for way, (of_api, of_worker) in ways.items():
        for count in COUNTS:
            say(f"{count} API processes, {way}")
            with apis(count, environment_of(place.url, place.valkey.url, 0) | of_api) as ends:
                rows += await measure_requests(place, way, ends, given.seconds)
            print("\n".join(row.line() for row in rows[-2:]), flush=True)
        rows += await measure_jobs(place, way, of_worker, given.jobs)
    return rows


async def run(postgres: PostgresServer, valkey: ValkeyServer, folder: Path, given: argparse.Namespace) -> list[Row]:
    """Prepare the database with the roles of production, and measure."""
    async with open_app_role(postgres.url("postgres"), "bench", root=ROOT) as role:
        database = await with_worker(role)
        connection = await asyncpg.connect(role.administrator.direct_dsn)
        await connection.execute(f"SET ROLE {role.roles.migrator}; {CREATE_EFFECTS}; RESET ROLE")
        place = Place(postgres, valkey, role.settings.direct_dsn, connection, Redis.from_url(valkey.url))
        ways = {"direct": (database.direct(database.app), database.direct(database.worker))}
        with ExitStack() as running:
            if program_or_none() is None:
                print("no PgBouncer from 1.21 on is on PATH: only direct connections", file=sys.stderr)
            else:
                users = (database.app, database.worker)
                port = running.enter_context(pgbouncer(folder / "pgbouncer", database.app, *users))
                ways["pooled"] = (database.environment(database.app, port), database.environment(database.worker, port))
            rows = await measure(place, ways, given)
        await connection.close()
        return rows


def main() -> None:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="for each kind of request")
    parser.add_argument("--jobs", type=int, default=3_000, help="for each kind of job")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    given = parser.parse_args()
    with (
        PostgresServer.temporary(durable=True) as postgres,
        ValkeyServer.temporary() as valkey,
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder).chmod(0o755)  # PgBouncer drops root's rights
        print(HEADER)
        rows = asyncio.run(run(postgres, valkey, Path(folder), given))
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()

"""`make bench-console`: what pages of the console cost beside 1,000,000 jobs and accounts, and 200 pages that are live.

Asks each page of an operator one after the other, as `python -m app_api` serves it, for `--seconds` each. Queries are
counted by Postgres's log, in a pass of its own. `--scale 0.1` seeds a tenth.
"""

import argparse
import asyncio
import json
import re
import time
from dataclasses import asdict, dataclass
from os import getloadavg
from urllib.parse import urlencode, urlsplit

from app_db import open_database
from app_db.features.figures.repository import AT_ONCE, FigureRepository
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.big_tables_seed import seed
from bench.http import PASSWORD, environment_of, served
from bench.jobs_place import Place, cpu_of_family, say
from bench.load import Connection, Request, cpu_seconds, json_request

JOBS, SESSIONS = 1_000_000, 200_000
PAGES_AT_ONCE, PER_SESSION = 200, 20
TRIES = 20
FORM = ("Content-Type", "application/x-www-form-urlencoded")
OPERATOR = "operator@example.com"
QUERY = re.compile(r"LOG:  (?:execute [^:]+|statement):\s+(?:SELECT|WITH|INSERT|UPDATE|DELETE)")
MINUTES = 60

_ERRORS = """
    INSERT INTO job_errors (id, job_id, attempt, failed_at, error, trace)
    SELECT uuidv7(finished_at - now()), id, 1, finished_at, 'TimeoutError: no answer of number ' || attempt,
        repeat('  File "handlers.py", line 1, in handle' || chr(10), 20)
    FROM jobs WHERE state = 'discarded'
"""
_RUNNING = """
    UPDATE jobs SET started_at = now(), progress = '{"done": 1, "of": 4}' WHERE state = 'executing'
"""
_WORKERS = """
    INSERT INTO job_workers (id, host, pid, queues, concurrency, running, beat_at, holding)
    SELECT uuidv7(), 'worker-' || number, 7, ARRAY['default', 'mail'], 10, 5, now() + interval '1 hour',
        ARRAY(SELECT id FROM jobs WHERE claim_at IS NOT NULL AND state IN ('dispatched', 'executing') LIMIT 20)
    FROM generate_series(1, 10) AS number
"""
_CRONS = """
    INSERT INTO job_crons (name, last_tick_at, expression, timezone, queue, kind, next_ticks, last_job_id, seen_at)
    SELECT 'reports.number_' || number, date_trunc('hour', now()), '30 2 * * 1-5', 'Europe/Berlin', 'default',
        'reports', ARRAY[now(), now(), now()], (SELECT id FROM jobs LIMIT 1 OFFSET number), now() + interval '1 hour'
    FROM generate_series(1, 50) AS number
"""
_HOURS = """
    INSERT INTO job_figures (span, began_at, jobs, queues, events)
    SELECT 'hour', date_trunc('hour', now(), 'UTC') - make_interval(hours => number), jobs, queues, events
    FROM generate_series(1, 335) AS number, (SELECT * FROM job_figures ORDER BY began_at LIMIT 1) AS minute
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class PageCost:
    """What a page costs on average."""

    api_cpu_ms: float
    postgres_cpu_ms: float
    queries: int
    kilobytes: float


@dataclass(frozen=True)
class LiveCost:
    """What open pages cost together, per second."""

    pages: int
    queries: float
    api_cpu_percent: float
    postgres_cpu_percent: float
    kilobytes_a_page: float


class Site:
    """The API that is measured, and its servers."""

    def __init__(self, place: Place, port: int, pid: int) -> None:
        self.place, self.port, self.pid = place, port, pid

    async def register(self) -> None:
        """Make the account of the operator, however often a busy machine refuses to hash."""
        for _ in range(TRIES):
            sent = json_request("/auth/register", {"email": OPERATOR, "password": PASSWORD})
            status, _ = await Connection(self.port).send(sent)
            if status < 500:
                return
            await asyncio.sleep(1)

    async def sign_in(self) -> str:
        """Sign in as the operator, however often a busy machine refuses to hash; return the cookie."""
        form = urlencode({"email": OPERATOR, "password": PASSWORD}).encode()
        sent = Request("POST", "/console/sign-in", (("Sec-Fetch-Site", "same-origin"), FORM), form)
        for _ in range(TRIES):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(sent.encode(self.port))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.close()
            if found := re.search(r"set-cookie: ([^;]+)", head, re.IGNORECASE):
                return found[1]
            await asyncio.sleep(1)
        raise SystemExit("the operator cannot sign in")

    async def count_queries(
        self, during: float, connection: Connection | None = None, page: Request | None = None
    ) -> int:
        """Return how many queries Postgres logs while a page is asked for, or for a time."""
        await self._log("all")
        start = self.place.postgres.log.stat().st_size
        if connection and page:
            await connection.send(page)
        await asyncio.sleep(during)
        with self.place.postgres.log.open(errors="replace") as log:
            log.seek(start)
            found = len(QUERY.findall(log.read()))
        await self._log("none")
        return found

    async def _log(self, what: str) -> None:
        await self.place.connection.execute(f"ALTER SYSTEM SET log_statement = '{what}'")
        await self.place.connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.3)  # each session reads it before its next statement


async def prepare(place: Place, scale: float) -> None:
    """Fill the tables, and count an hour as workers do."""
    say(f"seeding {int(JOBS * scale):,} jobs")
    await seed(place.connection, scale=scale, sessions=SESSIONS, jobs=JOBS)
    for statement in (_ERRORS, _RUNNING, _WORKERS, _CRONS):
        await place.connection.execute(statement, timeout=600)
    async with open_database(place.settings, name="bench") as database:
        for _ in range(MINUTES // AT_ONCE + 1):
            async with database.unit_of_work() as session:
                await FigureRepository(session).count()
    await place.connection.execute(_HOURS)
    await place.connection.execute("VACUUM ANALYZE", timeout=600)


async def pages_of(site: Site, cookie: str) -> dict[str, str]:
    """Return name and address of the pages: those of the navigation, and lists and rows that are looked at."""
    ask = site.place.connection.fetchval
    job = await ask("SELECT id FROM jobs WHERE state = 'discarded' ORDER BY id DESC LIMIT 1")
    account = await ask("SELECT owner_id FROM jobs WHERE id = $1", job)
    _, body = await Connection(site.port).send(Request("GET", "/console/account", (("Cookie", cookie),)))
    linked = re.findall(r'<a href="(/console/[\w-]+)"', body.decode())
    chosen = {
        "Overview, a day": "/console/overview?window=day",
        "Jobs, discarded": "/console/jobs?state=discarded",
        "Jobs, a kind": "/console/jobs?kind=email.notice",
        "Jobs, a text": "/console/jobs?error=no+answer",
        "Jobs, an account": f"/console/jobs?owner={account}",
        "Jobs, a seldom kind": "/console/jobs?kind=seldom.kind",
        "Jobs, an account and a kind": f"/console/jobs?owner={account}&kind=misspelt",
        "Jobs, what would be retried": "/console/jobs/act?action=retry&state=discarded",
        "Jobs, what would be cancelled": "/console/jobs/act?action=cancel&kind=misspelt",
        "Jobs, what would be deleted": "/console/jobs/act?action=delete&kind=misspelt",
        "Accounts, two conditions": "/console/accounts?state=disabled&role=user",
        "Accounts, who never signed in": "/console/accounts?signed_in=never&state=verified",
        "Audit, two conditions": f"/console/audit?event=signed_out&account={account}",
        "Job": f"/console/jobs/{job}",
        "Account": f"/console/accounts/{account}",
    }
    return {urlsplit(path).path.removeprefix("/console/"): path for path in linked} | chosen


async def measure_page(site: Site, cookie: str, path: str, seconds: float) -> PageCost | None:
    """Ask for a page again and again; None if there is no such page."""
    connection, page = Connection(site.port), Request("GET", path, (("Cookie", cookie),))
    status, body = await connection.send(page)
    if status != 200:
        return None
    queries = await site.count_queries(0.2, connection, page)
    asked, end = 0, time.monotonic() + seconds
    before, before_postgres = cpu_seconds(site.pid), cpu_of_family(site.place.postgres.pid)
    while time.monotonic() < end:
        await connection.send(page)
        asked += 1
    api, postgres = cpu_seconds(site.pid) - before, cpu_of_family(site.place.postgres.pid) - before_postgres
    return PageCost(api / asked * 1e3, postgres / asked * 1e3, queries, len(body) / 1e3)


async def measure_live(site: Site, cookies: list[str], pages: int, seconds: float) -> LiveCost:
    """Hold the overview open in many browsers."""
    received = 0

    async def watch(number: int) -> None:
        nonlocal received
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        about = (("Cookie", cookies[number // PER_SESSION]),)
        writer.write(Request("GET", "/console/live?watch=overview:hour", about).encode(site.port))
        try:
            while text := await reader.read(65536):
                received += len(text)
        finally:
            writer.close()

    watching = [asyncio.create_task(watch(number)) for number in range(pages)]
    await asyncio.sleep(3)
    assert not any(each.done() for each in watching), "a stream was refused"
    before, before_postgres = cpu_seconds(site.pid), cpu_of_family(site.place.postgres.pid)
    received, start = 0, time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - start
    api, postgres = cpu_seconds(site.pid) - before, cpu_of_family(site.place.postgres.pid) - before_postgres
    sent = received / took / pages / 1e3
    queries = await site.count_queries(seconds) / (seconds + 0.3)
    for each in watching:
        each.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return LiveCost(pages, queries, api / took * 100, postgres / took * 100, sent)


async def measure(site: Site, seconds: float) -> tuple[dict[str, PageCost], list[LiveCost]]:
    """Measure each page, then one that is live and many."""
    await site.register()
    await site.place.connection.execute("UPDATE users SET role = 'operator' WHERE email = $1", OPERATOR)
    cookies = [await site.sign_in() for _ in range(PAGES_AT_ONCE // PER_SESSION)]
    costs: dict[str, PageCost] = {}
    for name, path in (await pages_of(site, cookies[0])).items():
        say(name)
        if cost := await measure_page(site, cookies[0], path, seconds):
            costs[name] = cost
    live = []
    for pages in (1, PAGES_AT_ONCE):
        say(f"{pages} live")
        live.append(await measure_live(site, cookies, pages, max(seconds * 3, 5)))
    return costs, live


def report(costs: dict[str, PageCost], live: list[LiveCost]) -> None:
    """Print the tables of bench/README.md."""
    print(f"{'page':30} {'API CPU ms':>10} {'Postgres':>10} {'queries':>8} {'kB':>6}")
    for name, cost in costs.items():
        print(f"{name:30} {cost.api_cpu_ms:10.1f} {cost.postgres_cpu_ms:10.1f} {cost.queries:8} {cost.kilobytes:6.0f}")
    print(f"\n{'live pages':>10} {'queries/s':>10} {'API CPU %':>10} {'Postgres':>10} {'kB/s a page':>12}")
    for each in live:
        print(
            f"{each.pages:10} {each.queries:10.1f} {each.api_cpu_percent:10.1f} {each.postgres_cpu_percent:10.1f} "
            f"{each.kilobytes_a_page:12.1f}"
        )


async def run(postgres: PostgresServer, valkey: ValkeyServer, arguments: argparse.Namespace) -> None:
    """Seed, start the API, measure, print."""
    place = await Place.prepare(postgres, valkey)
    await prepare(place, arguments.scale)
    port = free_port()
    with served(["-m", "app_api"], port, "/probe/live", environment_of(place.url, valkey.url, port)) as api:
        load = getloadavg()[0]
        costs, live = await measure(Site(place, port, api.pid), arguments.seconds)
    print(f"load {load:.1f} at the beginning, {getloadavg()[0]:.1f} at the end")
    report(costs, live)
    if arguments.json:
        pages = {name: asdict(cost) for name, cost in costs.items()}
        print(json.dumps({"load": load, "pages": pages, "live": [asdict(each) for each in live]}))
    await place.connection.close()


def main() -> None:
    """Start the servers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="for each page")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    arguments = parser.parse_args()
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        asyncio.run(run(postgres, valkey, arguments))


if __name__ == "__main__":
    main()

"""A network drops open connections to Postgres without FIN or RST, and lets new ones through."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from httpx2 import AsyncClient, Response
from sqlalchemy import text

from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.jobs.leadership import RETRY_LOCKS
from app_db.jobs.outbox import enqueue
from app_db.testing.plugin import MakeUser
from app_runtime.testing.network import Network
from app_worker import relay
from tests.reads import SILENCE

from .conftest import StartWorker
from .http_site import NO_HANG, HttpSite
from .processes import eventually

pytestmark = SILENCE

IDLE = 5.5
"""Seconds: longer than APP_DATABASE__PING_AFTER_IDLE."""
READS, WRITES = 10, 5
"""Connections in each pool."""
SLOW = 0.4


async def timed(ask: Callable[[], Awaitable[Response]]) -> tuple[int, float]:
    began = time.monotonic()
    response = await ask()
    return response.status_code, time.monotonic() - began


async def silence(site: HttpSite) -> dict[str, list[tuple[int, float]]]:
    """Return status and seconds of each request after the network dropped all connections: reads, then writes."""
    host, _, port = site.role_dsn.rpartition("@")[2].partition("/")[0].partition(":")
    async with Network(host, int(port)).open() as network:
        place = f"127.0.0.1:{network.port}"
        api = site.start_api(APP_DATABASE__URL=site.role_dsn.replace(f"{host}:{port}", place))
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:

            async def read() -> Response:
                return await site.me(client=client)

            async def write() -> Response:
                return await site.register(client=client)

            await asyncio.gather(*(read() for _ in range(3 * READS)), *(write() for _ in range(3 * WRITES)))
            await asyncio.sleep(IDLE)
            network.forget()
            return {"reads": [await timed(read) for _ in range(READS + 2)],
                    "writes": [await timed(write) for _ in range(WRITES + 2)]}  # fmt: skip


async def test_connections_that_fell_silent_cost_one_wait_a_pool_and_no_request(http_site: HttpSite) -> None:
    """Before, 7 to 9 reads got a 503 after 5 s each, and then as many writes."""
    asked = await silence(http_site)

    for name, answers in asked.items():
        assert {status for status, _ in answers} <= {200, 201}, (name, answers)
        assert max(seconds for _, seconds in answers) < 3, (name, answers)
    assert sum(seconds > SLOW for _, seconds in asked["reads"]) <= 1, asked["reads"]


JOBS = 30
"""So many jobs at once use every connection of a worker."""


async def run_jobs(database: Database, user_id: UUID, number: int) -> float:
    """Enqueue `number` mails at once; return the seconds until all are sent."""
    began = time.monotonic()
    async with database.sessions.begin() as session:
        for _ in range(number):
            await enqueue(session, WelcomeEmail(user_id=user_id))

    async def all_are_sent() -> bool:
        async with database.read_sessions() as session:
            sent = text("SELECT bool_and(state = 'completed') FROM jobs WHERE queue = 'default'")
            return bool(await session.scalar(sent))

    await eventually(all_are_sent, "the mails are sent")
    return time.monotonic() - began


async def first_job(start_worker: StartWorker, database: Database, user_id: UUID) -> float:
    """Return the seconds of the first job after the network dropped all connections, with the usual lease."""
    url = database.settings.sqlalchemy_url
    async with Network(url.host or "", url.port or 5432).open() as network:
        place = url.set(host="127.0.0.1", port=network.port).render_as_string(hide_password=False)
        start_worker(APP_DATABASE__URL=place, APP_WORKER__LEASE="PT15S")
        await run_jobs(database, user_id, JOBS)
        await asyncio.sleep(IDLE)
        network.forget()
        return await run_jobs(database, user_id, 1)


async def test_the_first_job_of_a_worker_waits_for_one_slow_answer(
    start_worker: StartWorker, database: Database, make_user: MakeUser
) -> None:
    """Before, no worker led until the server hung up on the leader after 10 s; a failed start waited for its lease."""
    waits = database.settings
    for_the_relay = relay.POLL + relay.LONGEST_TRANSACTION + relay.PAUSE_AFTER_OUTAGE
    for_the_leader = RETRY_LOCKS + waits.connect_timeout + relay.PAUSE_AFTER_OUTAGE

    seconds = await first_job(start_worker, database, (await make_user()).id)

    bound = max(for_the_relay, for_the_leader) + waits.ping_timeout + waits.connect_timeout
    assert timedelta(seconds=seconds) < bound

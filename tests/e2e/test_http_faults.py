"""Postgres or Valkey breaks: the API says so, nothing hangs, and it goes on by itself once the server is back.

Each test leaves the site as it found it, so all share one API process, and thereby show that it needs no restart.
"""

import asyncio
import signal
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from httpx2 import AsyncClient, Response

from app_api.testing import assert_problem

from .http_site import DATABASE, END_SESSIONS, NO_HANG, ROLE, HttpSite
from .processes import until

LETS_NOBODY_IN = {
    "53300": (f"ALTER ROLE {ROLE} CONNECTION LIMIT 0", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"),
    "42501": (
        f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {DATABASE} TO PUBLIC",
    ),
}
"""By the SQLSTATE with which PostgreSQL refuses connections: the statements that begin and end it."""
READ_ONLY = f"ALTER ROLE {ROLE} SET default_transaction_read_only = on"
WRITABLE = f"ALTER ROLE {ROLE} RESET default_transaction_read_only"

CLIENTS = 8
UNAVAILABLE_SECONDS = 6.0
"""Seconds within which the API says that its database is unavailable, for every kind of fault (promised)."""
UNREADY_SECONDS = 2.0
"""Seconds from the loss of the database until the readiness probe fails (promised)."""
BACK_SECONDS = 5.0
"""Most seconds of the first sign-in once the database is back (promised)."""
LIVE_SECONDS = 0.5
"""Most seconds of 99 of 100 liveness probes. 0.05 is promised; the rest is for tests that share two processors."""


@pytest.fixture
def site(http_site: HttpSite) -> HttpSite:
    """A running API with a signed-in user."""
    return http_site


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_database_that_is_stopped_is_said_to_be_away_until_it_is_back(
    site: HttpSite, how: signal.Signals
) -> None:
    with site.postgres_is_down(how):
        assert_problem(await unready(site), 503, "unready")
        assert_unavailable(await site.login())
        assert_unavailable(await site.me())
        assert (await site.client.get("/probe/live")).status_code == 200

    first = await site.login()
    assert (first.status_code, seconds_of(first) <= BACK_SECONDS) == (200, True)
    assert (await site.me()).status_code == 200
    await site.becomes("ready")


async def test_no_request_hangs_on_a_database_that_is_frozen(site: HttpSite) -> None:
    with site.postgres_is_frozen():
        answers = await asyncio.gather(*(ask() for ask in (site.login, site.me) * 25))
        live = await site.client.get("/probe/live")

    for answer in answers:
        assert_unavailable(answer)
    assert live.status_code == 200
    assert (await site.login()).status_code == 200
    await site.nothing_is_left_open()


async def test_no_sign_in_hangs_on_a_table_that_is_locked(site: HttpSite) -> None:
    async with site.locked("users"):
        sign_ins = asyncio.gather(*(site.login() for _ in range(30)))
        probes = []
        while not sign_ins.done():
            probes.append(await site.client.get("/probe/live"))
            await asyncio.sleep(0.02)
        answers = await sign_ins

    for answer in answers:
        assert_unavailable(answer)
    assert len(probes) > 10
    assert {probe.status_code for probe in probes} == {200}
    assert statistics.quantiles(map(seconds_of, probes), n=100)[98] <= LIVE_SECONDS
    assert (await site.login()).status_code == 200
    await site.nothing_is_left_open()


@pytest.mark.parametrize(("no_more", "again"), LETS_NOBODY_IN.values(), ids=LETS_NOBODY_IN)
async def test_a_database_that_lets_nobody_in_is_said_to_be_away_until_it_does(
    site: HttpSite, no_more: str, again: str
) -> None:
    await site.do(no_more)
    try:
        await site.do(END_SESSIONS)

        assert_unavailable(await site.login())
        assert_unavailable(await site.me())
    finally:
        await site.do(again)

    assert (await site.login()).status_code == 200
    assert (await site.me()).status_code == 200


async def test_a_server_without_a_free_connection_is_said_to_be_away_until_it_has_one(site: HttpSite) -> None:
    async with no_free_connection(site):
        assert_unavailable(await site.login())
        assert_unavailable(await site.me())

    assert (await site.login()).status_code == 200
    assert (await site.me()).status_code == 200


async def test_a_database_that_became_read_only_is_said_to_be_away_and_still_read(site: HttpSite) -> None:
    await site.do(f"{READ_ONLY}; {END_SESSIONS}")
    await asyncio.gather(site.login(), site.me())  # these find that their connections were ended

    try:
        sign_in, read = await site.login(), await site.me()
    finally:
        await site.do(f"{WRITABLE}; {END_SESSIONS}")

    assert_unavailable(sign_in)
    assert read.status_code == 200
    await asyncio.gather(site.login(), site.me())  # as above
    assert (await site.login()).status_code == 200


async def test_a_restart_of_the_database_under_load_is_seen_as_nothing_but_unavailable(site: HttpSite) -> None:
    answers: Counter[int] = Counter()
    async with load(site, answers):
        await until(lambda: answers[200] > 20, "the load is on")
        with site.postgres_is_down():
            await until(lambda: answers[503], "the outage is noticed")
        served = answers[200]
        await until(lambda: answers[200] > served + 20, "it serves again")

    assert set(answers) == {200, 503}
    await site.nothing_is_left_open()


@pytest.mark.parametrize("break_it", [HttpSite.valkey_is_down, HttpSite.valkey_is_frozen])
async def test_accounts_work_without_valkey(
    site: HttpSite, break_it: Callable[[HttpSite], AbstractContextManager[None]]
) -> None:
    with break_it(site):
        await site.becomes("degraded")
        asked = (site.login, site.refresh, site.me, site.register, site.forgot)
        answers = [await ask() for ask in asked]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 201, 202]
    await site.becomes("ready")


async def test_wrong_passwords_are_limited_without_valkey(site: HttpSite) -> None:
    api = site.start_api(APP_THROTTLE__LOGIN_ACCOUNT="5/5m")
    async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
        with site.valkey_is_down():
            guesses = [await site.login(password=f"a guess, number {number}", client=client) for number in range(5)]
            right = await site.login(client=client)

    assert {guess.status_code for guess in guesses} == {400}
    assert_problem(right, 429, "too_many_requests")
    api.kill()


async def test_a_constraint_that_nobody_knows_is_a_fault_after_which_the_connection_goes_on(site: HttpSite) -> None:
    async with AsyncClient(base_url=site.api.url, timeout=NO_HANG) as client:
        await site.do("ALTER TABLE user_sessions ADD CONSTRAINT nobody_knows CHECK (false) NOT VALID")
        try:
            fault = await site.login(client=client)
            before = connection_of(fault)
        finally:
            await site.do("ALTER TABLE user_sessions DROP CONSTRAINT nobody_knows")
        afterwards = await site.login(client=client)
        after = connection_of(afterwards)

    problem = assert_problem(fault, 500, "internal_error")
    await until(lambda: site.api.has_logged(problem["request_id"]), "the fault is logged")
    assert "nobody_knows" not in fault.text
    assert (afterwards.status_code, after) == (200, before)


def assert_unavailable(response: Response) -> None:
    """Fail unless the API says in time that its database is unavailable, and when to try again."""
    assert_problem(response, 503, "database_unavailable")
    assert seconds_of(response) <= UNAVAILABLE_SECONDS


def seconds_of(response: Response) -> float:
    """Seconds of the request, including the wait for a connection of the client."""
    return response.elapsed.total_seconds()


async def unready(site: HttpSite) -> Response:
    """Return the first readiness probe that fails; it has to come within UNREADY_SECONDS."""
    async with asyncio.timeout(UNREADY_SECONDS):
        while (answer := await site.client.get("/probe/ready")).status_code == 200:
            pass
    return answer


def connection_of(response: Response) -> object:
    """The client's address on the connection that the response came over."""
    return response.extensions["network_stream"].get_extra_info("client_addr")


@asynccontextmanager
async def load(site: HttpSite, answers: Counter[int]) -> AsyncIterator[None]:
    """Clients that sign in, or ask who they are, again and again; `answers` counts the statuses."""

    async def keep_asking() -> None:
        while not done.is_set():
            for ask in (site.login, site.me):
                answers[(await ask()).status_code] += 1

    done = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(keep_asking())
        try:
            yield
        finally:
            done.set()


@asynccontextmanager
async def no_free_connection(site: HttpSite) -> AsyncIterator[None]:
    """Take all connections of the server during the block."""
    await site.do(END_SESSIONS)
    taken: list[Any] = []  # Any: asyncpg's connection, which has no types
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(site.role_dsn))
        yield
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))

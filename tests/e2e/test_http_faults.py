"""What is below the API breaks: it says so, nothing hangs, and it goes on by itself once that is mended.

Each test leaves its site as it found it, so all share one: that the process was not restarted in between is part of
what they show.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from httpx2 import AsyncClient, RemoteProtocolError, Response

from app_api.testing import assert_problem

from .http_site import END_SESSIONS, NO_HANG, ROLE, HttpSite
from .processes import Api, eventually, until
from .proxy import proxied

WAITING = f"SELECT FROM pg_stat_activity WHERE usename = '{ROLE}' AND wait_event_type = 'Lock'"
NO_MORE = f"ALTER ROLE {ROLE} CONNECTION LIMIT 0"
AGAIN = f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"
READ_ONLY = f"ALTER ROLE {ROLE} SET default_transaction_read_only = on"
WRITABLE = f"ALTER ROLE {ROLE} RESET default_transaction_read_only"


CLIENTS = 8


@pytest.fixture
def site(http_site: HttpSite) -> HttpSite:
    """Running, with a user who is signed in."""
    return http_site


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_database_that_is_stopped_is_said_to_be_away_until_it_is_back(
    site: HttpSite, how: signal.Signals
) -> None:
    with site.postgres_is_down(how):
        assert_unavailable(await site.login())
        assert_unavailable(await site.me())
        await site.becomes("unready")
        assert (await site.client.get("/probe/live")).status_code == 200

    assert (await site.login()).status_code == 200
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
        sign_ins = [asyncio.create_task(site.login()) for _ in range(30)]
        live = await site.client.get("/probe/live")
        answers = await asyncio.gather(*sign_ins)

    for answer in answers:
        assert_unavailable(answer)
    assert live.status_code == 200
    assert (await site.login()).status_code == 200
    await site.nothing_is_left_open()


async def test_a_database_that_lets_nobody_in_is_said_to_be_away_until_it_does(site: HttpSite) -> None:
    await site.do(f"{NO_MORE}; {END_SESSIONS}")

    try:
        assert_unavailable(await site.login())
        assert_unavailable(await site.me())
    finally:
        await site.do(AGAIN)

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
    await asyncio.gather(site.login(), site.me())  # those that find out that their connection was ended

    try:
        sign_in, read = await site.login(), await site.me()
    finally:
        await site.do(f"{WRITABLE}; {END_SESSIONS}")

    assert_unavailable(sign_in)
    assert read.status_code == 200
    await asyncio.gather(site.login(), site.me())  # the same again
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


async def test_sign_ins_that_run_when_it_is_told_to_stop_are_answered(site: HttpSite) -> None:
    api = site.start_api()
    async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
        async with site.locked("users"):
            sign_ins = [asyncio.create_task(site.login(client=client)) for _ in range(20)]
            await eventually(lambda: site.ask(WAITING), "sign-ins wait for the table")
            api.signal(signal.SIGTERM)
        answers = await asyncio.gather(*sign_ins)

    assert {answer.status_code for answer in answers} == {200}
    assert api.stop() == 0, api.output


@asynccontextmanager
async def behind_the_proxy(site: HttpSite, folder: Path) -> AsyncIterator[tuple[Api, Counter[str]]]:
    """Two processes behind the proxy, under load, of which the first is to be ended; and a count of answers."""
    # With the delay of production, in which the proxy has to notice.
    api = site.start_api(APP_HTTP__DRAIN_DELAY="3")
    places = [each.url.removeprefix("http://") for each in (api, site.api)]
    answers: Counter[str] = Counter()

    async def count(kind: str, ask: Callable[..., Awaitable[Response]], client: AsyncClient) -> None:
        while not done.is_set():
            try:
                answers[f"{kind} {(await ask(client=client)).status_code}"] += 1
            except RemoteProtocolError as error:
                begun = "complete message body" in str(error)
                answers[f"{kind} {'cut short' if begun else 'not answered'}"] += 1

    done = asyncio.Event()
    with proxied(*places, log=folder / "proxy.log") as port:
        async with (
            AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=NO_HANG) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for kind, ask in (("read", site.me), ("write", site.register)) * CLIENTS:
                tasks.create_task(count(kind, ask, client))
            await until(lambda: answers["read 200"] > 50 and answers["write 201"] > 50, "the load is on")
            yield api, answers
            served = answers["write 201"]
            await until(lambda: answers["write 201"] > served + 50, "the other one serves")
            done.set()


async def test_a_process_that_is_killed_takes_no_more_along_than_what_it_was_writing(
    site: HttpSite, tmp_path: Path
) -> None:
    async with behind_the_proxy(site, tmp_path) as (api, answers):
        api.kill()

    # A read is asked again of the other, unless its answer had begun: the status is with the client by then.
    served = {"read 200", "write 201"}
    assert set(answers) <= served | {"read cut short", "write cut short", "write 502", "write not answered"}
    assert answers.total() - sum(answers[kind] for kind in served) <= 2 * CLIENTS
    await site.nothing_is_left_open()


async def test_a_process_that_is_told_to_stop_behind_the_proxy_costs_no_request(site: HttpSite, tmp_path: Path) -> None:
    async with behind_the_proxy(site, tmp_path) as (api, answers):
        code = await asyncio.to_thread(api.stop)

    assert code == 0
    assert set(answers) == {"read 200", "write 201"}


async def test_a_dropped_column_is_a_fault_after_which_the_connection_goes_on(site: HttpSite) -> None:
    async with AsyncClient(base_url=site.api.url, timeout=NO_HANG) as client:
        await site.do("ALTER TABLE users RENAME COLUMN password_hash TO dropped")
        try:
            fault = await site.login(client=client)
            before = connection_of(fault)
        finally:
            await site.do("ALTER TABLE users RENAME COLUMN dropped TO password_hash")
        afterwards = await site.login(client=client)
        after = connection_of(afterwards)

    problem = assert_problem(fault, 500, "internal_error")
    assert site.api.has_logged(problem["request_id"])
    assert "password_hash" not in fault.text
    assert (afterwards.status_code, after) == (200, before)


def assert_unavailable(response: Response) -> None:
    """Fail unless this is the answer of an API whose database is away, with the time after which to try again."""
    assert_problem(response, 503, "database_unavailable")


def connection_of(response: Response) -> object:
    """The client's end of the open connection that a response came by."""
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
    """Others have taken all connections that the server has."""
    await site.do(END_SESSIONS)
    taken: list[Any] = []  # Any: asyncpg's connection, which has no types
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(site.role_dsn))
        yield
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))

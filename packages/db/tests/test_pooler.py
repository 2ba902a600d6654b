"""What holds behind a pooler of transactions, and what is refused there; `FakePooler` stands in for PgBouncer.

tests/e2e/test_pgbouncer.py does it with a real one, where there is one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import ARRAY, BigInteger, Integer, bindparam, func, literal_column, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.hosts import Hosts
from app_db.jobs.leadership import Leadership
from app_db.outage import DatabaseUnavailable
from app_db.pooler import IN_THE_WAY, UNDECLARED, WrongPooling, carried_by_role, naming_poolers, require_way_past
from app_db.roles import Roles, make_roles, require_modest_role, roles_sql
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_runtime.configuration import Misconfigured

from .pooling import NO_PID, FakePooler
from .shared_calls import quotient

TIMEOUT = timedelta(seconds=5)


def through(settings: DatabaseSettings, port: int, **values: object) -> DatabaseSettings:
    """Return the settings with a pooler in front of the same database."""
    url = settings.sqlalchemy_url
    shown = {"url": url, "direct_url": url} | {"url": url.set(port=port)}
    urls = {name: each.render_as_string(hide_password=False) for name, each in shown.items()}
    return DatabaseSettings.model_validate({**urls, "read_pool_size": 2, "pool_size": 2, **values})


def pooler_of(settings: DatabaseSettings, **options: Any) -> FakePooler:
    url = settings.sqlalchemy_url
    return FakePooler(url.host or "", url.port or 5432, **options)


@pytest_asyncio.fixture(loop_scope="session")
async def carrying(modest_role: AppRole) -> AsyncIterator[AppRole]:
    """The role of the applications, with the settings that it needs behind a pooler."""
    carried = {modest_role.roles.app: carried_by_role(modest_role.settings)}
    await make_roles(modest_role.administrator, roles_sql(modest_role.roles, passwords={}, carried=carried))
    yield modest_role
    async with administering(modest_role) as administrator:
        database = modest_role.administrator.sqlalchemy_url.database
        await administrator.execute(f'ALTER ROLE {modest_role.roles.app} IN DATABASE "{database}" RESET ALL')


@asynccontextmanager
async def administering(role: AppRole) -> AsyncIterator[Any]:  # Any: asyncpg has no types
    connection = await Hosts(role.administrator.direct_dsn, connect_timeout=TIMEOUT).connect()
    yield connection
    await connection.close()


@asynccontextmanager
async def pooled(role: AppRole, **values: object) -> AsyncIterator[Database]:
    """Yield the engines of the applications behind a pooler that they know of."""
    async with (
        pooler_of(role.settings).open() as pooler,
        open_database(through(role.settings, pooler.port, pooler="transaction", **values), name="test") as database,
    ):
        yield database


@asynccontextmanager
async def things(role: AppRole) -> AsyncIterator[Any]:
    """Yield a connection of the administrator, while there is a table `things`."""
    async with administering(role) as administrator:
        await administrator.execute("CREATE TABLE things (size integer); INSERT INTO things VALUES (7)")
        await administrator.execute(f"GRANT ALL ON things TO {role.roles.app}")
        try:
            yield administrator
        finally:
            await administrator.execute("DROP TABLE things")


async def test_a_pooler_is_asked_for_what_it_keeps_for_each_client(carrying: AppRole) -> None:
    pooler = pooler_of(carrying.settings)
    async with (
        pooler.open(),
        open_database(through(carrying.settings, pooler.port, pooler="transaction"), name="test") as database,
        database.unit_of_work() as session,
    ):
        assert await session.scalar(text("SHOW statement_timeout")) == "2500ms"

    assert {part for each in pooler.parameters for part in each.split(b"\0")[::2]} == {
        b"user", b"database", b"client_encoding", b"timezone", b"standard_conforming_strings", b"application_name", b"",
    }  # fmt: skip


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_type_change_behind_a_pooler_breaks_nothing(carrying: AppRole, *, read_only: bool) -> None:
    async def size() -> Any:
        async with database.unit_of_work(read_only=read_only) as session:
            return await session.scalar(text("SELECT size FROM things"))

    async with pooled(carrying) as database, things(carrying) as administrator:
        assert await asyncio.gather(*(size() for _ in range(4))) == [7] * 4
        await administrator.execute("ALTER TABLE things ALTER size TYPE text USING size::text")

        assert await asyncio.gather(*(size() for _ in range(4))) == ["7"] * 4


async def test_an_error_between_two_statements_is_an_outage(carrying: AppRole) -> None:
    """PgBouncer says so when a session has died whose client is in a transaction, and closes the connection later."""
    pooler = pooler_of(carrying.settings)

    async def loses_its_session() -> None:
        async with database.unit_of_work() as session:
            await session.execute(text("SELECT 1"))
            pooler.say("server conn crashed?")
            await asyncio.sleep(0.1)
            await session.execute(text("SELECT 2"))

    async with (
        pooler.open(),
        open_database(through(carrying.settings, pooler.port, pooler="transaction"), name="test") as database,
    ):
        with pytest.raises(DatabaseUnavailable):
            await loses_its_session()


async def test_reads_through_a_pooler_cannot_write(carrying: AppRole) -> None:
    async with pooled(carrying) as database, things(carrying):
        with pytest.raises(DBAPIError, match="read-only transaction"):
            async with database.unit_of_work(read_only=True) as session:
                await session.execute(text("INSERT INTO things VALUES (8)"))
        async with database.unit_of_work() as session:
            await session.execute(text("INSERT INTO things VALUES (8)"))


async def test_shared_reads_through_a_pooler_cannot_write(carrying: AppRole) -> None:
    steps = func.unnest(bindparam("step", type_=ARRAY(BigInteger)))
    calls = steps.table_valued("step", with_ordinality="number").render_derived()
    writing = select(func.setval(literal_column("'steps'"), calls.c.step), calls.c.number).select_from(calls)
    async with pooled(carrying) as database, things(carrying) as administrator:
        await administrator.execute("CREATE SEQUENCE steps OWNED BY things.size")
        await administrator.execute(f"GRANT ALL ON SEQUENCE steps TO {carrying.roles.app}")

        with pytest.raises(DBAPIError, match="read-only transaction"):
            await database.read_gathered(writing, {"step": 3})


async def test_shared_reads_through_a_pooler_answer_and_fail_as_others(carrying: AppRole) -> None:
    async with pooled(carrying) as database:
        answers = await asyncio.gather(*(quotient(database, each) for each in (1, 0, 3)), return_exceptions=True)
        left = asyncio.create_task(quotient(database, 1, seconds=60))
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.wait([left])

        assert answers[0::2] == [60, 20]
        assert isinstance(answers[1], DBAPIError)
    async with pooled(carrying) as database:
        assert await quotient(database, 4) == 15


async def test_an_argument_that_does_not_fit_keeps_no_session(carrying: AppRole) -> None:
    too_large = text("SELECT CAST(:size AS integer)").bindparams(bindparam("size", 2**40, type_=Integer))
    async with pooled(carrying) as database, database.autocommit_sessions() as session:
        with pytest.raises(DBAPIError, match="invalid input for query argument"):
            await session.execute(too_large)

        async with asyncio.timeout(10), database.unit_of_work(read_only=True) as other:
            assert await other.scalar(text("SELECT 7")) == 7


async def test_a_role_that_lacks_what_a_pooler_loses_is_refused(modest_role: AppRole) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        async with pooled(modest_role) as database, database.unit_of_work() as session:
            await session.execute(text("SELECT"))

    assert "has to carry search_path=public" in refused.value.reason()
    assert "database roles --pooler transaction" in refused.value.reason()


async def test_limits_that_are_shorter_than_those_of_a_worker_are_refused(carrying: AppRole) -> None:
    longer = {"statement_timeout": timedelta(seconds=60), "idle_in_transaction_timeout": timedelta(0)}
    with pytest.raises(DatabaseUnavailable) as refused:
        async with pooled(carrying, **longer) as database, database.unit_of_work() as session:
            await session.execute(text("SELECT"))

    assert "statement_timeout=60000 or more, idle_in_transaction_session_timeout=0:" in refused.value.reason()


async def test_a_worker_of_its_own_role_may_do_what_the_application_may(modest_role: AppRole) -> None:
    roles, worker = modest_role.roles, f"{modest_role.roles.app}_worker"
    with_worker = Roles(roles.migrator, roles.app, roles.readonly, worker=worker)
    limits = {"statement_timeout": timedelta(hours=1), "idle_in_transaction_timeout": timedelta(0)}
    settings = modest_role.settings.model_copy(update=limits)
    script = roles_sql(
        with_worker, passwords={worker: SecretStr("of-the-test")}, carried={worker: carried_by_role(settings)}
    )
    for _ in range(2):
        await make_roles(modest_role.administrator, script)
    named = settings.sqlalchemy_url.set(username=worker, password="of-the-test")
    url = named.render_as_string(hide_password=False)
    given = {"url": url, "direct_url": url, "pooler": "transaction", **limits}
    try:
        require_modest_role(DatabaseSettings.model_validate(given))
        async with (
            open_database(DatabaseSettings.model_validate(given), name="test") as database,
            database.unit_of_work() as session,
        ):
            await session.execute(text("DELETE FROM users"))
    finally:
        async with administering(modest_role) as administrator:
            await administrator.execute(f"DROP OWNED BY {worker}; DROP ROLE {worker}")


async def test_a_pooler_of_transactions_that_nobody_named_is_refused(modest_role: AppRole) -> None:
    assert await refused_by(pooler_of(modest_role.settings, pid=4711), modest_role) == UNDECLARED


@pytest.mark.parametrize("pid", [NO_PID, -4711, 0])
async def test_a_pooler_that_loses_no_setting_is_refused(carrying: AppRole, pid: int) -> None:
    """Either the role carries all of them, or the pooler tracks those that Postgres tells."""
    assert await refused_by(pooler_of(carrying.settings, pid=pid), carrying) == UNDECLARED


async def test_a_pooler_that_refuses_what_sessions_ask_for_is_named(modest_role: AppRole) -> None:
    assert await refused_by(pooler_of(modest_role.settings, refuses="jit"), modest_role) == UNDECLARED


async def refused_by(pooler: FakePooler, role: AppRole) -> str:
    """Use a database through a pooler that nobody named, and return why that is refused."""
    async with pooler.open(), open_database(through(role.settings, pooler.port), name="test") as database:
        with pytest.raises(DatabaseUnavailable) as refused:
            async with database.unit_of_work() as session:
                await session.execute(text("SELECT"))
    assert database.failures == {"refused": 1}
    return refused.value.reason()


async def test_statements_behind_a_pooler_have_no_names(carrying: AppRole) -> None:
    async with pooled(carrying) as database, database.unit_of_work() as session:
        assert await session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0


@pytest.mark.parametrize("pools", ["session", "one session"])
async def test_a_pooler_of_sessions_is_none_of_transactions(modest_role: AppRole, pools: str) -> None:
    async with (
        pooler_of(modest_role.settings, pools=pools).open() as pooler,
        open_database(through(modest_role.settings, pooler.port), name="test") as database,
        database.unit_of_work() as session,
    ):
        assert await session.scalar(text("SELECT 7")) == 7


async def test_nobody_leads_through_a_pooler(modest_role: AppRole) -> None:
    async with pooler_of(modest_role.settings).open() as pooler:
        dsn = through(modest_role.settings, pooler.port).dsn
        leadership = Leadership(dsn, ["default"], connect_timeout=TIMEOUT, on_notification=lambda: None)

        with pytest.raises(WrongPooling, match="a pooler answers where LISTEN"):
            await leadership.run()

    assert (leadership.refusal, leadership.leads("default")) == (IN_THE_WAY, False)


async def test_a_leader_that_a_pooler_refuses_says_so(modest_role: AppRole) -> None:
    async with pooler_of(modest_role.settings, refuses="idle_session_timeout").open() as pooler:
        dsn = through(modest_role.settings, pooler.port).dsn
        leadership = Leadership(dsn, ["default"], connect_timeout=TIMEOUT, on_notification=lambda: None)

        with pytest.raises(WrongPooling):
            await leadership.run()

    assert leadership.refusal == IN_THE_WAY


@pytest.mark.parametrize("refuses", ["", "search_path"])
async def test_a_direct_url_through_a_pooler_is_refused(modest_role: AppRole, refuses: str) -> None:
    async with pooler_of(modest_role.settings, refuses=refuses).open() as pooler:
        swapped = through(modest_role.settings, pooler.port)
        settings = swapped.model_copy(update={"url": swapped.direct_url, "direct_url": swapped.url})

        with pytest.raises(Misconfigured, match="APP_DATABASE__DIRECT_URL: a pooler answers where"):
            await asyncio.to_thread(require_way_past, settings)


def test_a_direct_url_that_nothing_answers_is_refused(modest_role: AppRole, refusing_url: str) -> None:
    nowhere = modest_role.settings.model_copy(update={"direct_url": SecretStr(refusing_url)})

    with pytest.raises(Misconfigured, match="APP_DATABASE__DIRECT_URL: the database does not answer"):
        require_way_past(nowhere)


def test_a_direct_url_past_all_poolers_is_accepted(modest_role: AppRole) -> None:
    require_way_past(modest_role.settings)
    require_way_past(modest_role.settings.model_copy(update={"direct_url": modest_role.settings.url}))


def test_other_refusals_of_a_pooler_keep_their_text() -> None:
    with pytest.raises(asyncpg.ProtocolViolationError, match="no more connections"), naming_poolers(UNDECLARED):
        raise asyncpg.ProtocolViolationError("no more connections allowed (max_client_conn)")

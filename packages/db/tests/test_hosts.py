"""Several hosts in one URL: how the URL names them, and which of them a connection leads to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import asyncpg
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.hosts import Hosts
from app_db.models import JobQueue
from app_db.settings import DatabaseSettings

type Place = tuple[str, int]

SOON = timedelta(seconds=1)
LATE = timedelta(seconds=5)
NEVER = timedelta(hours=1)
BACKEND = text("SELECT pg_backend_pid()")
NAME = text("SELECT current_setting('application_name')")
BOTH = "?host=127.0.0.1%2Clocalhost&port=5433%2C5434&sslmode=disable&target_session_attrs=read-write"


@pytest.fixture
def here(database_settings: DatabaseSettings) -> Place:
    """The address of Postgres."""
    url = database_settings.sqlalchemy_url
    return url.host or "", url.port or 5432


@pytest.fixture
def silent() -> Iterator[Place]:
    """An address that takes connections and never answers, as a host that has vanished."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def refusing() -> Iterator[Place]:
    """An address on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()


def url_of(settings: DatabaseSettings, *places: Place, target: str = "read-write", password: str | None = None) -> str:
    url = settings.sqlalchemy_url
    hosts = "&".join(f"host={host}:{port}" for host, port in places)
    return (
        f"postgresql://{url.username}:{password or url.password}@/{url.database}?{hosts}&target_session_attrs={target}"
    )


def hosts_of(settings: DatabaseSettings, *places: Place, timeout: timedelta, **different: str) -> Hosts:
    given = DatabaseSettings.model_validate(
        {"replica_url": url_of(settings, *places, **different), "url": "postgres:///"}
    )
    return Hosts(given.replica_dsn or "", connect_timeout=timeout)


@pytest.fixture
async def several(
    database: Database, database_settings: DatabaseSettings, refusing: Place, here: Place
) -> AsyncIterator[Database]:
    """The test's database, at the second of two hosts in the URL."""
    settings = DatabaseSettings.model_validate({"url": url_of(database_settings, refusing, here)})
    async with open_database(settings, name="several") as opened:
        yield opened


@pytest.mark.parametrize(
    "query",
    [
        "host=127.0.0.1:5433&host=localhost:5434",
        "host=127.0.0.1:5433,localhost:5434",
        "host=127.0.0.1,localhost&port=5433,5434",
        "host=127.0.0.1&host=localhost&port=5433&port=5434",
    ],
)
def test_hosts_are_read_however_they_are_spelled(query: str) -> None:
    settings = DatabaseSettings.model_validate({"url": f"postgresql:///app?{query}&target_session_attrs=read-write"})

    assert settings.dsn == f"postgresql:///app{BOTH}"


@pytest.mark.parametrize(
    ("hosts", "ports"),
    [("127.0.0.1,[::1]:7", "5432,7"), ("/run/postgresql", "5432"), ("127.0.0.1,[::1]&port=6", "6,6")],
)
def test_a_port_that_is_not_named_is_that_of_all_or_the_usual_one(hosts: str, ports: str) -> None:
    url = f"postgresql:///app?host={hosts}&target_session_attrs=primary"

    assert DatabaseSettings.model_validate({"url": url}).sqlalchemy_url.query["port"] == ports


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql:///app?host=a:1&host=b:2", "names several hosts: say which of them"),
        ("postgresql:///app?host=a,b&target_session_attrs=any", "names several hosts: say which of them"),
        ("postgresql:///app?host=a:1&target_session_attrs=writable", "one of any, prefer-standby, primary"),
        ("postgresql://a/app?host=b:2", "before the path or as"),
        ("postgresql:///app?host=a&host=b&port=1,2,3", "takes several hosts as"),
        ("postgresql:///app?host=a:x", "takes several hosts as"),
        ("postgresql:///app?host=a&port=x", "takes several hosts as"),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DatabaseSettings.model_validate({"url": url, "tls": "off"})


def test_of_replicas_any_may_be_named_and_a_standby_is_preferred() -> None:
    given = {"url": "postgresql:///app", "replica_url": "postgresql:///app?host=127.0.0.1:1&host=127.0.0.1:2"}

    dsn = DatabaseSettings.model_validate(given).replica_dsn

    assert make_url(dsn or "").query["target_session_attrs"] == "prefer-standby"


async def test_a_host_that_refuses_is_passed_over(
    database_settings: DatabaseSettings, refusing: Place, here: Place
) -> None:
    connection = await hosts_of(database_settings, refusing, here, timeout=LATE).connect()

    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_a_host_that_says_nothing_is_given_up_in_favour_of_the_next(
    database_settings: DatabaseSettings, silent: Place, here: Place
) -> None:
    connection = await hosts_of(database_settings, silent, here, timeout=SOON).connect()

    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_who_is_impatient_finds_the_host_that_answers(
    database_settings: DatabaseSettings, silent: Place, here: Place
) -> None:
    hosts = hosts_of(database_settings, silent, here, timeout=NEVER)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hosts.connect(), SOON.total_seconds())

    connection = await asyncio.wait_for(hosts.connect(), LATE.total_seconds())

    await connection.close()


async def test_where_no_host_is_what_is_asked_for_each_says_why(
    database_settings: DatabaseSettings, refusing: Place, silent: Place, here: Place
) -> None:
    hosts = hosts_of(database_settings, refusing, silent, here, target="standby", timeout=SOON)

    with pytest.raises(ConnectionError, match=r"Connect call failed.*no answer in time.*target attribute"):
        await hosts.connect()


async def test_where_no_standby_answers_a_primary_that_does_is_as_good(
    database_settings: DatabaseSettings, refusing: Place, here: Place
) -> None:
    hosts = hosts_of(database_settings, refusing, here, target="prefer-standby", timeout=LATE)

    connection = await hosts.connect()

    assert not await connection.fetchval("SELECT pg_is_in_recovery()")
    await connection.close()


async def test_a_standby_that_is_gone_is_waited_for_once(database_settings: DatabaseSettings, refusing: Place) -> None:
    hosts = hosts_of(database_settings, refusing, target="prefer-standby", timeout=LATE)

    with pytest.raises(ConnectionError) as error:
        await hosts.connect()

    assert str(error.value).count("Connect call failed") == 1


async def test_what_the_shell_has_for_other_programs_leads_nowhere_else(
    database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg reads these variables for each part that a URL leaves out (connect_utils.py of 0.32)."""
    exported = {"PGTARGETSESSIONATTRS": "standby", "PGPORT": "1", "PGSSLMODE": "require", "PGSERVICE": "prod"}
    for name, value in exported.items():
        monkeypatch.setenv(name, value)

    connection = await Hosts(database_settings.dsn, connect_timeout=LATE).connect()

    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    assert Hosts("postgresql://app@127.0.0.1/app", connect_timeout=LATE)._places == [(None, 5432)]


async def test_a_password_that_is_wrong_is_so_on_every_host(database_settings: DatabaseSettings, here: Place) -> None:
    hosts = hosts_of(database_settings, here, here, password="wrong", timeout=LATE)

    with pytest.raises(asyncpg.InvalidPasswordError):
        await hosts.connect()


async def test_each_engine_finds_the_primary(several: Database) -> None:
    async with several.unit_of_work() as session:
        session.add(JobQueue(name="mail"))

    async with several.unit_of_work(read_only=True) as session:
        assert await session.get(JobQueue, "mail")


async def test_a_server_that_only_reads_is_left(database: Database, database_settings: DatabaseSettings) -> None:
    settings = database_settings.model_copy(update={"pool_size": 1})
    async with open_database(settings, name="second") as second:
        async with second.unit_of_work() as session:
            demoted = await session.scalar(BACKEND)
            await session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError, match="read-only"):
            async with second.sessions.begin() as session:
                session.add(JobQueue(name="mail"))

        async with second.unit_of_work() as session:
            assert await session.scalar(BACKEND) != demoted


async def test_reads_leave_a_server_that_only_reads_with_the_writes(
    database: Database, database_settings: DatabaseSettings
) -> None:
    """A read cannot tell that a standby answers it: there an ended session would live on (gpustack #6105)."""
    settings = database_settings.model_copy(update={"pool_size": 1, "read_pool_size": 1})
    async with open_database(settings, name="second") as second:
        async with second.unit_of_work(read_only=True) as session:
            demoted = await session.scalar(BACKEND)
        async with second.unit_of_work() as session:
            await session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError, match="read-only"):
            async with second.sessions.begin() as session:
                session.add(JobQueue(name="mail"))

        pids = []
        for _ in range(2):
            async with second.unit_of_work(read_only=True) as session:
                pids.append(await session.scalar(BACKEND))

    assert pids[0] != demoted
    assert pids[1] == pids[0]


async def test_a_stale_read_is_made_where_the_replicas_are(
    database: Database, database_settings: DatabaseSettings
) -> None:
    settings = database_settings.model_copy(update={"replica_url": database_settings.url})
    async with open_database(settings, name="api") as second, second.unit_of_work(stale=True) as session:
        assert await session.scalar(NAME) == "api-replica"


async def test_without_replicas_a_stale_read_is_made_on_the_primary(database: Database) -> None:
    async with database.unit_of_work(stale=True) as session:
        name = await session.scalar(NAME)

    assert str(name).endswith("-read")


async def test_a_stale_read_cannot_write(database: Database, database_settings: DatabaseSettings) -> None:
    settings = database_settings.model_copy(update={"replica_url": database_settings.url})
    async with open_database(settings, name="api") as second:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            async with second.unit_of_work(stale=True) as session:
                session.add(JobQueue(name="mail"))

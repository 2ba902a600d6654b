"""Ways to run the migrations, alone and at once."""

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, pool
from sqlalchemy.ext.asyncio import create_async_engine

pytestmark = pytest.mark.integration

type RunAlembic = Callable[..., subprocess.Popen[str]]

LOCK_KEY = 0x67726F756E64  # as in migrations/env.py
TOUCHES_USERS = "a5964ab5eaab"
# Migrators between two attempts to get the lock: without a transaction or a snapshot that others would wait for.
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND query LIKE 'COMMIT%' AND state = 'idle' AND backend_xmin IS NULL
"""


@pytest.fixture
async def connection(dsn: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def revisions(config: Config) -> list[str]:
    """All revisions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


async def applied(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    if await connection.fetchval("SELECT to_regclass('schema_history')") is None:
        return []
    return [
        row["revision"] for row in await connection.fetch("SELECT revision FROM schema_history ORDER BY applied_at")
    ]


async def finished(process: "subprocess.Popen[str]") -> str:
    with process:
        output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    return output


async def test_migrating_works_while_the_callers_loop_runs(
    config: Config, connection: "asyncpg.Connection[asyncpg.Record]", revisions: list[str]
) -> None:
    command.upgrade(config, "head")

    assert await applied(connection) == revisions


async def test_migrating_works_on_the_callers_connection(
    empty_url: str, config: Config, connection: "asyncpg.Connection[asyncpg.Record]", revisions: list[str]
) -> None:
    def upgrade(sync: Connection) -> None:
        config.attributes["connection"] = sync
        command.upgrade(config, "head")

    engine = create_async_engine(empty_url, poolclass=pool.NullPool)
    async with engine.connect() as ours:
        await ours.run_sync(upgrade)

    assert await applied(connection) == revisions


async def test_the_callers_connection_comes_back_as_it_was(empty_url: str, config: Config) -> None:
    def upgrade(sync: Connection) -> tuple[object, object]:
        config.attributes["connection"] = sync
        command.upgrade(config, "head")
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        return sync.exec_driver_sql(held).scalar(), sync.exec_driver_sql("SHOW lock_timeout").scalar()

    engine = create_async_engine(empty_url, poolclass=pool.NullPool)
    async with engine.connect() as ours:
        locks, lock_timeout = await ours.run_sync(upgrade)

    assert (locks, lock_timeout) == (0, "0")


async def test_migrating_twice_changes_nothing(
    config: Config, connection: "asyncpg.Connection[asyncpg.Record]", capsys: pytest.CaptureFixture[str]
) -> None:
    command.upgrade(config, "head")
    before = await applied(connection)
    capsys.readouterr()

    command.upgrade(config, "head")

    assert await applied(connection) == before
    assert capsys.readouterr().out == ""


def test_the_loggers_of_the_application_are_left_alone(config: Config) -> None:
    application = logging.getLogger("app_test.migrations")
    application.setLevel(logging.ERROR)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), application.level, application.disabled, application.handlers)

    command.upgrade(config, "head")

    assert (root.level, root.handlers, application.level, application.disabled, application.handlers) == before


async def test_the_command_line_says_each_revision_that_it_applies(
    run_alembic: RunAlembic, revisions: list[str]
) -> None:
    output = await finished(run_alembic("upgrade", "head"))

    assert [line.split(":")[0] for line in output.splitlines()] == [f"upgrade {revision}" for revision in revisions]


async def test_the_command_line_says_each_revision_that_it_takes_back(
    migrated_url: str, run_alembic: RunAlembic, revisions: list[str]
) -> None:
    output = await finished(run_alembic("downgrade", "base"))

    assert [line.split(":")[0] for line in output.splitlines()] == [f"downgrade {name}" for name in revisions[::-1]]


async def test_offline_the_output_is_nothing_but_sql_that_makes_the_same_schema(
    run_alembic: RunAlembic, connection: "asyncpg.Connection[asyncpg.Record]", revisions: list[str]
) -> None:
    sql = await finished(run_alembic("upgrade", "head", "--sql", APP_DATABASE__URL=""))

    # One by one, as psql sends them: an index is made concurrently, outside of any transaction.
    for statement in filter(str.strip, sql.split(";\n\n")):
        await connection.execute(statement)

    assert await applied(connection) == revisions


async def test_of_two_migrators_at_once_the_second_waits_without_a_snapshot_and_finds_nothing_to_do(
    run_alembic: RunAlembic, connection: "asyncpg.Connection[asyncpg.Record]", revisions: list[str]
) -> None:
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    migrators = [run_alembic("upgrade", "head") for _ in range(2)]
    async with asyncio.timeout(90):
        while await connection.fetchval(WAITING) < 2:  # noqa: ASYNC110  # other processes
            await asyncio.sleep(0.05)
    before = await applied(connection)

    await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_KEY)
    outputs = [await finished(migrator) for migrator in migrators]

    assert before == []
    assert await applied(connection) == revisions
    assert sorted(len(output.splitlines()) for output in outputs) == [0, len(revisions)]


async def test_a_migrator_that_waited_long_enough_says_so(
    config: Config, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    config.set_main_option("lock_wait_seconds", "0")
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)

    with pytest.raises(SystemExit, match="Another migration has run for 0 s"):
        command.upgrade(config, "head")

    assert await applied(connection) == []


async def test_a_migrator_that_is_let_in_by_nobody_says_so_in_one_line(run_alembic: RunAlembic, empty_url: str) -> None:
    refused = make_url(empty_url).set(username="nobody").render_as_string(hide_password=False)
    away = make_url(empty_url).set(port=1).render_as_string(hide_password=False)

    for url, reason in ((refused, "the database refuses: "), (away, "")):
        with run_alembic("upgrade", "head", APP_DATABASE__URL=url) as process:
            output, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 1
        assert len(output.splitlines()) == 1
        assert output.startswith(f"APP_DATABASE__URL: {reason}")


async def downgrade_while_users_are_read(config: Config, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    config.set_main_option("lock_timeout", "100ms")
    config.set_main_option("lock_tries_seconds", "0")
    async with connection.transaction(), asyncio.timeout(20):  # the timeout ends the lock, and so the thread
        await connection.execute("LOCK TABLE users IN ACCESS SHARE MODE")  # as any SELECT does
        await asyncio.to_thread(command.downgrade, config, "base")


async def test_a_migration_gives_up_on_a_locked_table(
    migrated_url: str, config: Config, connection: "asyncpg.Connection[asyncpg.Record]", revisions: list[str]
) -> None:
    with pytest.raises(SystemExit, match=r"cannot have its lock.*: given up after 0 s"):
        await downgrade_while_users_are_read(config, connection)

    # Revisions that do not touch users are undone, each in its own transaction; the first that does is kept whole.
    left = await applied(connection)
    assert left == revisions[: len(left)]
    assert TOUCHES_USERS in left


async def test_a_migration_that_gave_up_can_be_run_again(
    migrated_url: str, config: Config, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    with pytest.raises(SystemExit, match="cannot have its lock"):
        await downgrade_while_users_are_read(config, connection)

    command.downgrade(config, "base")

    assert await applied(connection) == []

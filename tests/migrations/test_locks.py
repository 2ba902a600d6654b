"""A migration beside a dump or another long read: requests do not wait long behind it, and it gets its lock later.

postgres.ai/blog/20210923-zero-downtime-postgres-schema-migrations-lock-timeout-and-retries: one ADD COLUMN that waited
5 s for its lock caused fourteen answers of 503 here.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

pytestmark = pytest.mark.integration

type RunAlembic = Callable[..., subprocess.Popen[str]]
type AddRevision = Callable[..., str]
type Connection = asyncpg.Connection[asyncpg.Record]

ADD_COLUMN = 'op.add_column("users", sa.Column("nickname", sa.Text()))'
CONCURRENTLY = (
    "with op.get_context().autocommit_block():",
    '    op.create_index("ix_users_id", "users", ["id"], postgresql_concurrently=True, if_not_exists=True)',
)
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_users_id'::regclass"


@pytest.fixture
async def reader(dsn: str) -> AsyncIterator[Connection]:
    """A connection that reads for long, as pg_dump does."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "pg_dump"})
    yield connection
    await connection.close()


@pytest.fixture
async def request_(dsn: str) -> AsyncIterator[Connection]:
    """A connection that reads for a moment, again and again."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def slowest_read(
    connection: Connection, process: "subprocess.Popen[str]", *, is_enough: Callable[[], bool]
) -> float:
    """Read until the process ends, or until it is enough, and return the seconds of the slowest read."""
    slowest = 0.0
    while process.poll() is None and not is_enough():
        began = time.monotonic()
        await connection.fetchval("SELECT count(*) FROM users")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.02)
    return slowest


async def follow(process: "subprocess.Popen[str]", lines: list[str]) -> None:
    """Collect what the process prints while it runs."""
    assert process.stdout is not None
    while line := await asyncio.to_thread(process.stdout.readline):
        lines.append(line)


async def finished(process: "subprocess.Popen[str]") -> str:
    with process:
        output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    return output


def tries(lines: list[str]) -> list[str]:
    return [line for line in lines if "cannot have its lock beside pg_dump (pid " in line]


async def test_a_migration_during_a_dump_is_no_outage(
    migrated_url: str,
    copied_tree: Path,
    add_revision: AddRevision,
    run_alembic: RunAlembic,
    reader: Connection,
    request_: Connection,
) -> None:
    revision = add_revision(ADD_COLUMN)

    async with reader.transaction():
        await reader.execute("LOCK TABLE users IN ACCESS SHARE MODE")
        process = run_alembic("upgrade", "head", folder=copied_tree)
        lines: list[str] = []
        following = asyncio.create_task(follow(process, lines))
        slowest = await slowest_read(request_, process, is_enough=lambda: len(tries(lines)) == 2)
        assert process.poll() is None, "it has not given up"
    await following
    output = "".join(lines) + await finished(process)

    assert tries(lines)[0].startswith("ALTER TABLE users ADD COLUMN nickname TEXT"), output
    assert f"upgrade {revision}" in output
    assert slowest < 1.5, "a request waits for a lock for 2 s"


async def test_an_index_that_is_made_concurrently_waits_without_being_tried_again(
    migrated_url: str,
    copied_tree: Path,
    add_revision: AddRevision,
    run_alembic: RunAlembic,
    reader: Connection,
    request_: Connection,
) -> None:
    revision = add_revision(*CONCURRENTLY)

    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT count(*) FROM users")
        process = run_alembic("upgrade", "head", folder=copied_tree)
        end = time.monotonic() + 4
        slowest = await slowest_read(request_, process, is_enough=lambda: time.monotonic() > end)
        assert process.poll() is None, "it waits for the snapshot"
    output = await finished(process)

    assert [line.split(":")[0] for line in output.splitlines()] == [f"upgrade {revision}"]
    assert await request_.fetchval(VALID)
    assert slowest < 1.0


async def test_an_index_that_was_left_unfinished_is_made_again(
    migrated_url: str, copied_tree: Path, add_revision: AddRevision, run_alembic: RunAlembic, request_: Connection
) -> None:
    """IF NOT EXISTS takes an invalid index for the one that is asked for (PostgreSQL 18, CREATE INDEX)."""
    await request_.execute("CREATE INDEX ix_users_id ON users (id)")
    await request_.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_id'::regclass")
    add_revision(*CONCURRENTLY)

    await finished(run_alembic("upgrade", "head", folder=copied_tree))

    assert await request_.fetchval(VALID)


async def test_a_role_that_is_limited_does_not_limit_its_migrations(
    migrated_url: str, copied_tree: Path, add_revision: AddRevision, run_alembic: RunAlembic, request_: Connection
) -> None:
    limits = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "lock_timeout")
    name = await request_.fetchval("SELECT current_database()")
    for limit in limits:
        await request_.execute(f'ALTER DATABASE "{name}" SET {limit} = 300')
    add_revision('op.execute("SELECT pg_sleep(0.5)")')

    await finished(run_alembic("upgrade", "head", folder=copied_tree))

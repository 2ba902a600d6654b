"""The revision that makes the audit a table of months: with its rows, both ways, beside processes that insert."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from subprocess import Popen

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from app_db.roles import Roles, make_roles, roles_sql
from app_db.settings import DatabaseSettings

pytestmark = pytest.mark.integration

type RunAlembic = Callable[..., Popen[str]]
type Connection = asyncpg.Connection[asyncpg.Record]

REVISION = "5b3e8d1c7f60"
FILL = """
    INSERT INTO audit_events (id, event, user_id)
    SELECT uuidv7(make_interval(hours => -number)), 'signed_in', uuidv7() FROM generate_series(1, 1000) AS number
"""
ADD = "INSERT INTO audit_events (id, event) VALUES (uuidv7(), 'signed_in')"
PARTS = "SELECT array_agg(DISTINCT text(tableoid::regclass)) FROM audit_events"
COUNT = "SELECT count(*) FROM audit_events"


@pytest.fixture
async def filled(config: Config, dsn: str) -> AsyncIterator[Connection]:
    """A connection to the database before the revision, with a thousand events."""
    command.upgrade(config, f"{REVISION}-1")
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL)
    yield connection
    await connection.close()


async def test_events_that_are_there_are_a_month_as_they_are_and_come_back(config: Config, filled: Connection) -> None:
    file = await filled.fetchval("SELECT relfilenode FROM pg_class WHERE relname = 'audit_events'")
    events = await filled.fetch("SELECT * FROM audit_events ORDER BY id")

    command.upgrade(config, REVISION)

    assert await filled.fetchval(PARTS) == ["audit_events_first"]
    assert await filled.fetchval("SELECT pg_relation_filenode('audit_events_first')") == file, "no row was copied"
    assert await filled.fetch("SELECT * FROM audit_events ORDER BY id") == events
    await filled.execute(ADD)
    while await filled.fetchval("SELECT add_audit_month()"):
        pass
    command.downgrade(config, f"{REVISION}-1")
    assert (await filled.fetch("SELECT * FROM audit_events ORDER BY id"))[:-1] == events
    command.upgrade(config, REVISION)
    assert await filled.fetchval(COUNT) == len(events) + 1


async def test_months_are_added_after_those_that_the_first_one_has(config: Config, filled: Connection) -> None:
    command.upgrade(config, REVISION)

    added = [await filled.fetchval("SELECT add_audit_month()") for _ in range(2)]

    last = "SELECT to_char((now() AT TIME ZONE 'UTC') + interval '3 months', '\"audit_events_\"YYYY\"_\"MM')"
    assert added == [await filled.fetchval(last), None]


async def test_a_statement_that_was_prepared_before_goes_on(config: Config, filled: Connection) -> None:
    """The previous release stays connected, and inserts as it did."""
    statement = await filled.prepare("INSERT INTO audit_events (id, event) VALUES (uuidv7(), $1) RETURNING happened_at")
    await statement.fetchval("signed_in")

    command.upgrade(config, REVISION)

    assert await statement.fetchval("signed_in") is not None


async def test_events_are_inserted_while_it_runs(
    root: Path, run_alembic: RunAlembic, filled: Connection, dsn: str
) -> None:
    process = run_alembic("upgrade", REVISION, folder=root)
    slowest, inserted = 0.0, 0
    while process.poll() is None:
        began = time.monotonic()
        await filled.execute(ADD)
        slowest, inserted = max(slowest, time.monotonic() - began), inserted + 1
        await asyncio.sleep(0.005)

    with process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert await filled.fetchval(PARTS) == ["audit_events_first"]
    assert await filled.fetchval(COUNT) == 1000 + inserted
    assert slowest < 1.5, f"an INSERT waited for {slowest} s"


async def test_what_an_earlier_try_has_left_is_used(config: Config, filled: Connection) -> None:
    bound = "(now() AT TIME ZONE 'UTC') + interval '3 months'"
    left = "ALTER TABLE audit_events ADD CONSTRAINT within CHECK (id < %L) NOT VALID"
    await filled.execute(f"DO $$ BEGIN EXECUTE format('{left}', uuidv7('2 days')); END $$")

    command.upgrade(config, REVISION)

    assert await filled.fetchval(f"SELECT end_id = audit_id_at(date_trunc('month', {bound})) FROM audit_months()")


async def test_an_event_of_a_wrong_clock_stops_nothing(config: Config, filled: Connection) -> None:
    await filled.execute("INSERT INTO audit_events (id, event) VALUES (uuidv7('5 years'), 'signed_in')")

    command.upgrade(config, REVISION)

    assert await filled.fetchval("SELECT end_id > uuidv7('5 years') FROM audit_months()")


async def test_each_role_has_the_rights_that_it_had_and_none_on_a_part(
    config: Config, filled: Connection, empty_url: str, worker_id: str
) -> None:
    prefix = f"by_month_{worker_id}"
    roles = Roles(f"{prefix}_migrator", f"{prefix}_app", f"{prefix}_readonly")
    await make_roles(DatabaseSettings.model_validate({"url": empty_url}), roles_sql(roles, passwords={}))
    rights = """
        SELECT oid::regclass::text, grantee::regrole::text, string_agg(privilege_type, ' ' ORDER BY privilege_type)
        FROM pg_class, aclexplode(relacl)
        WHERE relname LIKE 'audit\\_events%' AND relkind IN ('r', 'p') AND grantee <> relowner GROUP BY 1, 2
    """
    before = {tuple(row) for row in await filled.fetch(rights)}

    for turn in range(2):
        command.upgrade(config, REVISION)
        assert {tuple(row) for row in await filled.fetch(rights)} == before, turn
        may = "SELECT has_function_privilege($1, 'add_audit_month()', 'EXECUTE')"
        assert [await filled.fetchval(may, role) for role in (roles.app, roles.readonly)] == [True, False]
        command.downgrade(config, f"{REVISION}-1")
        assert {tuple(row) for row in await filled.fetch(rights)} == before, turn
    await filled.execute(f"REASSIGN OWNED BY {roles.migrator} TO CURRENT_USER")
    for role in (roles.migrator, roles.app, roles.readonly):
        await filled.execute(f"DROP OWNED BY {role}")
        await filled.execute(f"DROP ROLE {role}")

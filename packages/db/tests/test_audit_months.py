"""The months of the audit: added ahead, dropped whole, by a role that may change no row (ADR-0076)."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import Text, literal_column, select, text
from sqlalchemy.exc import ProgrammingError

from app_db import Database, open_database
from app_db.audit_export import Exported, write_month
from app_db.models import AuditEvent
from app_db.outage import DatabaseUnavailable
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.audit_months import AuditMonthRepository
from app_db.roles import make_roles, roles_sql
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_db.testing.databases import AppRole
from app_db.types import first_id_at, new_id, utcnow
from app_runtime.configuration import Misconfigured

pytestmark = pytest.mark.integration

FILL = """
    INSERT INTO audit_events (id, event, user_id)
    SELECT uuidv7(make_interval(secs => -number)), 'signed_in', uuidv7() FROM generate_series(1, 60000) AS number
"""
# Four years, with an event of each hour.
OF_YEARS = """
DO $$
DECLARE
    month timestamp;
BEGIN
    FOR month IN SELECT generate_series(timestamp '2022-01-01', '2025-12-01', interval '1 month') LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)',
            to_char(month, '"audit_events_"YYYY"_"MM'), audit_id_at(month), audit_id_at(month + interval '1 month')
        );
    END LOOP;
    INSERT INTO audit_events (id, event, user_id, happened_at)
    SELECT overlay(text(uuidv7()) PLACING left(text(audit_id_at(at)), 13) FROM 1)::uuid, 'signed_in',
        '00000000-0000-4000-8000-000000000001', at
    FROM generate_series(timestamp '2022-01-01', '2025-12-31', interval '1 hour') AS at;
    ANALYZE audit_events;
END
$$
"""


@pytest_asyncio.fixture(loop_scope="session")
async def migrator(
    postgres_server_url: str, worker_id: str, modest_role: AppRole
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the migrator to a database of its own, which has the roles of production."""
    url = await databases.recreate(postgres_server_url, f"app_months_{worker_id}_test", template=databases.TEMPLATE)
    settings = DatabaseSettings.model_validate({"url": url})
    await make_roles(settings, roles_sql(modest_role.roles, passwords={}))
    connection = await asyncpg.connect(settings.direct_dsn)
    await connection.execute(f"SET ROLE {modest_role.roles.migrator}")
    yield connection
    await connection.close()
    await databases.drop(postgres_server_url, f"app_months_{worker_id}_test")  # the roles can go only then


@pytest_asyncio.fixture(loop_scope="session")
async def app(
    migrator: "asyncpg.Connection[asyncpg.Record]", modest_role: AppRole, worker_id: str
) -> AsyncIterator[Database]:
    """The same database as the applications see it."""
    url = modest_role.settings.sqlalchemy_url.set(database=f"app_months_{worker_id}_test")
    as_in_workers = {"statement_timeout": timedelta(minutes=10), "command_timeout": timedelta(minutes=10)}
    settings = DatabaseSettings.model_validate({"url": url.render_as_string(hide_password=False), **as_in_workers})
    async with open_database(settings, name="test") as database:
        yield database


async def add_all(app: Database) -> list[str]:
    """Add the months that are missing, as the job does."""
    added: list[str] = []
    while True:
        async with app.unit_of_work() as session:
            month = await AuditMonthRepository(session).add_missing()
        if month is None:
            return added
        added.append(month)


async def drop(app: Database, keep: timedelta) -> str | None:
    async with app.unit_of_work() as session:
        return await AuditMonthRepository(session).drop_ended(keep)


async def insert(app: Database, *ids: UUID) -> None:
    async with app.unit_of_work() as session:
        session.add_all([AuditEvent(id=event_id, event="signed_in") for event_id in ids])


async def months_of(app: Database, *ids: UUID) -> list[str]:
    part = literal_column("tableoid::regclass::text", Text).label("part")
    async with app.unit_of_work(read_only=True) as session:
        rows = await session.execute(select(AuditEvent.id, part).where(AuditEvent.id.in_(ids)))
        found = {row.id: row.part for row in rows}
    return [found[event_id].removeprefix("audit_events_") for event_id in ids]


def month_of(time: datetime) -> datetime:
    return time.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def following(month: datetime) -> datetime:
    return month_of(month_of(month) + timedelta(days=32))


async def test_the_present_month_and_the_next_three_are_added_once(app: Database) -> None:
    months = [month_of(utcnow())]
    for _ in range(3):
        months.append(following(months[-1]))

    assert await add_all(app) == [f"audit_events_{month:%Y_%m}" for month in months]
    assert await add_all(app) == []


async def test_an_event_at_the_turn_of_a_month_is_in_the_month_of_its_time(app: Database) -> None:
    await add_all(app)
    turn = following(utcnow())
    last, first = first_id_at(turn - timedelta(milliseconds=1)), first_id_at(turn)

    await insert(app, last, first)

    assert await months_of(app, last, first) == [f"{utcnow():%Y_%m}", f"{turn:%Y_%m}"]


async def test_months_are_those_of_utc_wherever_the_session_is(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrator.execute("SET timezone = 'Pacific/Kiritimati'")

    await migrator.fetchval("SELECT add_audit_month()")

    first_id = await migrator.fetchval("SELECT first_id FROM audit_months()")
    assert first_id == first_id_at(month_of(utcnow()))


async def test_an_event_that_no_month_was_made_for_is_kept(app: Database) -> None:
    await add_all(app)
    ids = [first_id_at(datetime(2000, 1, 1, tzinfo=UTC)), first_id_at(utcnow() + timedelta(days=900)), UUID(int=0)]

    await insert(app, *ids)

    assert await months_of(app, *ids) == ["default"] * 3


async def test_events_that_came_before_their_month_move_into_it(app: Database) -> None:
    ids = [new_id() for _ in range(100)]
    stranger = first_id_at(datetime(2000, 1, 1, tzinfo=UTC))
    await insert(app, *ids, stranger)
    assert {*await months_of(app, *ids)} == {"default"}

    await add_all(app)

    assert {*await months_of(app, *ids)} == {f"{utcnow():%Y_%m}"}
    assert await months_of(app, stranger) == ["default"]


async def test_events_are_inserted_while_their_month_is_added(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """What is there is moved before the lock: 60,000 events, and those that come meanwhile."""
    await migrator.execute(FILL)
    slowest, inserted = 0.0, 0
    adding = asyncio.create_task(add_all(app))

    while not adding.done():
        began = time.monotonic()
        await insert(app, new_id())
        slowest, inserted = max(slowest, time.monotonic() - began), inserted + 1

    assert len(await adding) == 4
    async with app.unit_of_work(read_only=True) as session:
        assert await session.scalar(text("SELECT count(*) FROM audit_events")) == 60_000 + inserted
    assert inserted
    assert slowest < 2, f"an INSERT waited for {slowest} s"


async def test_of_two_workers_at_once_each_month_is_added_by_one(app: Database) -> None:
    both = await asyncio.gather(add_all(app), add_all(app), return_exceptions=True)

    refused = [error for error in both if isinstance(error, BaseException)]
    assert all(isinstance(error, DatabaseUnavailable) for error in refused)  # a busy machine: the job is tried again
    added = [month for months in both if isinstance(months, list) for month in months]
    assert len(added) == len({*added})
    assert refused or len(added) == 4


async def test_a_month_that_ended_long_ago_is_dropped_whole_and_that_is_an_event(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrator.execute(OF_YEARS)
    await add_all(app)
    keep = utcnow() - datetime(2022, 2, 15, tzinfo=UTC)

    assert await drop(app, keep) == "audit_events_2022_01"
    assert await drop(app, keep) is None

    async with app.unit_of_work(read_only=True) as session:
        audit = AuditRepository(session)
        assert await audit.begins_at(AuditFilter()) == datetime(2022, 2, 1, tzinfo=UTC)
        (newest,) = await audit.newest(1)
    assert (newest.event, newest.details) == ("audit_month_dropped", {"month": "audit_events_2022_01"})


@pytest.mark.parametrize("keep", ["89 days", "0", "-1 year", "1 year -300 days", "NULL"])
async def test_postgres_keeps_the_last_90_days_whoever_asks(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", keep: str
) -> None:
    await migrator.execute(OF_YEARS)
    asked = "NULL" if keep == "NULL" else f"interval '{keep}'"

    with pytest.raises(ProgrammingError, match="the audit of the last 90 days is kept"):
        async with app.unit_of_work() as session:
            await session.execute(text(f"SELECT drop_audit_month({asked})"))


async def test_a_month_that_somebody_reads_is_dropped_later(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrator.execute(OF_YEARS)
    keep = timedelta(days=365)
    async with migrator.transaction():
        await migrator.fetchval("SELECT count(*) FROM audit_events")
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await drop(app, keep)
        assert time.monotonic() - began < 5, "requests wait behind it for half a second, not for the reader"

    assert await drop(app, keep) == "audit_events_2022_01"


@pytest.mark.parametrize("statement", ["UPDATE {} SET event = ''", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"])
async def test_nobody_changes_the_audit_by_the_name_of_a_month(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", modest_role: AppRole, statement: str
) -> None:
    await add_all(app)
    url = modest_role.administrator.sqlalchemy_url.set(database=app.settings.sqlalchemy_url.database)
    again = DatabaseSettings.model_validate({"url": url.render_as_string(hide_password=False)})

    for _ in range(2):
        for month in ("default", f"{utcnow():%Y_%m}"):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                async with app.unit_of_work() as session:
                    await session.execute(text(statement.format(f"audit_events_{month}")))
        await make_roles(again, roles_sql(modest_role.roles, passwords={}))


async def test_the_functions_have_the_owners_rights_and_nobody_elses_names(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", modest_role: AppRole
) -> None:
    functions = await migrator.fetch(
        "SELECT proowner::regrole::text AS owner, proconfig FROM pg_proc WHERE prosecdef AND pronamespace::regnamespace"
        " = 'public'::regnamespace"
    )

    assert [function["owner"] for function in functions] == [modest_role.roles.migrator] * 4
    assert {"search_path=pg_catalog, pg_temp", "lock_timeout=500ms"} == {
        item for function in functions for item in function["proconfig"]
    }
    changes = ("drop_audit_month('1 year')", "drop_exported_audit_month('1 year')", "analyze_audit_months()")
    for call in ("add_audit_month()", *changes):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await migrator.execute(f"SET ROLE {modest_role.roles.readonly}; SELECT {call}")


async def explained(app: Database, wanted: AuditFilter, *, limit: int = 20) -> tuple[set[str], dict[str, Any]]:
    """Return the parts that a list of the audit reads rows of, and its plan."""
    async with app.unit_of_work(read_only=True) as session:
        order, within = wanted.range_after(None)
        newest = select(AuditEvent).where(*within).order_by(*(column.desc() for column in order)).limit(limit)
        compiled = newest.compile(app.engine, compile_kwargs={"render_postcompile": True})
        values = tuple(compiled.params[name] for name in compiled.positiontup or ())
        connection = await session.connection()
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"
        plan: Any = (await connection.exec_driver_sql(explain, values)).scalar_one()
    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]
    return {node["Relation Name"] for node in nodes_of(plan["Plan"]) if "Relation Name" in node}, plan


def nodes_of(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", []) for below in nodes_of(child))]


async def test_lists_look_only_at_months_that_can_have_their_events(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrator.execute(OF_YEARS)
    ada = UUID("00000000-0000-4000-8000-000000000001")
    since, before = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 30, tzinfo=UTC)

    for wanted in (AuditFilter(since=since, before=before), AuditFilter(user_id=ada, since=since, before=before)):
        parts, _ = await explained(app, wanted)

        assert parts == {"audit_events_2024_03", "audit_events_2024_04"}


async def test_the_newest_events_are_read_without_the_others(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrator.execute(OF_YEARS)
    ada = UUID("00000000-0000-4000-8000-000000000001")

    for wanted in (AuditFilter(), AuditFilter(user_id=ada), AuditFilter(event="signed_in")):
        _, plan = await explained(app, wanted)

        rows = [
            node["Actual Rows"] * node["Actual Loops"] for node in nodes_of(plan["Plan"]) if "Relation Name" in node
        ]
        assert sum(rows) <= 20 + 48, "of each other month the newest at most"
        assert {node["Node Type"] for node in nodes_of(plan["Plan"])} <= {
            "Limit",
            "Merge Append",
            "Append",
            "Index Scan",
            "Result",
        }


async def export_record(app: Database, exported: Exported, *, rows: int | None = None) -> None:
    details = {"month": exported.month, "rows": exported.rows if rows is None else rows, "sha256": exported.sha256}
    async with app.unit_of_work() as session:
        session.add(AuditEvent(event="audit_month_exported", details=details))


async def drop_exported(app: Database, keep: timedelta) -> str | None:
    async with app.unit_of_work() as session:
        return await AuditMonthRepository(session).drop_ended(keep, after_export=True)


async def test_an_export_is_all_events_of_the_month_by_the_role_of_the_applications(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    await migrator.execute(OF_YEARS)
    file = tmp_path / "2022-02.csv"

    exported = await write_month(app.settings, "2022-02", file)

    assert exported == Exported("audit_events_2022_02", 28 * 24, sha256(file.read_bytes()).hexdigest())
    assert file.stat().st_mode & 0o777 == 0o600
    await migrator.execute("CREATE TABLE again (LIKE audit_events)")
    await migrator.copy_to_table("again", source=file, format="csv", header=True)
    whole = "SELECT count(*) FROM (TABLE again EXCEPT SELECT * FROM audit_events) AS other"
    assert [await migrator.fetchval(whole), await migrator.fetchval("SELECT count(*) FROM again")] == [0, 28 * 24]


async def test_a_month_is_dropped_only_after_an_export_of_all_that_it_has(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    await migrator.execute(OF_YEARS)
    keep = utcnow() - datetime(2022, 3, 15, tzinfo=UTC)
    assert await drop_exported(app, keep) is None

    await export_record(app, await write_month(app.settings, "2022-02", tmp_path / "later.csv"))
    assert await drop_exported(app, keep) is None, "the oldest goes first"
    exported = await write_month(app.settings, "2022-01", tmp_path / "first.csv")
    await export_record(app, exported, rows=exported.rows - 1)
    assert await drop_exported(app, keep) is None, "there is one that the file has not"
    await export_record(app, exported)

    async with app.unit_of_work(read_only=True) as session:
        months = ["audit_events_2022_01", "audit_events_2022_02"]
        assert await AuditMonthRepository(session).ended(keep) == months
    assert [await drop_exported(app, keep) for _ in range(3)] == [*months, None]


async def test_an_export_that_fails_leaves_no_file_and_no_record(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]", modest_role: AppRole, tmp_path: Path
) -> None:
    await migrator.execute(OF_YEARS)
    await migrator.execute(f"REVOKE SELECT ON audit_events FROM {modest_role.roles.app}")
    there = tmp_path / "there.csv"
    there.write_text("kept")

    with pytest.raises(Misconfigured, match="permission denied"):
        await write_month(app.settings, "2022-01", tmp_path / "new.csv")
    with pytest.raises(Misconfigured, match="File exists"):
        await write_month(app.settings, "2022-01", there)

    assert (os.listdir(tmp_path), there.read_text()) == (["there.csv"], "kept")  # noqa: PTH208


async def test_a_month_that_goes_on_is_not_exported(app: Database, tmp_path: Path) -> None:
    await add_all(app)

    with pytest.raises(Misconfigured, match="no month of the audit that has ended; these are: none"):
        await write_month(app.settings, f"{utcnow():%Y-%m}", tmp_path / "new.csv")


async def test_the_audit_as_a_whole_is_analysed_once_a_day_by_the_role_of_the_applications(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Autovacuum looks at each month, and never at the whole."""
    await add_all(app)
    await insert(app, *(new_id() for _ in range(100)))
    known = "SELECT count(*) FROM pg_stats WHERE tablename = 'audit_events' AND attname = 'event'"
    assert await migrator.fetchval(known) == 0

    analysed = []
    for _ in range(2):
        async with app.unit_of_work() as session:
            analysed.append(await AuditMonthRepository(session).analyze())

    assert analysed == [True, False]
    assert await migrator.fetchval(known) == 1


ONE_ADDRESS = """
    INSERT INTO audit_events (id, event, client_address)
    SELECT overlay(text(uuidv7()) PLACING left(text(audit_id_at(at)), 13) FROM 1)::uuid, 'signed_in',
        CASE WHEN n % 2 = 0 THEN '192.0.2.1' ELSE '2001:db8::' || n END
    FROM generate_series(timestamp '2024-01-01', '2024-06-30', interval '5 minutes') WITH ORDINALITY AS at (at, n);
    ANALYZE audit_events;
"""


async def test_the_first_address_of_all_is_read_in_order_too_though_it_has_half_of_the_events(
    app: Database, migrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Of the least value the planner would expect hardly any event, and sort all that there are."""
    await migrator.execute(OF_YEARS)
    await migrator.execute(ONE_ADDRESS)

    for limit in (20, 500):
        _, plan = await explained(app, AuditFilter(client_address="192.0.2.1"), limit=limit)

        nodes = nodes_of(plan["Plan"])
        rows = [node["Actual Rows"] * node["Actual Loops"] for node in nodes if "Relation Name" in node]
        assert sum(rows) <= limit + 52, "of each other month the newest at most"
        assert "Sort" not in {node["Node Type"] for node in nodes}

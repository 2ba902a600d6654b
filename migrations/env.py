"""How Alembic runs our migrations: online over asyncpg under an advisory lock, or offline as SQL (ADR-0009)."""

import asyncio
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from alembic.util import CommandError
from pydantic import BaseModel
from sqlalchemy import Connection, delete, inspect, pool, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app_db.base import Base
from app_db.driver import DriverConnection
from app_db.hosts import Hosts
from app_db.lock_budget import LockBudget
from app_db.models import SchemaHistory
from app_db.outage import NoAnswer, naming_refusals
from app_db.pooler import connect_past
from app_db.repositories.schema import STALE_INDEXES
from app_db.settings import DatabaseSettings
from app_db.types import StrEnumText
from app_runtime.configuration import PREFIX, Misconfigured, load
from app_runtime.first_process import end_by_sigterm

KERNEL = SchemaHistory.__module__
LOCK_KEY = 0x67726F756E64  # any number that no other lock in this database has
LOCK_POLL_SECONDS = 0.25
LOCK_POLL_WORD = 30.0
PARTITION = re.compile(r"audit_events_(default|first|\d{4}_\d\d)")  # made by functions, not by models
# [tool.alembic] of pyproject.toml may set these. All waits of a try together are shorter than one wait of a request.
LOCK_TIMEOUT = context.config.get_alembic_option("lock_timeout", "500ms")
LOCK_TRIES_SECONDS = float(context.config.get_alembic_option("lock_tries_seconds", "600"))
# Longer than the tries of the migrator that holds the lock.
LOCK_WAIT_SECONDS = float(context.config.get_alembic_option("lock_wait_seconds", "900"))
PAUSES = (1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE = 10.0
# Lifts limits that a database or a role may have set for requests.
UNLIMITED = dict.fromkeys(("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"), "0")


class MigrationSettings(BaseModel):
    """Of all settings of the applications, migrations need only those of the database."""

    database: DatabaseSettings


def record(ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]) -> None:
    """Write `schema_history` in the transaction of the revision; readiness reads it."""
    if step.is_upgrade:
        # A revision that is stamped may be on record already.
        row = insert(SchemaHistory).values(revision=step.up_revision_id).on_conflict_do_nothing()
        ctx.execute(row)  # guard: test_an_upgrade_is_on_record
    elif heads:  # the downgrade to nothing has dropped the table
        undone = SchemaHistory.revision == step.up_revision_id
        ctx.execute(delete(SchemaHistory).where(undone))  # guard: test_a_downgrade_is_taken_off_the_record


def announce(ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]) -> None:
    """Print one line per revision."""
    word = "upgrade" if step.is_upgrade else "downgrade"
    for script in step.up_revisions:
        assert isinstance(script, Script), "a step has a revision above it"
        context.config.print_stdout("%s %s: %s", word, script.revision, script.doc)


def need(ctx: MigrationContext, revision: object, scripts: list[MigrationScript]) -> None:
    """Set SCHEMA_REVISION of a feature or the kernel to the revision that `alembic revision --autogenerate` writes.

    A revision that changes only tables without a model sets none: it drops the tables of a removed feature.
    """
    changed = {str(getattr(step, "table_name", "")) for step in scripts[0].upgrade_ops_list[0].ops}
    modules = {module_of(table) for table in changed & {*Base.metadata.tables}}
    if scripts[0].message is not None and (modules or not changed):
        module = modules.pop() if len(modules) == 1 else KERNEL
        source = Path(__file__).parents[1] / "packages/db/src" / f"{module.replace('.', '/')}.py"
        source.write_text(re.sub(r'(?m)^(SCHEMA_REVISION = ").*"', rf'\g<1>{scripts[0].rev_id}"', source.read_text()))


def module_of(table: str) -> str:
    """Return the module that says which revision the code of a table needs: its feature's, or the kernel's."""
    owners = {mapper.class_.__module__ for mapper in Base.registry.mappers if mapper.local_table.description == table}
    return next((name for name in owners if hasattr(sys.modules[name], "SCHEMA_REVISION")), KERNEL)


def render_item(kind: str, item: object, autogen: object) -> str | Literal[False]:
    """Render our enum columns as text, because a revision must not change when the enum does."""
    return 'sa.Text(collation="C")' if kind == "type" and isinstance(item, StrEnumText) else False


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Return whether a table of the database is compared with the models: not the partitions of one."""
    return kind != "table" or str(name) in Base.metadata.tables or not PARTITION.fullmatch(str(name))


def configure(**options: Any) -> None:
    """Configure the context with the options that online and offline runs share."""
    context.configure(
        target_metadata=Base.metadata,
        compare_server_default=True,
        render_item=render_item,
        process_revision_directives=need,
        include_name=is_ours,
        transaction_per_migration=True,
        **options,
    )


def run_offline() -> None:
    """Print the SQL instead of running it."""
    named = {"paramstyle": "named"}  # so that a % of the SQL is printed once
    configure(dialect_name="postgresql", dialect_opts=named, literal_binds=True, on_version_apply=record)
    with context.begin_transaction():
        context.run_migrations()


def say(line: str) -> None:
    """Print a line at once, also where the output is a file."""
    context.config.print_stdout("%s", line)
    context.config.stdout.flush()


def run_on(connection: Connection) -> None:
    """Run the migrations on a connection, one migrator at a time.

    The lock is polled: a session that waits inside pg_advisory_lock dies of its own lock_timeout, and holds a snapshot
    that CREATE INDEX CONCURRENTLY waits for.
    """
    wait_for_turn(connection)
    try:
        configure(connection=connection)
        if not is_ahead(connection):
            vet(connection)
            migrate(connection)
    finally:
        connection.rollback()
        unlock = text("SELECT pg_advisory_unlock(:key)").bindparams(key=LOCK_KEY)
        connection.execute(unlock)  # guard: test_the_callers_connection_comes_back_as_it_was
        connection.execute(text("RESET lock_timeout"))
        connection.commit()


def wait_for_turn(connection: Connection) -> None:
    """Take the lock of migrators; while another holds it, print a line each half minute."""
    began = said = time.monotonic()
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
        connection.commit()
        now = time.monotonic()
        if now - began > LOCK_WAIT_SECONDS:
            raise SystemExit(f"Another migration has run for {LOCK_WAIT_SECONDS:.0f} s. Wait for it, then try again.")
        if now - said > LOCK_POLL_WORD:
            say(f"Another migration has run for {now - began:.0f} s: waiting for it.")
            said = now
        time.sleep(LOCK_POLL_SECONDS)
    connection.commit()


def is_ahead(connection: Connection) -> bool:
    """Return whether a newer release has migrated the database, so that there is nothing to upgrade.

    A rollback of a deploy starts this release on a newer schema: its own revisions were applied, and the newer ones are
    compatible with it. Any other unknown revision is from another branch.
    """
    unknown = [revision for revision in context.get_context().get_current_heads() if not is_known(revision)]
    if not unknown or running() == "do_stamp":
        return False
    found = ", ".join(unknown)
    history = applied(connection)
    if running() == "upgrade" and (wanted := targets()) and wanted.issubset(history):
        newest = ", ".join(wanted)
        say(f"The database is at {found}, newer than {newest}, which has been applied: there is nothing to do.")
        return True
    common = next(filter(is_known, reversed(history)), "base")
    raise SystemExit(
        f"The database is at {found}, a revision that is not in migrations/versions: it comes from another branch, or "
        f"from a newer release. In development type `alembic downgrade {common}` where that revision is, or start over "
        "with empty data: make dev RESET=1. In production deploy the release that has it."
    )


def is_known(revision: str) -> bool:
    """Return whether there is a file of this revision."""
    try:
        return context.script.get_revision(revision) is not None
    except CommandError:
        return False


def running() -> str:
    """Return the name of the function that Alembic's command runs: `retrieve_migrations` for `check` and `revision`."""
    return getattr(context.get_context().opts["fn"], "__name__", "")


def targets() -> set[str]:
    """Return the revisions to upgrade to."""
    given = context.get_revision_argument()
    return {given} if isinstance(given, str) else set(given or ())


def applied(connection: Connection) -> list[str]:
    """Return the applied revisions, the oldest first."""
    if not inspect(connection).has_table(SchemaHistory.__tablename__):
        return []
    return list(connection.scalars(select(SchemaHistory.revision).order_by(SchemaHistory.applied_at)))


def vet(connection: Connection) -> None:
    """Refuse a database whose encoding is not UTF8, or whose indexes may miss rows."""
    if (encoding := connection.scalar(text("SELECT getdatabaseencoding()"))) != "UTF8":
        raise SystemExit(
            f"The encoding of the database is {encoding}, and has to be UTF8: "
            "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'."
        )
    if running() in {"upgrade", "retrieve_migrations"} and (stale := connection.scalars(STALE_INDEXES).all()):
        raise SystemExit(
            f"The server sorts text otherwise than when these indexes were made, and they may miss rows: "
            f"{', '.join(stale)}. Type REINDEX DATABASE CONCURRENTLY, then ALTER DATABASE … REFRESH COLLATION VERSION, "
            "then migrate again."
        )
    connection.rollback()


def migrate(connection: Connection) -> None:
    """Run the revisions. A revision that gets no lock is rolled back, and tried again for minutes.

    A statement that waits for a lock makes all later ones wait too: 5 s beside a dump caused fourteen replies of 503.
    """
    limit = text("SELECT extract(epoch FROM CAST(:value AS interval))").bindparams(value=LOCK_TIMEOUT)
    per_try, deadline = float(connection.execute(limit).scalar_one()), time.monotonic() + LOCK_TRIES_SECONDS
    connection.rollback()
    with LockBudget(connection, per_try=per_try, deadline=deadline) as budget:

        def renew(ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]) -> None:
            budget.renew()

        for pause in chain(PAUSES, repeat(LONGEST_PAUSE)):
            budget.renew()
            configure(connection=connection, on_version_apply=(record, announce, renew))
            try:
                with context.begin_transaction():
                    context.run_migrations()
            except DBAPIError as error:
                connection.rollback()
                if (why := budget.explain(error)) is None:
                    raise
                left = deadline - time.monotonic() - pause
                if left < 0:
                    raise SystemExit(f"{why}: given up after {LOCK_TRIES_SECONDS:.0f} s. Migrate again.") from None
                say(f"{why}: tried again in {pause:.0f} s, for {left:.0f} s more.")
                time.sleep(pause)
            else:
                return


async def run_online() -> None:
    """Connect by the settings of the environment and migrate."""
    try:
        settings = load(MigrationSettings, os.environ, elsewhere=[PREFIX]).database
    except Misconfigured as error:
        raise SystemExit(str(error)) from None
    hosts = Hosts(settings.direct_dsn, connect_timeout=settings.connect_timeout)

    connect_to_host = partial(hosts.connect, server_settings={"application_name": "migrate", **UNLIMITED})

    async def connect() -> DriverConnection:
        with naming_refusals():
            return await connect_past(connect_to_host)  # guard: test_nothing_is_migrated_through_a_pooler

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_on)
    except NoAnswer as error:
        raise SystemExit(f"APP_DATABASE__URL: {error}") from None
    finally:
        await engine.dispose()


def run() -> None:
    """Choose the way: offline, on a connection that the caller passed in, or on one of our own."""
    if context.is_offline_mode():
        run_offline()
    elif (connection := context.config.attributes.get("connection")) is not None:
        run_on(connection)
    else:
        end_by_sigterm(process=os.getpid())
        # In a thread of its own, so that it also works when the caller's thread runs an event loop.
        with ThreadPoolExecutor(max_workers=1) as executor:
            executor.submit(asyncio.run, run_online()).result()


run()

"""How Alembic runs our migrations: online over asyncpg under an advisory lock, or offline as SQL (ADR-0009)."""

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from pydantic import BaseModel
from sqlalchemy import Connection, delete, insert, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app_db.base import Base
from app_db.configuration import PREFIX, Misconfigured, load
from app_db.hosts import Hosts
from app_db.models import SchemaHistory
from app_db.settings import DatabaseSettings
from app_db.types import StrEnumText

LOCK_KEY = 0x67726F756E64  # any number, as long as it is ours in this database
LOCK_POLL_SECONDS = 0.25
# Both may be set in [tool.alembic] of pyproject.toml.
LOCK_WAIT_SECONDS = float(context.config.get_alembic_option("lock_wait_seconds", "120"))
LOCK_TIMEOUT = context.config.get_alembic_option("lock_timeout", "5s")


class MigrationSettings(BaseModel):
    """Migrations need the database and nothing else of what the applications are given."""

    database: DatabaseSettings


def record(ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]) -> None:
    """Keep `schema_history` in the transaction of the revision; readiness reads it."""
    if step.is_upgrade:
        ctx.execute(insert(SchemaHistory).values(revision=step.up_revision_id))  # guard: test_an_upgrade_is_on_record
    elif heads:  # the downgrade to nothing has dropped the table
        undone = SchemaHistory.revision == step.up_revision_id
        ctx.execute(delete(SchemaHistory).where(undone))  # guard: test_a_downgrade_is_taken_off_the_record


def announce(ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]) -> None:
    """Say what is done, one line per revision."""
    word = "upgrade" if step.is_upgrade else "downgrade"
    for script in step.up_revisions:
        assert isinstance(script, Script), "a step has a revision above it"
        context.config.print_stdout("%s %s: %s", word, script.revision, script.doc)


def need(ctx: MigrationContext, revision: object, scripts: list[MigrationScript]) -> None:
    """Let the code need the revision that `alembic revision --autogenerate` writes; `alembic check` writes none."""
    if scripts[0].message is not None:
        source = Path(__file__).parents[1] / "packages/db/src/app_db/models/schema.py"
        line = f'SCHEMA_REVISION = "{scripts[0].rev_id}"'
        source.write_text(re.sub(r"^SCHEMA_REVISION = .*$", line, source.read_text(), flags=re.MULTILINE))


def render_item(kind: str, item: object, autogen: object) -> str | Literal[False]:
    """Write text for our enum columns: a revision must not change when the enum does."""
    return "sa.Text()" if kind == "type" and isinstance(item, StrEnumText) else False


def configure(**options: Any) -> None:
    """Configure the context with what holds online and offline."""
    context.configure(
        target_metadata=Base.metadata,
        compare_server_default=True,
        render_item=render_item,
        process_revision_directives=need,
        transaction_per_migration=True,
        **options,
    )


def run_offline() -> None:
    """Print the SQL instead of running it."""
    configure(dialect_name="postgresql", literal_binds=True, on_version_apply=record)
    with context.begin_transaction():
        context.run_migrations()


def run_on(connection: Connection) -> None:
    """Run the migrations on a connection, one migrator at a time.

    The lock is polled: a session that waits inside pg_advisory_lock dies of its own lock_timeout, and holds a snapshot
    that CREATE INDEX CONCURRENTLY waits for.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
        connection.commit()
        if time.monotonic() > deadline:
            raise SystemExit(f"Another migration has run for {LOCK_WAIT_SECONDS:.0f} s. Wait for it, then try again.")
        time.sleep(LOCK_POLL_SECONDS)
    try:
        # A DDL statement that waits for a lock makes every query after it wait too: give up early, and be run again.
        limit = text("SELECT set_config('lock_timeout', :value, false)").bindparams(value=LOCK_TIMEOUT)
        connection.execute(limit)  # guard: test_a_migration_gives_up_on_a_locked_table
        connection.commit()
        configure(connection=connection, on_version_apply=(record, announce))
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        unlock = text("SELECT pg_advisory_unlock(:key)").bindparams(key=LOCK_KEY)
        connection.execute(unlock)  # guard: test_the_callers_connection_comes_back_as_it_was
        connection.execute(text("RESET lock_timeout"))
        connection.commit()


async def run_online() -> None:
    """Connect by the settings of the environment and migrate."""
    try:
        settings = load(MigrationSettings, os.environ, elsewhere=[PREFIX]).database
    except Misconfigured as error:
        raise SystemExit(str(error)) from None
    hosts = Hosts(settings.direct_dsn, connect_timeout=settings.connect_timeout)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=hosts.connect, poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_on)
    finally:
        await engine.dispose()


def run() -> None:
    """Choose the way: offline, on a connection that the caller passed in, or on one of our own."""
    if context.is_offline_mode():
        run_offline()
    elif (connection := context.config.attributes.get("connection")) is not None:
        run_on(connection)
    else:
        # In a thread of its own, so that it also works when the caller's thread runs an event loop.
        with ThreadPoolExecutor(max_workers=1) as executor:
            executor.submit(asyncio.run, run_online()).result()


run()

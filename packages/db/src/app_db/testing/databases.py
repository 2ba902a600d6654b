"""Databases for tests: one migrated template, cheap clones of it, and emptying a clone in one round trip.

Nothing here touches a database whose name does not end in `_test`.
"""

from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, make_url, pool
from sqlalchemy.ext.asyncio import create_async_engine

from app_db import Database
from app_db.base import Base
from app_db.models import SchemaHistory

TEMPLATE = "app_template_test"


def require_test_database(url: URL) -> None:
    """Refuse any database that might hold something of value.

    Raises:
        RuntimeError: unless the name ends in `_test`.
    """
    if not (url.database or "").endswith("_test"):
        refusal = f"the tests only touch databases whose name ends in _test, not {url.database!r}"
        raise RuntimeError(refusal)  # guard: test_other_databases_are_never_touched


async def recreate(server_url: str, name: str, *, template: str = "template0") -> str:
    """Drop the database `name` if it is there, make it from `template`, and return its URL."""
    url = make_url(server_url).set(database=name)
    require_test_database(url)
    connection = await asyncpg.connect(_dsn(make_url(server_url).set(database="postgres")))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        # FILE_COPY only renames and links small files; the default writes every page to the log.
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    finally:
        await connection.close()
    return url.render_as_string(hide_password=False)


async def migrate(url: str, *, root: Path, revision: str = "head") -> None:
    """Run the migrations of the checkout at `root` up to `revision`, through its own env.py."""
    config = Config(toml_file=str(root / "pyproject.toml"), stdout=StringIO())

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(make_url(url), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def create_template(server_url: str, *, root: Path) -> None:
    """Make the migrated template that tests clone."""
    await migrate(await recreate(server_url, TEMPLATE), root=root)


async def empty(database: Database) -> None:
    """Delete every row that a test has left, in one round trip; the schema's history stays."""
    require_test_database(database.settings.sqlalchemy_url)
    tables = [
        table.name for table in reversed(Base.metadata.sorted_tables) if table.name != SchemaHistory.__tablename__
    ]
    async with database.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection  # Any: asyncpg's connection, which has no types
        await driver.execute("; ".join(f'DELETE FROM "{table}"' for table in tables))  # noqa: S608  # our own names


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)

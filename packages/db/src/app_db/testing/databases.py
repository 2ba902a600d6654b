"""Databases for tests: one migrated template, cheap clones of it, and emptying a clone in one round trip.

Nothing here touches a database whose name does not end in `_test`.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import URL, Connection, make_url, pool
from sqlalchemy.ext.asyncio import create_async_engine

from app_db import Database
from app_db.base import Base
from app_db.models import SchemaHistory
from app_db.roles import Roles, make_roles, roles_sql
from app_db.settings import DatabaseSettings

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


async def drop(server_url: str, name: str) -> None:
    """Drop the database `name`, with whatever a role has in it: a role with any cannot be dropped."""
    require_test_database(make_url(server_url).set(database=name))
    connection = await asyncpg.connect(_dsn(make_url(server_url).set(database="postgres")))
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


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


@dataclass(frozen=True, slots=True)
class AppRole:
    """A database whose tables belong to `roles.migrator`, with settings for an administrator and the application."""

    roles: Roles
    administrator: DatabaseSettings
    settings: DatabaseSettings


@asynccontextmanager
async def open_app_role(server_url: str, worker_id: str, *, root: Path) -> AsyncIterator[AppRole]:
    """Make the roles, then let the migrator migrate, as on a new server; drop all of it at the end."""
    name = f"app_roles_{worker_id}_test"
    roles = Roles(f"{name}_migrator", f"{name}_app", f"{name}_readonly")
    administrator = DatabaseSettings.model_validate({"url": await recreate(server_url, name)})
    passwords = {role: SecretStr(secrets.token_hex()) for role in (roles.migrator, roles.app)}
    await make_roles(administrator, roles_sql(roles, passwords=passwords))
    migrator, app = (
        administrator.sqlalchemy_url.set(username=role, password=password.get_secret_value())
        for role, password in passwords.items()
    )
    await migrate(migrator.render_as_string(hide_password=False), root=root)
    try:
        settings = DatabaseSettings.model_validate({"url": app.render_as_string(hide_password=False)})
        yield AppRole(roles, administrator, settings)
    finally:
        await drop(server_url, name)
        connection = await asyncpg.connect(_dsn(make_url(server_url).set(database="postgres")))
        await connection.execute(f"DROP ROLE {roles.migrator}, {roles.app}, {roles.readonly}")
        await connection.close()


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

"""The migrations and the models make the same database, down to types, defaults, checks and storage."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from app_db.base import Base
from app_db.testing import databases

type Catalog = Callable[[], Awaitable[set[str]]]


async def create_tables_of_models(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


async def test_the_migrations_make_what_the_models_say(
    postgres_server_url: str, empty_url: str, root: Path, catalog: Catalog
) -> None:
    await create_tables_of_models(empty_url)
    of_models = await catalog()
    await databases.recreate(postgres_server_url, str(make_url(empty_url).database))

    await databases.migrate(empty_url, root=root)

    assert await catalog() == of_models


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE users ALTER COLUMN email TYPE varchar(200)",
        "ALTER TABLE users ALTER COLUMN email DROP NOT NULL",
        'ALTER TABLE users ALTER COLUMN email TYPE text COLLATE "C"',
        "ALTER TABLE users ALTER COLUMN role SET DEFAULT 'operator'",
        "ALTER TABLE users ALTER COLUMN role DROP DEFAULT",
        "ALTER TABLE users DROP CONSTRAINT ck_users_role",
        "ALTER TABLE users DROP CONSTRAINT ck_users_role, ADD CONSTRAINT ck_users_role CHECK (role <> '')",
        "ALTER TABLE users RENAME CONSTRAINT uq_users_email_canonical TO users_email_key",
        "ALTER TABLE user_sessions ALTER CONSTRAINT fk_user_sessions_user_id_users DEFERRABLE",
        "DROP INDEX ix_job_errors_job_id",
        "DROP INDEX ix_jobs_claim; CREATE INDEX ix_jobs_claim ON jobs (queue, priority, claim_at)",
        "ALTER TABLE jobs SET (fillfactor = 100)",
        "ALTER TABLE jobs RESET (autovacuum_vacuum_threshold)",
        "ALTER TABLE user_sessions SET UNLOGGED",
        "CREATE TABLE strays ()",
        "CREATE TYPE size AS ENUM ('small')",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
async def test_a_planted_drift_is_seen(migrated_url: str, dsn: str, catalog: Catalog, drift: str) -> None:
    before = await catalog()

    await execute(dsn, drift)

    assert await catalog() != before


async def test_a_new_revision_would_be_empty(migrated_url: str, config: Config) -> None:
    command.check(config)  # raises when there is something to write

"""The migrations and the models make the same database, down to types, defaults, checks and storage."""

from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine

from app_db.base import Base
from app_db.testing import databases

# One line for each thing that a schema consists of. The order of columns is left out: a revision can only append.
CATALOG = """
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.reloptions, c.relpersistence FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic_version%'
)
SELECT format('relation %s kind %s %s with %s', relname, relkind, relpersistence,
              (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option)) FROM ours
UNION ALL
SELECT format('column %s.%s %s %s default %s identity %s generated %s collation %s comment %s', ours.relname, a.attname,
              format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
              pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation::regcollation,
              col_description(ours.oid, a.attnum))
FROM ours JOIN pg_attribute AS a ON a.attrelid = ours.oid AND a.attnum > 0 AND NOT a.attisdropped AND ours.relkind = 'r'
LEFT JOIN pg_attrdef AS d ON d.adrelid = ours.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %s on %s: %s', c.conname, ours.relname, pg_get_constraintdef(c.oid))
FROM ours JOIN pg_constraint AS c ON c.conrelid = ours.oid
UNION ALL
SELECT format('index %s: %s valid %s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM ours JOIN pg_index AS i ON i.indrelid = ours.oid
UNION ALL
SELECT format('trigger on %s: %s', ours.relname, pg_get_triggerdef(t.oid))
FROM ours JOIN pg_trigger AS t ON t.tgrelid = ours.oid AND NOT t.tgisinternal
UNION ALL
SELECT format('function %s: %s', p.proname, pg_get_functiondef(p.oid)) FROM pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT format('type %s %s', t.typname, t.typtype) FROM pg_type AS t
WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
UNION ALL
SELECT format('extension %s', extname) FROM pg_extension
"""


async def catalog(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return {line for (line,) in await connection.fetch(CATALOG)}
    finally:
        await connection.close()


async def catalog_of_models(url: str, dsn: str) -> set[str]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    return await catalog(dsn)


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


async def test_the_migrations_make_what_the_models_say(
    postgres_server_url: str, worker_id: str, empty_url: str, dsn: str, root: Path
) -> None:
    of_models = await catalog_of_models(empty_url, dsn)
    await databases.recreate(postgres_server_url, f"app_migrations_{worker_id}_test")
    await databases.migrate(empty_url, root=root)

    of_migrations = await catalog(dsn)

    assert of_migrations == of_models


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
        "CREATE TABLE pets ()",
        "CREATE TYPE size AS ENUM ('small')",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
async def test_a_planted_drift_is_seen(migrated_url: str, dsn: str, drift: str) -> None:
    before = await catalog(dsn)

    await execute(dsn, drift)

    assert await catalog(dsn) != before


async def test_a_new_revision_would_be_empty(migrated_url: str, config: Config) -> None:
    command.check(config)  # raises when there is something to write

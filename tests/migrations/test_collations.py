"""No index depends on the host's sort order: a new C library may sort otherwise, which makes such an index wrong.

wiki.postgresql.org/wiki/Locale_data_changes: after glibc 2.28 a unique index took 163 of 200 addresses twice.
"""

import asyncpg
import pytest

pytestmark = pytest.mark.integration

BY_LOCALE = """
    SELECT i.indrelid::regclass || '.' || coalesce(a.attname, 'an expression'), i.indexrelid::regclass || ''
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
        CROSS JOIN unnest(i.indkey::int2[], i.indcollation::oid[]) AS part (attnum, sorted_by)
        LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    WHERE part.sorted_by NOT IN (0, 'pg_catalog."C"'::regcollation) AND c.relname <> 'alembic_version'
"""


async def by_locale(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    found = {f"{column} in {index}" for column, index in await connection.fetch(BY_LOCALE)}
    await connection.close()
    return found


async def test_every_index_of_text_is_by_code_points(migrated_url: str, dsn: str) -> None:
    assert await by_locale(dsn) == set(), "declare these columns with app_db.types.KEY_TEXT"


async def test_an_index_by_locale_is_found(migrated_url: str, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE INDEX ix_users_email ON users (email)")
    await connection.close()

    assert await by_locale(dsn) == {"users.email in ix_users_email"}

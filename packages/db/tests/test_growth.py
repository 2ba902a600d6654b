"""Each table says what makes it grow and what bounds it, and a row takes the bytes that it says."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app_db import Database
from app_db.base import Base
from app_db.growth import Growth
from app_db.models import User

GROWTHS: dict[str, Growth | None] = {
    mapper.class_.__tablename__: mapper.class_.__growth__ for mapper in Base.registry.mappers
}
ROWS = 3_000
FACTOR = 1.5
"""How far the measured bytes may be from those that are said."""
VALUES = {
    "uuid": "uuidv7()", "timestamp with time zone": "now()", "text": "md5(n::text)", "integer": "n", "smallint": "1",
    "bigint": "n", "boolean": "true", "jsonb": "jsonb_build_object('user_id', uuidv7())", "double precision": "n",
    "bytea": "decode(md5(n::text), 'hex')", "text[]": "'{}'::text[]", "uuid[]": "ARRAY[uuidv7()]",
    "interval": "interval '1 minute'", "timestamp with time zone[]": "ARRAY[now(), now(), now()]",
}  # fmt: skip
COLUMNS = text("""
    SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
""")
SIZE = text("""
    SELECT sum(pg_total_relation_size(relid)) FROM (
        SELECT relid FROM pg_partition_tree(CAST(:table AS regclass)) UNION SELECT CAST(:table AS regclass)
    ) AS parts
""")
CHECKS = text("""
    SELECT quote_ident(conname) FROM pg_constraint
    WHERE conrelid = CAST(:table AS regclass) AND contype = 'c' AND coninhcount = 0
""")


async def fill(connection: AsyncConnection, table: str) -> None:
    """Fill a table with rows that refer to nothing and mean nothing."""
    await connection.execute(text(f"TRUNCATE {table} CASCADE"))  # other tests have left pages that are half empty
    await connection.execute(text("SET LOCAL session_replication_role = replica"))
    for (check,) in (await connection.execute(CHECKS, {"table": table})).all():
        await connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {check}"))
    columns = [(name, VALUES[kind]) for name, kind in await connection.execute(COLUMNS, {"table": table})]
    names, values = (", ".join(each) for each in zip(*columns, strict=True))
    await connection.execute(
        text(f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, {ROWS}) AS n")
    )


@pytest.mark.parametrize("table", sorted(GROWTHS))
def test_each_table_says_what_makes_it_grow_and_what_bounds_it(table: str) -> None:
    assert GROWTHS[table] is not None, f"say it in the model of {table}: __growth__ = Growth(…)"


@pytest.mark.parametrize(("table", "growth"), sorted(GROWTHS.items()))
async def test_a_row_takes_as_many_bytes_as_its_table_says(
    database: Database, table: str, growth: Growth | None
) -> None:
    if growth is None or growth.row_bytes is None:
        pytest.skip("nobody has measured it")
    async with database.engine.connect() as connection, connection.begin() as transaction:
        await fill(connection, table)
        measured = float((await connection.execute(SIZE, {"table": table})).scalar_one()) / ROWS
        await transaction.rollback()

    assert growth.row_bytes / FACTOR < measured < growth.row_bytes * FACTOR, f"{measured:.0f} bytes"


def test_the_example_of_the_class_is_one() -> None:
    assert isinstance(User.__growth__, Growth)

"""Deletes expired rows in batches, counted in SQL, so that it works for tables of any size."""

from datetime import datetime

from sqlalchemy import TextClause, text

from app_db.clock import NOW_SQL
from app_db.session import Session

BATCH = 5000
"""Rows per transaction, which takes some 0.1 s. Locked rows are skipped, so it waits for nobody."""


def deletion_of_expired(table: str, *, column: str) -> TextClause:
    """Return the statement that deletes the rows of `table` whose `column` has passed, the oldest first.

    The ids are an array, because the planner cannot know how few they are and might join.
    """
    return text(f"""
        WITH due AS (
            SELECT id FROM {table} WHERE {column} <= {NOW_SQL}
            ORDER BY {column} LIMIT :limit FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING id
        )
        SELECT count(*) FROM gone
    """)  # noqa: S608  # names of our own


async def delete_batch(session: Session, statement: TextClause, *, now: datetime | None, limit: int) -> int:
    """Delete up to `limit` rows; return how many."""
    return int((await session.scalars(statement, {"now": now, "limit": limit})).one())

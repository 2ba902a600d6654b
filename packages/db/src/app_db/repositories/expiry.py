"""Deletes expired rows in batches, counted in SQL, so that it works for tables of any size."""

from datetime import datetime

from sqlalchemy import TextClause, text

from app_db.base import Base
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


def pruned_tables() -> list[str]:
    """Return the tables whose rows go when their `expires_at` has passed: those that say so, by `pruned` in `info`."""
    return [table.name for table in Base.metadata.sorted_tables if table.info.get("pruned")]


async def delete_expired_of(session: Session, table: str) -> int:
    """Delete a batch of expired rows of a table; return how many. See `UserSessionRepository.delete_expired`."""
    return await delete_batch(session, deletion_of_expired(table, column="expires_at"), now=None, limit=BATCH)


async def delete_batch(session: Session, statement: TextClause, *, now: datetime | None, limit: int) -> int:
    """Delete up to `limit` rows; return how many."""
    return int((await session.scalars(statement, {"now": now, "limit": limit})).one())

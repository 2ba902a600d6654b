"""How far a standby is behind its primary."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from app_db.engine import Database

# A standby that has replayed all that it has received is not behind, however long ago the last commit was.
_LAG = text("""
    SELECT pg_is_in_recovery(), CASE
        WHEN NOT pg_is_in_recovery() OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN interval '0'
        ELSE now() - pg_last_xact_replay_timestamp() END
""")


@dataclass(frozen=True, slots=True)
class Lag:
    """What a server says of its replication."""

    is_standby: bool
    behind: timedelta | None
    """Since when the newest commit that it shows was made, if it has received more; None before its first commit.

    What has not reached it is not counted: a standby that lost its primary does not know of later commits.
    """


async def replication_lag(database: Database) -> Lag:
    """Return how far the server of stale reads is behind.

    Raises:
        DatabaseUnavailable: when it does not answer.
    """
    async with database.unit_of_work(stale=True) as session:
        return Lag(*(await session.execute(_LAG)).one())

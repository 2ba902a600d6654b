"""A table of many jobs, for the tests of lists, counts and actions beside them."""

from collections.abc import Iterator
from itertools import product

from sqlalchemy import text

from app_db import Session
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.types import new_id

ROWS = 60_000
OWNER = new_id()

# The newest 3,000 are scheduled, and a backlog is due. One kind is seldom, and is long over.
SEED = text("""
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, queue, state, claim_at, finished_at, started_at)
    SELECT uuidv7(make_interval(secs => number - :rows)), CASE WHEN number % 2 = 0 THEN CAST(:owner AS uuid) END,
        CASE WHEN number % 997 = 0 AND number < 20000 THEN 'seldom' WHEN number % 3 = 0 THEN 'mail' ELSE 'note' END,
        '{}', 1, CASE WHEN number % 10 = 0 THEN 'slow' ELSE 'default' END, state,
        CASE WHEN state = 'scheduled' THEN now() + interval '1 day'
            WHEN state NOT IN ('completed', 'discarded', 'cancelled') THEN now() - interval '1 minute' END,
        CASE WHEN state IN ('completed', 'discarded', 'cancelled') THEN now() - interval '1 second' END,
        now() - interval '2 seconds'
    FROM (
        SELECT number, CASE WHEN number > :rows - 3000 THEN 'scheduled' WHEN number % 1000 = 3 THEN 'dispatched'
            WHEN number % 1000 = 4 THEN 'executing' WHEN number % 1000 = 5 THEN 'retryable'
            WHEN number % 1000 = 6 THEN 'discarded' WHEN number % 1000 BETWEEN 7 AND 30 THEN 'cancelled'
            WHEN number % 1000 BETWEEN 100 AND 199 THEN 'available' ELSE 'completed' END AS state
        FROM generate_series(1, :rows) AS number
    ) AS jobs
""")


def filters() -> Iterator[JobFilter]:
    states = (None, *JobState)
    for state, kind, queue in product(states, (None, "mail", "seldom", "misspelt"), (None, "slow", "empty")):
        yield JobFilter(state=state, kind=kind, queue=queue)


async def rows_read(session: Session) -> tuple[int, int]:
    counts = text("SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
    row = (await session.execute(counts)).one()
    return row.seq_tup_read, row.idx_tup_fetch

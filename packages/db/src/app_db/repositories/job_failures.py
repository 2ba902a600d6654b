"""What fails lately, for operators: read from the newest errors, so that the cost does not grow with their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from app_db.session import Session
from app_db.types import first_id_at

MOST = 2000
"""How many of the newest errors are looked at."""
MOST_FOUND = 1000
"""How many jobs a search in errors returns."""

# OFFSET 0 keeps the planner from a join that reads all jobs.
_FAILING = text("""
    WITH newest AS MATERIALIZED (
        SELECT id, job_id, failed_at, error FROM job_errors WHERE id >= :first_id ORDER BY id DESC LIMIT :most
    )
    SELECT kind, count(*) AS errors, count(DISTINCT job_id) AS jobs,
        count(DISTINCT job_id) FILTER (WHERE state = 'discarded') AS discarded,
        count(DISTINCT owner_id) AS owners, min(failed_at) AS first_at, max(failed_at) AS last_at,
        (array_agg(error ORDER BY newest.id DESC))[1] AS error,
        (array_agg(job_id ORDER BY newest.id DESC))[1] AS job_id,
        (SELECT count(*) FROM newest) >= :most AS at_least
    FROM newest, LATERAL (SELECT kind, state, owner_id FROM jobs WHERE id = job_id OFFSET 0) AS job
    GROUP BY kind ORDER BY max(failed_at) DESC, kind
""")

# Without a text no error is read.
_NAMED = text("""
    WITH newest AS MATERIALIZED (
        SELECT job_id, failed_at, error FROM job_errors WHERE CAST(:error AS text) <> '' ORDER BY id DESC LIMIT :most
    )
    SELECT (SELECT id FROM users WHERE email_canonical = :email) AS account_id, ARRAY(
        SELECT job_id FROM newest WHERE strpos(lower(error), lower(:error)) > 0
        GROUP BY job_id ORDER BY max(failed_at) DESC LIMIT :found
    ) AS job_ids
""").columns(account_id=Uuid(), job_ids=ARRAY(Uuid()))


@dataclass(frozen=True, slots=True)
class FailingKind:
    """A kind of which attempts fail."""

    kind: str
    errors: int
    """The attempts that failed."""
    jobs: int
    discarded: int
    """The jobs among them that were given up."""
    owners: int
    """The accounts that started them."""
    first_at: datetime
    last_at: datetime
    error: str
    """The newest error, and `job_id` is its job."""
    job_id: UUID
    at_least: bool
    """Whether there were more errors than were looked at, so that all this has begun earlier."""


async def failing_kinds(session: Session, *, since: datetime) -> Sequence[FailingKind]:
    """Return the kinds of which attempts have failed since then, the last one first: one index range, up to `MOST`."""
    rows = await session.execute(_FAILING, {"first_id": first_id_at(since), "most": MOST})
    return [FailingKind(**row) for row in rows.mappings()]


async def account_and_jobs_with_error(
    session: Session, *, email: str | None, error: str
) -> tuple[UUID | None, tuple[UUID, ...]]:
    """Return the account with this canonical address, and jobs with this text in an error, by one query.

    The text is looked for among the newest `MOST` errors, in upper or lower case; an empty one is in none.
    """
    row = (await session.execute(_NAMED, {"email": email, "error": error, "most": MOST, "found": MOST_FOUND})).one()
    return row.account_id, tuple(row.job_ids)

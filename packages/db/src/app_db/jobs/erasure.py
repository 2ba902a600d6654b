"""Erases errors, results, progress and encrypted payloads of the jobs of a deleted account (GDPR, article 17)."""

from uuid import UUID

from sqlalchemy import text

from app_db.models import FINAL_STATES
from app_db.session import Session

BATCH = 500

# Erases errors of all jobs; the rest only of jobs that have ended, because open jobs still write and read it. Of an
# envelope one stays that nobody can open, so that a retry does not run with the defaults of its class.
_ERASE_ERRORS = text("""
    WITH batch AS (
        SELECT id FROM job_errors
        WHERE job_id = ANY (ARRAY(SELECT id FROM jobs WHERE owner_id = :owner_id)) LIMIT :limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM job_errors WHERE id = ANY (ARRAY(SELECT id FROM batch)) RETURNING id
    )
    SELECT count(*) FROM gone
""")
_ERASE_RESULTS = text("""
    WITH batch AS (
        SELECT id FROM jobs
        WHERE owner_id = :owner_id AND state = ANY (:final)
            AND (num_nonnulls(result, progress, steps, cursor) > 0 OR CAST(payload -> '$encrypted' AS text) <> '{}')
        LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
    ), gone AS (
        UPDATE jobs SET result = NULL, progress = NULL, steps = NULL, cursor = NULL,
            payload = CASE WHEN payload -> '$encrypted' IS NULL THEN payload ELSE '{"$encrypted": {}}' END
        WHERE id = ANY (ARRAY(SELECT id FROM batch)) RETURNING id
    )
    SELECT count(*) FROM gone
""")
_STILL_TO_END = text("""
    SELECT state IN ('executing', 'dispatched', 'available') FROM jobs
    WHERE owner_id = :owner_id AND state <> ALL (:final) ORDER BY 1 DESC LIMIT 1
""")


async def erase_traces(session: Session, owner_id: UUID, *, limit: int = BATCH) -> int:
    """Erase up to `limit` errors, and up to `limit` results, of the jobs of this account; return how many.

    Call it again, each time in a transaction of its own, until it returns 0. The jobs stay with their plain
    payloads, because those hold only ids.
    """
    about = {"owner_id": owner_id, "limit": limit}
    errors = (await session.scalars(_ERASE_ERRORS, about)).one()
    results = (await session.scalars(_ERASE_RESULTS, {**about, "final": list(FINAL_STATES)})).one()
    return int(errors + results)


async def may_leave_traces(session: Session, owner_id: UUID) -> bool | None:
    """Return True if a job of this account runs or is due, False if its open jobs wait, None if all have ended."""
    about = {"owner_id": owner_id, "final": list(FINAL_STATES)}
    running: bool | None = (await session.scalars(_STILL_TO_END, about)).one_or_none()
    return running

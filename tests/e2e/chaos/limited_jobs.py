"""Jobs with a limit under fire: one that finds more than two of its key at once is discarded, which fails the run."""

from sqlalchemy import text

from app_db.jobs.limits import Limit
from app_worker.context import Discard, JobContext
from app_worker.registry import Mode, handles
from tests.e2e.chaos.jobs import LEAVE_EFFECT, Hiccup, Owed, soon

TOGETHER = """
    SELECT count(*) FROM jobs WHERE due_at IS NULL AND finished_at IS NULL
        AND limit_key = (SELECT limit_key FROM jobs WHERE id = :id)
"""


class LimitedEffect(Owed, limit=Limit(running=2, per="key")):
    """One effect, in lease mode; two at once of each key."""

    kind = "chaos.limited"
    key: int
    fails_first: bool


@handles(LimitedEffect, mode=Mode.LEASE, max_attempts=1000, backoff=soon)
async def leave_effect_within_a_limit(job: JobContext, payload: LimitedEffect) -> None:
    """Look at the ledger before the effect, in the transaction that completes the job."""
    if payload.fails_first and job.attempt == 1:
        raise Hiccup
    async with job.last_transaction() as session:
        if (await session.scalars(text(TOGETHER), {"id": job.id})).one() > 2:
            raise Discard("over the limit")
        await session.execute(text(LEAVE_EFFECT), {"row": payload.row, "key": job.idempotency_key})

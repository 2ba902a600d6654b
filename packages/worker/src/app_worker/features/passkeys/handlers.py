"""Deletes used challenges that nobody could answer any more."""

from datetime import timedelta

from app_db.features.passkeys.payloads import PrunePasskeyChallenges
from app_db.features.passkeys.repository import UsedChallengeRepository
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles


@handles(PrunePasskeyChallenges, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_challenges(job: JobContext, payload: PrunePasskeyChallenges) -> dict[str, int]:
    """Delete them in batches."""
    pruned = await delete_all(job, lambda session: UsedChallengeRepository(session).delete_expired())
    await note_done(job, payload)
    return {"pruned": pruned}

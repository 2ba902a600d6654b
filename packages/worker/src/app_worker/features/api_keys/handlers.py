"""Deletes keys that have expired."""

from datetime import timedelta

from app_db.features.api_keys.payloads import PruneKeys
from app_db.features.api_keys.repository import ApiKeyRepository
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles


@handles(PruneKeys, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_keys(job: JobContext, payload: PruneKeys) -> dict[str, int]:
    """Delete keys that have expired, in batches."""
    keys = await delete_all(job, lambda session: ApiKeyRepository(session).delete_expired())
    await note_done(job, payload)
    return {"keys": keys}

"""Adds up the ends of jobs for their batches, those of one moment in one statement."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from app_db import Database
from app_db.gathering import Gathering
from app_db.jobs.batch_ends import settle, settle_all
from app_runtime.texts import safe_repr

log = structlog.get_logger(__name__)


class Batches:
    """The batches of one worker. What it cannot add up, the leader of a queue does within a fifth of its lease."""

    def __init__(self, database: Database) -> None:
        """Let no statement take longer than the `request_timeout` of the database."""
        self._database = database
        self._settling: Gathering[UUID, None] = Gathering(self._settle, database.settings.request_timeout)

    async def note_end(self, batch_id: UUID) -> None:
        """Add up what has changed in a batch, after the commit of the end of its job; an outage is no error."""
        try:
            await self._settling.ask(batch_id)
        except Exception as error:
            log.warning("batch_not_settled", batch_id=str(batch_id), cause=safe_repr(error))

    async def settle_all(self) -> bool:
        """Add up what nobody has; return whether there was anything, so that jobs may be due."""
        async with self._database.sessions.begin() as session:
            return await settle_all(session)

    async def _settle(self, batch_ids: Sequence[UUID]) -> list[None]:
        async with self._database.sessions.begin() as session:
            await settle(session, sorted(set(batch_ids)))
        return [None] * len(batch_ids)

"""What a handler is given besides its payload."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.ledger import Delivery
from app_worker.mail import Mails

IN_TX_MODE = "a handler in tx mode holds its job's row: it writes with job.session, and nobody sees progress"


class Fenced(Exception):
    """This delivery no longer holds its job: its lease ran out and the job was dispatched again."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """One attempt at one job."""

    delivery: Delivery
    attempt: int
    owner_id: UUID | None
    mails: Mails
    database: Database
    lease: timedelta
    tx_session: Session | None
    """Of a handler in tx mode; None in lease mode."""

    @property
    def id(self) -> UUID:
        """The id that `enqueue` returned."""
        return self.delivery.id

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt: give it to services that can recognise a repetition."""
        return f"job:{self.id}"

    @property
    def session(self) -> Session:
        """The session of a handler in tx mode; the runner commits it, together with the completion of the job."""
        assert self.tx_session is not None, "a handler in lease mode opens transactions with job.transaction()"
        return self.tx_session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Open a transaction in lease mode; it commits at the end of the block, unless the job was lost meanwhile.

        The job's row stays locked until then, so no other delivery can start while this one writes, and `set_progress`
        would wait for itself.

        Raises:
            Fenced: when this delivery holds the job no longer. Nothing is written.
        """
        assert self.tx_session is None, IN_TX_MODE
        async with self.database.sessions.begin() as session:
            if not await ledger.hold(session, self.delivery):
                raise Fenced  # guard: test_a_zombie_cannot_write
            yield session
            # Heartbeats passed over the row while it was locked.
            await self._renew(session)  # guard: test_a_transaction_renews_the_lease_at_its_end

    async def set_progress(self, progress: Any) -> None:  # Any: JSON
        """Show the owner how far the job is, in lease mode.

        Raises:
            Fenced: when this delivery holds the job no longer.
        """
        assert self.tx_session is None, IN_TX_MODE
        async with self.database.sessions.begin() as session:
            if not await ledger.set_progress(session, self.delivery, progress):
                raise Fenced  # guard: test_a_zombie_cannot_show_progress

    async def _renew(self, session: Session) -> None:
        await ledger.extend(session, [self.delivery], lease=self.lease)

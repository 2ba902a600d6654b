"""What a handler is given besides its payload, and what it may raise."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.bounds import LONGEST_DELAY
from app_db.jobs.kept import require_depth
from app_db.jobs.ledger import Delivery, StartedJob
from app_db.models import JobState
from app_worker.history import kept
from app_worker.mail import Mails
from app_worker.progress import Progress

IN_TX_MODE = "a handler in tx mode holds its job's row: it writes with job.session, and nobody sees progress"
IDLE = timedelta(seconds=10)
"""A transaction of lease mode that waits so long for its next statement is ended: its worker may be frozen."""
SHORTEST_SNOOZE = timedelta(seconds=1)


class Snooze(Exception):
    """Raised by a handler: not now, run again after `delay`. It costs no attempt, and no limit ends it.

    A delay below a second is a second: what costs nothing and is due at once would run without a pause.

    Raises:
        ValueError: for a delay of more than a hundred years: a date that nothing could show.
    """

    def __init__(self, delay: timedelta) -> None:
        if delay > LONGEST_DELAY:
            raise ValueError(
                f"a job cannot be put off by {delay}: {LONGEST_DELAY} is the longest"
            )  # guard: test_a_job_cannot_be_put_off_to_a_date_that_nothing_can_show
        super().__init__(delay)
        self.delay = max(delay, SHORTEST_SNOOZE)  # guard: test_a_snooze_is_a_second_long_at_least


class Discard(Exception):
    """Raised by a handler: this job can never succeed, keep it as discarded. The message goes on record."""


class Fenced(Exception):
    """This delivery no longer holds its job: its lease ran out and the job was dispatched again."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """One attempt at one job."""

    delivery: Delivery
    job: StartedJob
    mails: Mails
    database: Database
    lease: timedelta
    timeout: timedelta
    """For the attempt, and so for each of its transactions."""
    retention: Mapping[str, timedelta]
    """How long completed jobs are kept, by kind, where the handler says so."""
    tx_session: Session | None
    """Of a handler in tx mode; None in lease mode."""
    progress: Progress
    completed: asyncio.Event
    """Set when the job's completion is committed before its handler ends."""

    @property
    def id(self) -> UUID:
        """The id that `enqueue` returned."""
        return self.delivery.id

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self.job.attempt

    @property
    def owner_id(self) -> UUID | None:
        """The user who started it."""
        return self.job.owner_id

    @property
    def run_at(self) -> datetime:
        """The time it was asked to run at: for a cron's job, its tick."""
        return self.job.run_at

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
        would wait for itself. A block that waits 10 s between two statements loses its transaction. What it wrote may
        be there when a later attempt begins.

        Raises:
            Fenced: when this delivery holds the job no longer. Nothing is written.
        """
        async with self._held() as session:
            yield session
            # Heartbeats passed over the row while it was locked.
            await ledger.extend(
                session, self.delivery, lease=self.lease
            )  # guard: test_a_transaction_renews_the_lease_at_its_end

    @asynccontextmanager
    async def last_transaction(self) -> AsyncIterator[Session]:
        """As `transaction`, and the commit completes the job too: what it writes happens exactly once.

        Whatever the handler raises afterwards does not change that; what it returns still becomes the result.

        Raises:
            Fenced: as above.
        """
        async with self._held() as session:
            yield session
            await ledger.finish(
                session, self.delivery, state=JobState.COMPLETED, progress=kept(self.progress.latest)
            )  # guard: test_the_last_transaction_of_a_job_completes_it
        self.completed.set()

    async def set_progress(self, progress: Any) -> None:  # Any: JSON
        """Show the owner how far the job is, in lease mode: written at most once a second, the latest in the end.

        Raises:
            Fenced: when this delivery holds the job no longer.
            ValueError: for lists and objects that are within each other in more than a hundred levels.
        """
        assert self.tx_session is None, IN_TX_MODE
        require_depth(progress)  # guard: test_a_progress_that_could_not_be_shown_is_refused
        await self.progress.show(progress)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[Session]:
        assert self.tx_session is None, IN_TX_MODE
        async with self.database.sessions() as session:
            session.info["request_id"] = self.job.request_id
            with session.naming_failed_flush():
                if not await ledger.hold(session, self.delivery, idle=IDLE, total=self.timeout):
                    raise Fenced  # guard: test_a_zombie_cannot_write
                with session.undivided():
                    yield session
                await session.commit()

"""Jobs that run inline: within `enqueue`, in the session and the transaction of its caller."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.encryption import JobCipher, keys_of
from app_db.jobs.ledger import Delivery, StartedJob, Starter
from app_db.models import JobState
from app_db.testing.jobs import dispatch, due_after
from app_db.types import new_id
from app_worker.context import IN_TX_MODE, JobContext
from app_worker.mail import Mails
from app_worker.outcome import NoHandler
from app_worker.progress import Progress
from app_worker.registry import Mode, Registry
from app_worker.steps import Steps

LEASE = timedelta(hours=1)
"""Long, because no heartbeat renews it: a test that stops in a debugger keeps its job."""


@dataclass(frozen=True, slots=True)
class _InlineContext(JobContext):
    """The context of a handler that runs inline: in both modes it works in the session of the caller."""

    caller: Session

    @asynccontextmanager
    async def _locked_transaction(self) -> AsyncIterator[Session]:
        assert self.tx_session is None, IN_TX_MODE
        async with self.caller.begin_nested():
            yield self.caller

    @asynccontextmanager
    async def last_transaction(self) -> AsyncIterator[Session]:
        async with self._locked_transaction() as session:
            yield session


class _InlineProgress(Progress):
    """Writes each progress at once: a later write would use the caller's session while the caller does."""

    async def show(self, progress: Any) -> None:  # Any: JSON
        await self._write(progress)


async def _go_on() -> None: ...


async def run_inline(session: Session, job_id: UUID, *, registry: Registry, mails: Mails, database: Database) -> None:
    """Run a job if it is due, and the jobs of its batch that become due when it ends."""
    waiting = [job_id]
    for next_id in waiting:
        if (delivery := await dispatch(session, next_id)) is not None:
            job = await _run(session, delivery, registry=registry, mails=mails, database=database)
            if job.batch_id is not None:
                waiting += await due_after(session, job.batch_id)


async def _run(
    session: Session, delivery: Delivery, *, registry: Registry, mails: Mails, database: Database
) -> StartedJob:
    """Start a job, call its handler, and finish it, all in the session of the caller; return it as it started."""
    leased = registry.leased_kinds
    job = await ledger.start(session, delivery, Starter(new_id(), leased, LEASE))
    assert job is not None, "it was dispatched in this transaction"
    handler = registry.by_kind.get(job.kind)
    if handler is None:
        raise NoHandler(job.kind)
    cipher = JobCipher(keys_of(session), delivery.id, job.kind, handler.payload_class.is_encrypted)
    tx_session = session if handler.mode is Mode.TX else None

    async def show(progress: Any) -> None:  # Any: JSON
        await ledger.set_progress(session, delivery, progress)

    context = _InlineContext(
        delivery,
        job,
        mails,
        database,
        LEASE,
        handler.timeout,
        registry.retention,
        tx_session,
        _InlineProgress(show),
        asyncio.Event(),
        Steps.of(job, cipher),
        _go_on,
        caller=session,
    )
    payload = cipher.read(handler.payload_class, json.loads(job.payload), job.payload_version)
    result = cipher.seal("result", await handler.function(context, payload))
    if handler.mode is Mode.LEASE:
        await ledger.finish(session, delivery, state=JobState.COMPLETED, result=result)
    elif result is not None:
        await ledger.set_result(session, delivery, result)
    return job

"""The commands that look at batches and chains of jobs, and act on them."""

from argparse import Namespace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator

from app_db import Database, Session
from app_db.errors import NotFound
from app_db.jobs.batch_ends import AT_ONCE, cancel_batch, retry_batch
from app_db.jobs.control import Action
from app_db.repositories.job_batches import BatchState, JobBatchRepository
from app_worker.command_line.output import Acted, JobList, Output, sheet, table


class BatchNotFound(NotFound):
    """There is no batch or chain with this id."""


class BatchRow(BaseModel, frozen=True, from_attributes=True):
    """A batch or chain in a list."""

    id: UUID
    is_chain: bool
    state: BatchState
    total: int
    completed: int
    discarded: int
    cancelled: int
    created_at: datetime
    ended_at: datetime | None


class BatchList(Output, frozen=True):
    """One page of batches and chains, newest first."""

    items: list[BatchRow]
    next: Annotated[str | None, BeforeValidator(lambda cursor: cursor and str(cursor))]
    """The cursor of the next page, null on the last."""

    def text(self) -> str:
        """Return a table, and below it how to get the next page."""
        headers = ("ID", "CHAIN", "STATE", "JOBS", "COMPLETED", "DISCARDED", "CANCELLED", "CREATED AT", "ENDED AT")
        more = f"more: --after {self.next}\n" if self.next else ""
        return table(headers, [[value for _, value in row] for row in self.items]) + more


class BatchDetail(BatchRow, Output, frozen=True):
    """Everything the ledger has about one batch or chain."""

    owner_id: UUID | None
    then_id: UUID | None
    """The job that was enqueued when all had completed."""
    on_failure_id: UUID | None
    """The job that was enqueued when all had ended, and not all had completed."""
    failed_id: UUID | None
    """The last of its jobs that was discarded or cancelled."""
    cancelled_at: datetime | None

    def text(self) -> str:
        """Return a line for each of its columns."""
        return sheet(self)


async def look_at_or_act_on_batches(database: Database, options: Namespace) -> Output:
    """List batches, show one, list its jobs, cancel or retry it.

    Raises:
        BatchNotFound: for an unknown id.
    """
    async with database.unit_of_work(read_only=True) as session:
        batches = JobBatchRepository(session)
        if options.batch_command == "list":
            page = await batches.page(owner_id=None, after=options.after, limit=options.limit)
            return BatchList.model_validate(page)
        batch = await _require(session, options.id)
        if options.batch_command == "jobs":
            jobs = await batches.jobs(options.id, state=options.state, after=options.after, limit=options.limit)
            return JobList.model_validate(jobs)
    if options.batch_command == "retry":
        return await _retry(database, options.id)
    if options.batch_command == "cancel":
        async with database.unit_of_work() as session:
            await cancel_batch(session, options.id)
            return await _require(session, options.id)
    return batch


async def _require(session: Session, batch_id: UUID) -> BatchDetail:
    batch = await JobBatchRepository(session).get(batch_id, owner_id=None)
    if batch is None:
        raise BatchNotFound
    return BatchDetail.model_validate(batch)


async def _retry(database: Database, batch_id: UUID) -> Acted:
    total, count = 0, AT_ONCE
    while count == AT_ONCE:  # not until 0, because a job that was retried may fail again
        async with database.unit_of_work() as session:
            count = await retry_batch(session, batch_id)
        total += count
    return Acted(action=Action.RETRY, count=total)

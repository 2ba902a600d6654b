"""Batches: jobs that belong together. A chain is a batch whose jobs run one after the other (ADR-0079)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy import event as events
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.models.job_batch_triggers import add_triggers
from app_db.types import new_id


class JobBatch(Base):
    """A batch or a chain, and how many of its jobs have ended.

    Its counts are those of the changes that were added up; `JobBatchChange` has the others.
    """

    __tablename__ = "job_batches"
    __growth__ = Growth("a batch or a chain, with its last jobs", until="it has ended and its jobs are deleted")
    __table_args__ = (
        CheckConstraint("total >= 0", name="total"),
        Index("ix_job_batches_owner_id_id", "owner_id", "id", postgresql_where=text("owner_id IS NOT NULL")),
        Index("ix_job_batches_cancelled", "id", postgresql_where=text("cancelled_at IS NOT NULL AND ended_at IS NULL")),
        Index("ix_job_batches_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID | None]
    is_chain: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    total: Mapped[int]
    """Of a chain, its links that have not been enqueued yet are counted too."""
    completed: Mapped[int] = mapped_column(server_default="0")
    discarded: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")
    then_id: Mapped[UUID | None]
    """The job that is enqueued when all have completed."""
    then_job: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The columns of that job; NULL once it was enqueued."""
    on_failure_id: Mapped[UUID | None]
    """The job that is enqueued when all have ended, and not all have completed."""
    on_failure_job: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    failed_id: Mapped[UUID | None]
    """The last of its jobs that was discarded or cancelled."""
    cancelled_at: Mapped[datetime | None]
    """When it was cancelled as a whole."""
    ended_at: Mapped[datetime | None]
    """When its last job ended; NULL again when one of them is retried."""


class JobLink(Base):
    """A job of a chain that is enqueued when the job before it completes."""

    __tablename__ = "job_links"
    __growth__ = Growth(
        "a job of a chain that waits for the one before", until="it is enqueued, or its chain is deleted"
    )
    __table_args__ = (Index(None, "batch_id"),)

    after_id: Mapped[UUID] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("job_batches.id", ondelete="CASCADE"))
    job: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The columns of the job."""


class JobBatchChange(Base):
    """What a transaction has changed in the counts of a batch: inserted by a trigger, added up and deleted by a worker.

    Transactions only insert, so that those that end jobs of one batch never wait for each other.
    """

    __tablename__ = "job_batch_changes"
    __growth__ = Growth("a job of a batch that has just ended", until="a worker has added it up, within 3 s")
    __table_args__ = (Index(None, "batch_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    batch_id: Mapped[UUID]
    job_id: Mapped[UUID | None]
    added: Mapped[int] = mapped_column(server_default="0")
    completed: Mapped[int] = mapped_column(server_default="0")
    discarded: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")


events.listen(Base.metadata, "after_create", add_triggers)

"""Limits of jobs: what is allowed, which keys have jobs that wait, and signals to look at a key (ADR-0081)."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import DateTime, Index, Interval, Text, event, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.models.job_limit_triggers import add_triggers_to
from app_db.types import KEY_TEXT


class JobLimit(Base):
    """The limit of a kind, as its payload class declares it, and as an operator has set it instead."""

    __tablename__ = "job_limits"
    __growth__ = Growth("a kind that has, or had, a limit", until="never", row_bytes=300)

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    """The kind."""
    per: Mapped[str | None] = mapped_column(Text)
    running: Mapped[int | None]
    """How many jobs of a key may be admitted at once; NULL without that limit."""
    rate: Mapped[int | None]
    """How many jobs of a key may start within `period`; NULL without that limit."""
    period: Mapped[timedelta | None] = mapped_column(Interval)
    set_at: Mapped[datetime | None]
    """When an operator set the limit: the next three then hold instead of what the class declares."""
    set_by: Mapped[str | None] = mapped_column(Text)
    set_running: Mapped[int | None]
    set_rate: Mapped[int | None]
    set_period: Mapped[timedelta | None] = mapped_column(Interval)


class JobLimitKey(Base):
    """A key that has jobs that wait in a queue. Only admissions write it, while they hold the row of the limit."""

    __tablename__ = "job_limit_keys"
    __growth__ = Growth(
        "a key whose jobs wait for their turn, and a queue", until="none waits, and its `period` is over", row_bytes=500
    )
    __table_args__ = (
        Index(None, "queue", "admit_at"),
        Index(None, "name"),
        {"postgresql_with": {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.01}},
    )

    limit_key: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    queue: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    name: Mapped[str] = mapped_column(KEY_TEXT)
    """The limit."""
    admit_at: Mapped[datetime | None]
    """When its next job may be admitted; NULL until one that counts towards the limit ends."""
    started: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)), server_default="{}")
    """When jobs were started within the last `period`, if there is a rate."""


class JobLimitSignal(Base):
    """A job of a key has arrived, started, or no longer counts towards its limit.

    Insert-only, so that nobody waits for the transaction that writes it.
    """

    __tablename__ = "job_limit_signals"
    __growth__ = Growth("a job with a limit that arrives or ends", until="the next claim reads it", row_bytes=330)
    __table_args__ = (
        Index(None, "name", "limit_key"),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_vacuum_threshold": 1000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    name: Mapped[str] = mapped_column(KEY_TEXT)
    limit_key: Mapped[str] = mapped_column(KEY_TEXT)
    queue: Mapped[str | None] = mapped_column(Text)
    """Where a job has arrived or started; NULL when one ended."""
    started_at: Mapped[datetime | None]
    """When it started, if there is a rate."""


event.listen(Base.metadata, "after_create", add_triggers_to)

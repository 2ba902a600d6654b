"""Crons that operators have added: rows, beside the crons in the code of workers (ADR-0080)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index, SmallInteger, Text, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.jobs.timetables import CatchUp
from app_db.types import KEY_TEXT, StrEnumText, enum_check


class JobSchedule(Base):
    """A cron that operators have added. While `job_crons` has its name, that of a cron in code, it does not tick."""

    __tablename__ = "job_schedules"
    __growth__ = Growth("a cron that operators have added", until="they delete it", row_bytes=600)
    __table_args__ = (
        enum_check("catch_up", CatchUp),
        Index(None, "next_tick_at", postgresql_where=text("next_tick_at IS NOT NULL")),
    )

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    kind: Mapped[str] = mapped_column(KEY_TEXT)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    payload_version: Mapped[int] = mapped_column(SmallInteger)
    expression: Mapped[str] = mapped_column(Text)
    timezone: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(KEY_TEXT, server_default="default")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    catch_up: Mapped[CatchUp] = mapped_column(StrEnumText(CatchUp), server_default="one")
    overlap: Mapped[bool] = mapped_column(server_default=true())
    version: Mapped[int] = mapped_column(server_default="1")
    """Raised by each change of a person, so that nobody overwrites what they have not seen. Ticks leave it."""
    last_tick_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """The newest tick that was handled; else since when ticks count. Workers move it by compare-and-set."""
    next_tick_at: Mapped[datetime | None]
    """When workers look at it next; NULL while it is paused."""
    next_ticks: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)), server_default="{}")
    """The first three after `last_tick_at`, for pages."""
    last_job_id: Mapped[UUID | None]
    """Its newest job, which may have been deleted since."""
    problem: Mapped[str | None] = mapped_column(Text)
    """Why a worker could not enqueue the job of its due tick; NULL once one could."""
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(Text)
    """The id of an operator, or `shell`, like the next ones."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[str] = mapped_column(Text)

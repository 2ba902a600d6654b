"""Figures of minutes and hours. One row has all of its span: pages read as many rows as their charts have bars."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.types import StrEnumText, enum_check


class Span(StrEnum):
    """How much time a row covers."""

    MINUTE = "minute"
    HOUR = "hour"


class JobFigures(Base):
    """What ended in one minute or hour. Written once, and deleted by age."""

    __tablename__ = "job_figures"
    __growth__ = Growth(
        "a minute of the last day, and an hour of two weeks",
        until="after 25 hours, and after 14 days",
        row_bytes=360,
    )
    __table_args__ = (enum_check("span", Span),)

    span: Mapped[Span] = mapped_column(StrEnumText(Span), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    jobs: Mapped[list[Any]] = mapped_column(JSONB)  # Any: JSON of `figures.Ended`
    queues: Mapped[dict[str, int]] = mapped_column(JSONB)
    """The number of waiting jobs by queue, when the minute was counted; of an hour, its largest."""
    events: Mapped[dict[str, int]] = mapped_column(JSONB)
    """The number of events of the audit, by name."""

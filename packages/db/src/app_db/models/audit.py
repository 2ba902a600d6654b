"""The audit: events of accounts, for investigations."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, func, text
from sqlalchemy import event as events
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.models.audit_months import add_months_to
from app_db.types import KEY_TEXT, new_id


class AuditEvent(Base):
    """One event, insert-only. No foreign keys, because it outlives its account. No secrets and no e-mail addresses."""

    __tablename__ = "audit_events"
    __growth__ = Growth(
        "a sign-in, a change of accounts, jobs or queues",
        until="by months (`APP_RETENTION__AUDIT`); without it never",
        row_bytes=450,
    )
    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "event", "id"),
        Index("ix_audit_events_actor_id_id", "actor_id", "id", postgresql_where=text("actor_id IS NOT NULL")),
        Index(
            "ix_audit_events_client_address_id",
            "client_address",
            "id",
            postgresql_where=text("client_address IS NOT NULL"),
        ),
        # By month, because ids are made of the time (ADR-0076).
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    event: Mapped[str] = mapped_column(KEY_TEXT)
    """A past-tense name, as in `signed_in`."""
    user_id: Mapped[UUID | None]
    """The account; NULL for a sign-in to an unknown address."""
    actor_id: Mapped[UUID | None]
    """The operator who did it, if it was not the account itself."""
    session_id: Mapped[UUID | None]
    client_address: Mapped[str | None] = mapped_column(KEY_TEXT)
    request_id: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


events.listen(AuditEvent.__table__, "after_create", add_months_to)

"""The endpoints of accounts, and the log of what is delivered to them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, LargeBinary, Text, event, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.features.webhooks.triggers import BESIDE_TABLES, create_all
from app_db.growth import Growth
from app_db.types import KEY_TEXT, StrEnumText, enum_check, new_id

SCHEMA_REVISION = "e7c40b2d91a5"
"""The newest revision that this version of the feature needs."""

__all__ = [
    "BESIDE_TABLES",
    "MOST_ATTEMPTS_KEPT",
    "SCHEMA_REVISION",
    "DeliveryState",
    "DisabledBecause",
    "WebhookDelivery",
    "WebhookEndpoint",
]


class DisabledBecause(StrEnum):
    """Why nothing is sent to an endpoint."""

    OWNER = "owner"
    """Its owner wants it so."""
    GONE = "gone"
    """It has answered 410."""
    FAILING = "failing"
    """It has failed for too long."""


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookEndpoint(Base):
    """An address that gets events of an account."""

    __tablename__ = "webhook_endpoints"
    __growth__ = Growth(
        "an endpoint of an account, with its secrets",
        until="it is deleted, its account is deleted or disabled, or the password is reset",
        row_bytes=450,
    )
    __table_args__ = (
        enum_check("disabled_because", DisabledBecause),
        Index(None, "user_id", "id"),
        part_of_account(AccountPart.KEY),  # guard: test_a_reset_of_the_password_ends_the_endpoints
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The names of the events that it gets."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """Its secret, and the one before, encrypted."""
    key_id: Mapped[str] = mapped_column(Text)
    """The key that has sealed them."""
    rotated_until: Mapped[datetime | None]
    """The secret before signs too until then."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failing_since: Mapped[datetime | None]
    """The first failure after the last success."""
    disabled_at: Mapped[datetime | None]
    disabled_because: Mapped[DisabledBecause | None] = mapped_column(StrEnumText(DisabledBecause))


class WebhookDelivery(Base):
    """One event for one endpoint. A trigger writes it in the transaction of the event."""

    __tablename__ = "webhook_deliveries"
    __growth__ = Growth(
        "an event for an endpoint, with up to twenty answers",
        until="it has ended, by age (`APP_WEBHOOKS__KEEP`)",
        row_bytes=430,
    )
    __table_args__ = (
        enum_check("state", DeliveryState),
        Index(None, "endpoint_id", "id"),
        Index(None, "created_at"),
        Index("ix_webhook_deliveries_pending", "created_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[UUID]
    """The id that receivers see, the same in each attempt and at each endpoint."""
    event: Mapped[str] = mapped_column(KEY_TEXT)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    job_id: Mapped[UUID]
    """The job that delivers it. No foreign key, because retention deletes jobs earlier."""
    state: Mapped[DeliveryState] = mapped_column(StrEnumText(DeliveryState), server_default=DeliveryState.PENDING)
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """The last ones: when, for how long, and what came back."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When the event happened."""
    ended_at: Mapped[datetime | None]


MOST_ATTEMPTS_KEPT: Final = 20

event.listen(Base.metadata, "after_create", create_all)

"""Answers that are kept for a while, because the client may repeat its request."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import MOVES_WITH_CLOCK, Base
from app_db.growth import Growth


class IdempotentRequest(Base):
    """A request with an Idempotency-Key that was carried out, written in the transaction of its work."""

    __tablename__ = "idempotent_requests"
    __growth__ = Growth("a request with an Idempotency-Key, and its answer", until="after a day", row_bytes=240)
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"), MOVES_WITH_CLOCK)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """A digest of the account and the Idempotency-Key."""
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    """The account; NULL for a request without one, such as a registration."""
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    """What was asked and the answer, encrypted. Empty only until the transaction ends."""
    key_id: Mapped[str] = mapped_column(Text)
    """The id of the key that it was encrypted with."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

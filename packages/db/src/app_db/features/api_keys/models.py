"""The keys that users have made for their machines."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT, new_id


class ApiKey(Base):
    """A key of a user. Its secret is not stored, only a digest that is keyed with a pepper."""

    __tablename__ = "api_keys"
    __growth__ = Growth(
        "a key of an account",
        until="it is revoked or has expired, or its account is deleted",
        row_bytes=330,
    )
    __table_args__ = (
        UniqueConstraint("user_id", "name"),
        Index(None, "expires_at"),
        part_of_account(AccountPart.KEY, moves_with_clock=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    """Part of the key."""
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(KEY_TEXT)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """One of a feature that was removed opens nothing."""
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    key_id: Mapped[str] = mapped_column(Text)
    """The id of the pepper."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    """To some ten minutes; NULL for never."""

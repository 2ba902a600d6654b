"""A change of address until it is confirmed, and the former address until it cannot be brought back any more."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT, new_id

SCHEMA_REVISION = "b1d5e7c3f094"
"""The newest revision that these tables need; see `app_db.models.schema`."""


class EmailChange(Base):
    """A change that was asked for; one for each account. It ends with the session that asked, and as links do."""

    __tablename__ = "email_changes"
    __growth__ = Growth(
        "a change of address that waits: one of an account",
        until="it is confirmed, or after a day",
        row_bytes=370,
    )
    __table_args__ = (
        UniqueConstraint("user_id"),
        Index(None, "session_id"),
        Index(None, "expires_at"),
        part_of_account(AccountPart.LINK, moves_with_clock=True, pruned=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("user_sessions.id", ondelete="CASCADE"))
    before_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    """The address that the account had when the change was asked for; with another one the link is not valid."""
    email: Mapped[str] = mapped_column(Text)
    email_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    key_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class FormerEmail(Base):
    """An address that an account had. A link that was mailed to it brings it back, whatever happened since."""

    __tablename__ = "former_emails"
    __growth__ = Growth("a change of address", until="after three days", row_bytes=280)
    __table_args__ = (
        Index(None, "user_id"),
        Index(None, "expires_at"),
        {"info": {"moves_with_clock": True, "pruned": True}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(Text)
    email_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    can_return: Mapped[bool] = mapped_column(default=True)
    """False if the account left it for an address that it had had before: then that one's link is the older one."""
    key_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

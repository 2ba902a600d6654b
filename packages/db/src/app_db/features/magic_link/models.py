"""A link that signs in, for the browser or the client that has asked for it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT, new_id

SCHEMA_REVISION = "c5a8f1d2e603"
"""The newest revision that this table needs; see `app_db.models.schema`."""


class SignInLink(Base):
    """A link that was mailed and not used yet. Its token is derived, and neither it nor the binding is stored."""

    __tablename__ = "sign_in_links"
    __growth__ = Growth("a mailed sign-in link", until="it is used, or after 15 minutes", row_bytes=280)
    __table_args__ = (
        Index(None, "user_id"),
        Index(None, "expires_at"),
        part_of_account(AccountPart.LINK, moves_with_clock=True, pruned=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    email_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    """The address that the link was mailed to; it is not valid for another address."""
    binding_digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of what only the asking browser or client has, in hex."""
    key_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

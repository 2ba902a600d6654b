"""The tables of sign-in with others."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import MOVES_WITH_CLOCK, Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT, new_id


class ProviderLink(Base):
    """An account at a provider that opens an account here. Issuer and subject identify it; its address never does."""

    __tablename__ = "provider_links"
    __growth__ = Growth(
        "an account's link to a provider",
        until="it is removed, or its account is deleted",
        row_bytes=440,
    )
    __table_args__ = (
        UniqueConstraint("issuer", "subject"),
        UniqueConstraint("user_id", "issuer"),
        part_of_account(AccountPart.WAY_IN),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str] = mapped_column(KEY_TEXT)
    subject: Mapped[str] = mapped_column(KEY_TEXT)
    email: Mapped[str] = mapped_column(Text)
    """The address that the provider named when it was linked, so that the owner can tell it from others."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]


class ProviderAnswer(Base):
    """The id of a state whose answer was taken, so that no answer is taken twice."""

    __tablename__ = "provider_answers"
    __growth__ = Growth("a sign-in at a provider", until="an hour later", row_bytes=120)
    __table_args__ = (Index(None, "expires_at"), MOVES_WITH_CLOCK)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

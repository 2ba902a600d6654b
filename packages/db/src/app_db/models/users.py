"""Accounts and their login sessions."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base, Timestamps
from app_db.growth import Growth
from app_db.types import KEY_TEXT, StrEnumText, enum_check, new_id


class Role(StrEnum):
    """The rights of a user beyond their own account."""

    USER = "user"
    OPERATOR = "operator"


class User(Timestamps, Base):
    """An account. `email` is the address as the user wrote it, `email_canonical` identifies the account."""

    __tablename__ = "users"
    __growth__ = Growth(
        "an account",
        until="it is deleted, or was never verified (`APP_RETENTION__UNVERIFIED`)",
        row_bytes=560,
    )
    __table_args__ = (
        UniqueConstraint("email_canonical"),
        enum_check("role", Role),
        # Small indexes for lists of accounts: few rows are in them.
        Index("ix_users_undeliverable", "id", postgresql_where=text("undeliverable_at IS NOT NULL")),
        Index("ix_users_disabled", "id", postgresql_where=text("disabled_at IS NOT NULL")),
        Index("ix_users_operators", "id", postgresql_where=text("role = 'operator'")),
        Index("ix_users_unverified", "id", postgresql_where=text("email_verified_at IS NULL")),
        Index(None, "signed_in_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(Text)
    email_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    password_hash: Mapped[str | None] = mapped_column(Text)
    """NULL for who signs in without one; a reset by mail sets one."""
    role: Mapped[Role] = mapped_column(StrEnumText(Role), default=Role.USER, server_default=Role.USER.value)
    email_verified_at: Mapped[datetime | None]
    """NULL until the owner of the address has followed a link that was mailed to it."""
    disabled_at: Mapped[datetime | None]
    """When an operator disabled the account."""
    undeliverable_at: Mapped[datetime | None]
    """When a mail server last refused mail to the address for good; NULL once it accepts mail again."""
    undeliverable_because: Mapped[str | None] = mapped_column(Text)
    """The codes of its reply: `RCPT: 550 5.1.1`."""
    signed_in_at: Mapped[datetime | None]
    """When somebody last signed in; NULL for never, and for a sign-in before this was recorded."""
    second_factors: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default=text("'{}'"))
    """The features that a sign-in has to satisfy after its first proof, such as `totp`; removed ones do not count."""


class UserSession(Base):
    """A login session, which is a family of refresh tokens; the family ends when its row is deleted (ADR-0005).

    No token is stored: the current one is derived from `refresh_counter` and `refresh_key_id`.
    """

    __tablename__ = "user_sessions"
    __growth__ = Growth(
        "a sign-in: fifty of an account",
        until="it is ended, or expires (`APP_AUTH__REFRESH_IDLE`, `…ABSOLUTE`)",
        row_bytes=320,
    )
    __table_args__ = (Index(None, "user_id"), Index(None, "idle_expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    rotated_at: Mapped[datetime | None]
    refresh_counter: Mapped[int] = mapped_column(default=0, server_default="0")
    refresh_key_id: Mapped[str] = mapped_column(Text)
    idle_expires_at: Mapped[datetime]
    """Moves with each refresh, never beyond `expires_at`, so it alone decides whether the session lives."""
    expires_at: Mapped[datetime]
    client_address: Mapped[str | None] = mapped_column(Text)
    """The address of the client that signed in, as the outermost trusted proxy saw it."""
    user_agent: Mapped[str | None] = mapped_column(Text)
    """The user agent of the client, cut at 256 characters."""

    def is_expired(self, now: datetime) -> bool:
        """Return whether the session has expired, so that none of its tokens is accepted."""
        return now >= self.idle_expires_at


class TokenPurpose(StrEnum):
    """The purpose of a one-time token."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105  # a purpose
    SECOND_FACTOR = "second_factor"


class OneTimeToken(Base):
    """A link that was mailed, or a sign-in that waits for its second factor; then its id is that of the session to be.

    Its secret is derived from id, purpose and address, and is not stored (ADR-0028).
    """

    __tablename__ = "one_time_tokens"
    __growth__ = Growth(
        "a mailed link",
        until="it is used, or expires (`APP_AUTH__VERIFY_TTL`, `…RESET_TTL`)",
        row_bytes=330,
    )
    __table_args__ = (
        enum_check("purpose", TokenPurpose),
        Index(None, "user_id", "purpose"),
        Index(None, "expires_at"),
        part_of_account(AccountPart.LINK, moves_with_clock=True, pruned=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[TokenPurpose] = mapped_column(StrEnumText(TokenPurpose))
    email_canonical: Mapped[str] = mapped_column(KEY_TEXT)
    """The address of the account, which the link was mailed to; it is not valid for another address."""
    key_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

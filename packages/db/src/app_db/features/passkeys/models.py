"""Passkeys of accounts, and the challenges that were used."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import MOVES_WITH_CLOCK, Base
from app_db.growth import Growth
from app_db.types import new_id

SCHEMA_REVISION = "b3d7f02c9a61"
"""The newest revision that these tables need; see `app_db.models.schema`."""


class Passkey(Base):
    """A discoverable credential of an account (WebAuthn Level 3, 4: credential record). It goes with its account."""

    __tablename__ = "passkeys"
    __growth__ = Growth("a passkey", until="it is removed, or its account is deleted", row_bytes=320)
    __table_args__ = (
        UniqueConstraint("credential_id"),
        Index(None, "user_id"),
        part_of_account(AccountPart.WAY_IN),  # guard: test_a_passkey_ends_with_the_stranger_who_registered_the_address
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    credential_id: Mapped[bytes] = mapped_column(LargeBinary)
    """At most 1023 bytes, chosen by the authenticator."""
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    """A COSE key."""
    sign_count: Mapped[int] = mapped_column(BigInteger)
    """The signature counter of the last use; 0 for authenticators that have none."""
    transports: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """How browsers reach the authenticator: `internal`, `hybrid`, `usb`."""
    backup_eligible: Mapped[bool]
    """Whether it may be copied to other devices of its owner; this never changes."""
    backed_up: Mapped[bool]
    """Whether it was copied, when it was used last."""
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]


class UsedChallenge(Base):
    """A challenge that was answered. It is kept until nobody could answer it again, because it would have expired."""

    __tablename__ = "passkey_challenges"
    __growth__ = Growth("a sign-in by passkey", until="an hour later", row_bytes=120)
    __table_args__ = (Index(None, "expires_at"), MOVES_WITH_CLOCK)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

"""The secret that a generator shares with us, and digests of recovery codes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.account_parts import AccountPart, part_of_account
from app_db.base import Base
from app_db.growth import Growth
from app_db.types import new_id

SCHEMA_REVISION = "0d4b8e27fa16"
"""The newest revision that this version of the feature needs."""


class TotpSecret(Base):
    """The secret of a generator (RFC 6238), sealed; it counts once its owner has entered a code of it."""

    __tablename__ = "totp_secrets"
    __growth__ = Growth(
        "an account with a generator of codes",
        until="its account is deleted, or it is turned off",
        row_bytes=230,
    )
    __table_args__ = (UniqueConstraint("user_id"), part_of_account(AccountPart.SECOND_FACTOR))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """Nonce and ciphertext of AES-256-GCM, with the ids of this row and of the user as associated data."""
    key_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    """The time step of the newest code that was used: none is good twice."""


class TotpRecoveryCode(Base):
    """A recovery code that was not used yet; the code itself is not stored."""

    __tablename__ = "totp_recovery_codes"
    __growth__ = Growth(
        "an unused recovery code: ten of an account",
        until="it is used, or its account is deleted",
        row_bytes=210,
    )
    __table_args__ = (UniqueConstraint("user_id", "digest"), part_of_account(AccountPart.SECOND_FACTOR))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC-SHA-256 of user and code."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

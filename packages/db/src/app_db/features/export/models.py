"""The pieces of an export, until its owner has fetched it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import MOVES_WITH_CLOCK, Base
from app_db.growth import Growth
from app_db.types import new_id


class ExportPart(Base):
    """A piece of a JSON document, which is all pieces of a job in their order. It is deleted with its user."""

    __tablename__ = "export_parts"
    __growth__ = Growth("a piece of an export, and its content", until="after a day", row_bytes=270)
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index(None, "user_id"),
        Index(None, "expires_at"),
        MOVES_WITH_CLOCK,
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID]
    """The job that wrote it. No foreign key, because each deletion of a job would have to check it."""
    number: Mapped[int]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

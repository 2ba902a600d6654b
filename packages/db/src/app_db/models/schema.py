"""The history of applied migrations."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT

SCHEMA_REVISION = "c8a51e3d9f27"
"""The newest revision that this version of the code needs. It is ready once that revision has been applied."""


class SchemaHistory(Base):
    """One row per revision that was ever applied, written by migrations/env.py in the revision's own transaction.

    Alembic's own table knows only the newest. "Has been applied" lets old replicas stay ready during a rolling deploy.
    """

    __tablename__ = "schema_history"
    __growth__ = Growth("a revision of the schema", until="never", row_bytes=180)

    revision: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    applied_at: Mapped[datetime] = mapped_column(server_default=func.now())

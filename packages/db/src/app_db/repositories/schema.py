"""Whether the database is there, and new enough for this code."""

from dataclasses import dataclass

from sqlalchemy import bindparam, exists, select

from app_db.engine import Session
from app_db.models.schema import SCHEMA_REVISION, SchemaHistory

_APPLIED = select(exists().where(SchemaHistory.revision == bindparam("revision")))


@dataclass(frozen=True, slots=True)
class SchemaRepository:
    """Asks about the database itself."""

    session: Session

    async def is_ready(self) -> bool:
        """Whether the revision that this code needs has been applied; newer ones may have been too."""
        return (await self.session.scalars(_APPLIED, {"revision": SCHEMA_REVISION})).one()

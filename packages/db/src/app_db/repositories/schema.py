"""Whether the database is there, new enough for this code, and sorts as it did when its indexes were made."""

from dataclasses import dataclass

from sqlalchemy import bindparam, exists, select, text

from app_db.engine import Session
from app_db.models.schema import SCHEMA_REVISION, SchemaHistory

_APPLIED = select(exists().where(SchemaHistory.revision == bindparam("revision")))

STALE_INDEXES = text("""
    SELECT indexrelid::regclass::text FROM pg_index
    WHERE indrelid >= 16384 AND EXISTS (
        SELECT FROM unnest(indcollation::oid[]) AS used (id) JOIN pg_collation ON pg_collation.oid = used.id
        WHERE CASE collprovider
            WHEN 'd' THEN (SELECT datcollversion <> pg_database_collation_actual_version(oid)
                           FROM pg_database WHERE datname = current_database())
            ELSE collversion <> pg_collation_actual_version(pg_collation.oid) END)
        -- One row, and Alembic's own.
        AND indrelid IS DISTINCT FROM to_regclass('public.alembic_version')
    ORDER BY 1
""")
"""The indexes of text that were made with another version of their collation than the server has now."""


@dataclass(frozen=True, slots=True)
class SchemaRepository:
    """Asks about the database itself."""

    session: Session

    async def is_ready(self) -> bool:
        """Whether the revision that this code needs has been applied; newer ones may have been too."""
        return (await self.session.scalars(_APPLIED, {"revision": SCHEMA_REVISION})).one()

    async def stale_indexes(self) -> list[str]:
        """Return the indexes that may miss rows: the host sorts otherwise than when they were made."""
        return list((await self.session.scalars(STALE_INDEXES)).all())

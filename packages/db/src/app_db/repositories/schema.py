"""Checks that the database is new enough for this code, and sorts text as it did when its indexes were made."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app_db.models import FEATURE_MODELS, schema
from app_db.session import Session

_STALE = """
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
"""
STALE_INDEXES = text(_STALE)
"""The indexes of text that were made with a version of their collation that the server no longer has."""

_HISTORY = "ARRAY(SELECT revision FROM schema_history)"
_STATE = text(f"SELECT CAST(:revisions AS text[]) <@ {_HISTORY}, ARRAY({_STALE})")


def needed_by(modules: Iterable[ModuleType]) -> list[str]:
    """Return the revisions that models need: `SCHEMA_REVISION` of each module that has one."""
    return [module.SCHEMA_REVISION for module in modules if hasattr(module, "SCHEMA_REVISION")]


NEEDED_REVISIONS: Final = needed_by([schema, *(found.module for found in FEATURE_MODELS)])
"""The newest revision that the kernel needs, and the newest of each feature that has revisions of its own."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The state of the schema."""

    is_ready: bool
    """The revisions that this code needs have been applied; newer ones may have been too."""
    stale_indexes: list[str]
    """Indexes that may miss rows, because the host has changed its order of text since they were made."""


@dataclass(frozen=True, slots=True)
class SchemaRepository:
    """Reads the state of the schema."""

    session: Session

    async def state(self) -> SchemaState:
        """Return the state of the schema."""
        return SchemaState(*(await self.session.execute(_STATE, {"revisions": NEEDED_REVISIONS})).one())

    async def is_ready(self) -> bool:
        """Whether the revisions that this code needs have been applied; to an empty database they have not."""
        try:
            return (await self.state()).is_ready
        except ProgrammingError:
            return False  # guard: test_a_worker_without_its_schema_is_not_well

"""${words.many.capitalize()}."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select

from app_db.errors import AppError
from app_db.features.${words.plural}.models import ${words.model}
from app_db.paging import Cursor, Slice, slice_after
from app_db.session import Session
from app_db.violations import violation_as


@dataclass(frozen=True, slots=True)
class ${words.model}Repository:
    """Finds and keeps ${words.many}."""

    session: Session

% if unique:
    async def add(self, ${words.singular}: ${words.model}, *, taken: type[AppError]) -> None:
        """Insert the ${words.one}.

        Raises:
            taken: when its owner has one with this ${unique.words} already, also one that a concurrent request made.
        """
        self.session.add(${words.singular})
        with violation_as(taken, of="${constraint}"):
            await self.session.flush()  # here, where the clash can still be named
% else:
    async def add(self, ${words.singular}: ${words.model}) -> None:
        """Insert the ${words.one}."""
        self.session.add(${words.singular})
        await self.session.flush()  # so that the times that Postgres sets are there
% endif

    async def get_owned(self, ${words.singular}_id: UUID, *, owner_id: UUID) -> ${words.model} | None:
        """Return the ${words.one} with this id if this is its owner."""
        statement = select(${words.model}).where(${words.model}.id == ${words.singular}_id, ${words.model}.owner_id == owner_id)
        return (await self.session.scalars(statement)).one_or_none()

% if unique:
    async def update(
        self, ${words.singular}: ${words.model}, changes: Mapping[str, object], *, taken: type[AppError]
    ) -> None:
        """Give the columns that `changes` names their new values.

        Raises:
            taken: as for `add`.
        """
        for name, value in changes.items():
            setattr(${words.singular}, name, value)
        with violation_as(taken, of="${constraint}"):
            await self.session.flush()  # also so that `updated_at` is what Postgres made it
% else:
    async def update(self, ${words.singular}: ${words.model}, changes: Mapping[str, object]) -> None:
        """Give the columns that `changes` names their new values."""
        for name, value in changes.items():
            setattr(${words.singular}, name, value)
        await self.session.flush()  # so that `updated_at` is what Postgres made it
% endif

    async def delete_owned(self, ${words.singular}_id: UUID, *, owner_id: UUID) -> bool:
        """Delete the ${words.one} with this id; False, and nothing is changed, unless this is its owner."""
        statement = (
            delete(${words.model})
            .where(${words.model}.id == ${words.singular}_id, ${words.model}.owner_id == owner_id)
            .returning(${words.model}.id)
        )
        return (await self.session.scalars(statement)).one_or_none() is not None

    async def owned_by(self, owner_id: UUID, *, after: Cursor | None, limit: int) -> Slice[${words.model}]:
        """Return the ${words.many} of an owner, newest first."""
        statement = select(${words.model}).where(${words.model}.owner_id == owner_id)
        return await slice_after(self.session, statement, after=after, limit=limit)

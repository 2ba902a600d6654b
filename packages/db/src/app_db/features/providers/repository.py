"""Accounts at providers, and the answers that were taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app_db.features.providers.models import ProviderAnswer, ProviderLink
from app_db.repositories.expiry import delete_batch, deletion_of_expired
from app_db.session import Session
from app_db.types import new_id

KEPT = timedelta(hours=1)
"""How long it is remembered that an answer was taken: longer than a state is good for."""
FEW = 100

_DELETE_EXPIRED = deletion_of_expired("provider_answers", column="expires_at")


@dataclass(frozen=True, slots=True)
class ProviderRepository:
    """Finds, adds and removes links to accounts at providers."""

    session: Session

    async def owner_of(self, issuer: str, subject: str) -> UUID | None:
        """Return the id of the account that this account at a provider opens."""
        statement = select(ProviderLink.user_id).where(ProviderLink.issuer == issuer, ProviderLink.subject == subject)
        return (await self.session.scalars(statement)).one_or_none()

    async def of_user(self, user_id: UUID) -> Sequence[ProviderLink]:
        """Return all links of an account, by their issuers; there is one for each provider at most."""
        statement = select(ProviderLink).where(ProviderLink.user_id == user_id).order_by(ProviderLink.issuer)
        return (await self.session.scalars(statement)).all()

    async def add(self, user_id: UUID, issuer: str, *, subject: str, email: str) -> bool:
        """Link them; False if either of them is linked with another by now."""
        values = {"id": new_id(), "user_id": user_id, "issuer": issuer, "subject": subject, "email": email}
        statement = insert(ProviderLink).values(values).on_conflict_do_nothing().returning(ProviderLink.id)
        return (await self.session.scalars(statement)).one_or_none() is not None

    async def note_use(self, issuer: str, subject: str) -> None:
        """Note that the link was used just now."""
        statement = update(ProviderLink).where(ProviderLink.issuer == issuer, ProviderLink.subject == subject)
        await self.session.execute(statement.values(last_used_at=func.now()))

    async def remove(self, link_id: UUID) -> None:
        """Unlink them."""
        await self.session.execute(delete(ProviderLink).where(ProviderLink.id == link_id))

    async def count(self, user_id: UUID) -> int:
        """Return how many links the account has."""
        statement = select(func.count()).where(ProviderLink.user_id == user_id)
        return (await self.session.scalars(statement)).one()

    async def take(self, answer_id: UUID) -> bool:
        """Note that the answer to a state was taken; False if it was taken before. A few expired notes are deleted."""
        await delete_batch(self.session, _DELETE_EXPIRED, now=None, limit=FEW)
        values = {"id": answer_id, "expires_at": func.now() + KEPT}
        statement = insert(ProviderAnswer).values(values).on_conflict_do_nothing().returning(ProviderAnswer.id)
        return (await self.session.scalars(statement)).one_or_none() is not None

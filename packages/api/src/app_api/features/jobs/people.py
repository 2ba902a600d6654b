"""Who has paused, limited or changed something: the columns hold the id of an account, or `shell`."""

from collections.abc import Collection
from uuid import UUID

from app_auth.audit import SHELL
from app_db import Session
from app_db.repositories.users import UserRepository


async def people(session: Session, ids: Collection[str]) -> dict[str, str]:
    """Return what pages call them: an address, or that it was a command; an account that is deleted is left out."""
    emails = await UserRepository(session).emails_of([found for each in ids if (found := _id_of(each))])
    return {str(user_id): email for user_id, email in emails.items()} | {SHELL: "a command on a server"}


def _id_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

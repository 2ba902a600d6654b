"""Accounts whose address was never verified: they go some time after they were made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, any_, delete, func, select, text

from app_db.account_parts import PART
from app_db.base import Base
from app_db.clock import database_time
from app_db.models import OPEN_STATES, Job, Role, User, UserSession
from app_db.session import Session
from app_db.types import first_id_at

LOOKED_AT: Final = 500
"""Accounts in a transaction: each that goes is an event and a job too."""

# An account that was used, that operates or is disabled stays. The conditions are tried again on a row that changed
# meanwhile; a locked one waits for the next time.
_HOLD = text("""
    WITH looked AS (
        SELECT id FROM users
        WHERE email_verified_at IS NULL AND id > CAST(:after AS uuid) AND id < CAST(:before AS uuid)
        ORDER BY id LIMIT :limit
    ), held AS (
        SELECT id FROM users
        WHERE id = ANY (ARRAY(SELECT id FROM looked)) AND email_verified_at IS NULL
            AND created_at < now() - CAST(:keep AS interval) AND role = :role
            AND disabled_at IS NULL AND signed_in_at IS NULL
        FOR UPDATE SKIP LOCKED
    )
    SELECT ARRAY(SELECT id FROM held), (SELECT id FROM looked ORDER BY id DESC LIMIT 1)
""")


@dataclass(frozen=True, slots=True)
class UnverifiedAccounts:
    """Deletes accounts that never verified their address, in the order of their ids."""

    session: Session

    async def delete_next(self, *, keep: timedelta, after: UUID) -> tuple[Sequence[UUID], UUID | None]:
        """Look at the next accounts after an id; return those that are deleted, and the last one looked at, if any.

        With an account go its sessions and links, by cascade. The caller audits it and enqueues the erasure.
        """
        before = first_id_at(await database_time(self.session) - keep)
        bounds = {"after": after, "before": before, "keep": keep, "limit": LOOKED_AT, "role": Role.USER.value}
        held, last = (await self.session.execute(_HOLD, bounds)).one()
        # A statement of its own: it sees the link that was made while the one above ran, and the lock on the account
        # keeps the next one away. So no mail that may still be followed is left without its account.
        unused = delete(User).where(User.id == any_(held), *(~each.exists() for each in _used())).returning(User.id)
        gone = await self.session.scalars(unused, execution_options={"synchronize_session": False})
        return gone.all(), last


def _used() -> Iterator[Select[Any]]:
    """Yield what shows that an account is in use: rows of sessions, open jobs, and tables of features too."""
    yield select(UserSession.id).where(UserSession.user_id == User.id)
    yield select(Job.id).where(Job.owner_id == User.id, Job.state.in_(sorted(OPEN_STATES)))
    for table in Base.metadata.sorted_tables:
        if table.info.get("pruned"):  # links: an old one is not pruned yet, but cannot be followed
            yield select(table.c.id).where(table.c.user_id == User.id, table.c.expires_at > func.now())
        elif PART in table.info:
            yield select(table.c.id).where(table.c.user_id == User.id)

"""Accounts whose address was never verified: they go some time after they were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text

from app_db.clock import database_time
from app_db.models import OPEN_STATES, Role
from app_db.session import Session
from app_db.types import first_id_at

LOOKED_AT: Final = 500
"""Accounts in a transaction: each that goes is an event and a job too."""

# An account that was used, that operates or is disabled stays, and so does one whose mail may still be followed. The
# conditions are tried again on a row that changed meanwhile; a locked one waits for the next time.
_DELETE = text("""
    WITH looked AS (
        SELECT id FROM users
        WHERE email_verified_at IS NULL AND id > CAST(:after AS uuid) AND id < CAST(:before AS uuid)
        ORDER BY id LIMIT :limit
    ), due AS (
        SELECT id FROM users
        WHERE id = ANY (ARRAY(SELECT id FROM looked)) AND email_verified_at IS NULL
            AND created_at < now() - CAST(:keep AS interval) AND role = :role
            AND disabled_at IS NULL AND signed_in_at IS NULL
            AND NOT EXISTS (SELECT FROM one_time_tokens WHERE user_id = users.id AND expires_at > now())
            AND NOT EXISTS (SELECT FROM user_sessions WHERE user_id = users.id)
            AND NOT EXISTS (SELECT FROM jobs WHERE owner_id = users.id AND state = ANY (CAST(:open AS text[])))
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM users WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING id
    )
    SELECT ARRAY(SELECT id FROM gone), (SELECT id FROM looked ORDER BY id DESC LIMIT 1)
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
        bounds = {"after": after, "before": before, "keep": keep, "limit": LOOKED_AT}
        states = {"role": Role.USER.value, "open": sorted(OPEN_STATES)}
        gone, last = (await self.session.execute(_DELETE, bounds | states)).one()
        return gone, last

"""The ways into an account, so that it never loses the last one."""

from collections.abc import Awaitable, Callable
from functools import cache
from uuid import UUID

from app_auth.auth import Auth
from app_db import Session
from app_db.errors import Conflict
from app_db.repositories.users import UserRepository
from app_runtime.discovery import find

type CountWays = Callable[[Session, UUID], Awaitable[int]]


class LastWayIn(Conflict):
    """Without this nobody could sign in to the account any more: set a password first, or add another way in."""

    code = "last_way_in"


async def require_another_way_in(auth: Auth, session: Session, user_id: UUID) -> None:
    """Refuse to remove a way in, other than the password, if it is the last one. The caller has locked the user.

    A password counts if it can be verified. Features add what they have by `count_ways_in` in their `ways_in.py`.

    Raises:
        LastWayIn: there is no other one.

    Example:
        await require_another_way_in(auth, session, principal.user_id)
        await session.delete(link)  # of a provider, for example
    """
    stored = await UserRepository(session).password_hash(user_id)
    if stored and auth.passwords.flaw_of(stored) is None:
        return
    if sum([await count(session, user_id) for count in _found()]) <= 1:
        raise LastWayIn  # guard: test_a_password_that_nobody_can_enter_is_none


@cache
def _found() -> tuple[CountWays, ...]:
    return tuple(found.module.count_ways_in for found in find("app_auth.features", "ways_in"))

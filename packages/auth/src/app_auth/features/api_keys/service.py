"""Makes, lists and revokes the keys of a user. Only who has signed in lately makes one; a key makes no keys."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import SessionEnded
from app_auth.features.api_keys.errors import (
    InvalidKeyName,
    KeyNameTaken,
    KeyNotFound,
    LifeTooLong,
    TooManyKeys,
    UnknownScope,
)
from app_auth.features.api_keys.secrets import KeyDigests, new_key_text
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_db import Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.api_keys.models import ApiKey
from app_db.features.api_keys.repository import ApiKeyRepository
from app_db.jobs.outbox import enqueue
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import new_id

PER_ACCOUNT: Final = 50
"""How many keys an account has at most, those that have expired included until they are deleted."""
LONGEST_NAME: Final = 100
LIFE: Final = timedelta(days=90)
"""How long a key lives if nothing else is asked for."""
SHORTEST_LIFE: Final = timedelta(days=1)
LONGEST_LIFE: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its text, which nobody can show a second time."""

    row: ApiKey
    text: str


async def create_key(
    auth: Auth,
    session: Session,
    principal: Principal,
    *,
    name: str,
    scopes: Collection[str],
    known: Collection[str],
    client: Client,
    life: timedelta = LIFE,
) -> NewKey:
    """Make a key with scopes that are `known`, and mail its owner.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        InvalidKeyName, UnknownScope, LifeTooLong, KeyNameTaken.
        Throttled, TooManyKeys: there are `PER_ACCOUNT`; N parallel calls do not make more.
        SessionEnded: the session has just been ended, as by a reset of the password.
    """
    await require_fresh(auth, session, principal)  # guard: test_making_a_key_needs_a_fresh_sign_in
    _check(name, scopes, known=known, life=life)
    await auth.throttle.new_key(principal.user_id)  # guard: test_keys_are_made_at_a_limited_rate
    keys, user_id = ApiKeyRepository(session), principal.user_id
    # It locks the user: of N parallel calls, each counts the keys of those before it, and none outlives a reset.
    if not await UserSessionRepository(session).hold(user_id, principal.session_id):
        raise SessionEnded  # guard: test_no_key_is_made_by_a_session_that_was_just_ended
    if await keys.count(user_id) >= PER_ACCOUNT:
        raise TooManyKeys(most=PER_ACCOUNT)  # guard: test_an_account_has_so_many_keys_at_most
    text, digests, now = new_key_text(new_id()), KeyDigests(auth.settings.peppers), await database_time(session)
    row = ApiKey(
        id=text.id, user_id=user_id, name=name, scopes=sorted({*scopes}), created_at=now, expires_at=now + life,
        digest=digests.of(text), key_id=digests.active_id,
    )  # fmt: skip
    await keys.add(row, taken=KeyNameTaken)
    await _tell(session, principal, row.id, event=Event.KEY_CREATED, notice=Notice.KEY_CREATED, client=client)
    return NewKey(row, str(text))


def _check(name: str, scopes: Collection[str], *, known: Collection[str], life: timedelta) -> None:
    if not 1 <= len(name) <= LONGEST_NAME or name.isspace():
        raise InvalidKeyName  # guard: test_a_key_has_a_name
    if not scopes or not {*scopes} <= {*known}:
        raise UnknownScope(scopes=(*sorted(known),))  # guard: test_a_key_has_scopes_of_the_list_only
    if not SHORTEST_LIFE <= life <= LONGEST_LIFE:
        raise LifeTooLong  # guard: test_a_key_lives_for_a_year_at_most


async def revoke_key(session: Session, principal: Principal, key_id: UUID, *, client: Client) -> None:
    """End one of the user's own keys, from its next request on. The owner gets a mail.

    Raises:
        KeyNotFound: the user has no key with this id; somebody else may.
    """
    if not await ApiKeyRepository(session).revoke(key_id, user_id=principal.user_id):
        raise KeyNotFound  # guard: test_the_key_of_another_is_not_found
    await _tell(session, principal, key_id, event=Event.KEY_REVOKED, notice=Notice.KEY_REVOKED, client=client)


async def list_keys(session: Session, principal: Principal) -> list[ApiKey]:
    """Return all keys of the user, newest first: `PER_ACCOUNT` at most."""
    return await ApiKeyRepository(session).of_user(principal.user_id)


async def _tell(
    session: Session, principal: Principal, key_id: UUID, *, event: Event, notice: Notice, client: Client
) -> None:
    user_id, session_id = principal.user_id, principal.session_id
    audit(
        session, event, client=client, user_id=user_id, session_id=session_id, key=str(key_id)
    )  # guard: test_keys_that_are_made_and_revoked_are_audited_and_mailed
    await enqueue(session, SecurityNotice(user_id=user_id, what=notice), owner_id=user_id)

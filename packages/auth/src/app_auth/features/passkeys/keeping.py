"""The passkeys of an account: added, listed, named and removed by their owner."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.base64url import base64url
from app_auth.client import Client
from app_auth.errors import SessionEnded
from app_auth.features.passkeys.challenges import Challenges, Purpose
from app_auth.features.passkeys.errors import (
    InvalidPasskeyName,
    PasskeyNotAdded,
    PasskeyNotFound,
    PasskeyTaken,
    ResponseRejected,
    TooManyPasskeys,
)
from app_auth.features.passkeys.relying_party import RelyingParty
from app_auth.features.passkeys.responses import RegistrationResponse, handle_of
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_auth.ways_in import require_another_way_in
from app_db import Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.passkeys.models import Passkey
from app_db.features.passkeys.repository import PasskeyRepository, UsedChallengeRepository
from app_db.jobs.outbox import enqueue
from app_db.repositories.user_sessions import UserSessionRepository

log = structlog.get_logger(__name__)

LONGEST_NAME: Final = 100


async def begin(
    auth: Auth, session: Session, principal: Principal, party: RelyingParty, *, limit: int
) -> dict[str, Any]:  # Any: JSON
    """Return the options with which a browser makes a passkey. They are good for this session alone, for minutes.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        TooManyPasskeys: the account has `limit`.
    """
    from app_auth.features.passkeys.ceremonies import creation_options  # noqa: PLC0415  # see there

    await require_fresh(auth, session, principal)  # guard: test_a_passkey_is_added_only_after_a_fresh_sign_in
    existing = await PasskeyRepository(session).of_user(principal.user_id)
    if len(existing) >= limit:
        raise TooManyPasskeys(limit=limit)
    now = await database_time(session, principal.seen_at)
    challenge = Challenges(auth.settings).make(Purpose.REGISTRATION, now=now, holder=principal)
    return creation_options(
        party, user_id=principal.user_id, email=principal.email, challenge=challenge, existing=existing
    )


async def finish(
    auth: Auth,
    session: Session,
    principal: Principal,
    party: RelyingParty,
    *,
    response: RegistrationResponse,
    name: str,
    limit: int,
    client: Client,
) -> Passkey:
    """Store the passkey that a browser has made, and tell the owner by mail.

    The sign-in was fresh when the challenge was made; asked for again here, a passkey could be left that nobody knows.

    Raises:
        InvalidPasskeyName: before anything else.
        PasskeyNotAdded: the response is not one to options of this session, was sent before, or came too late.
        PasskeyTaken: an account has it already.
        TooManyPasskeys: the account has `limit`, also of those that were added at the same time.
        SessionEnded: the session has just been ended.
    """
    from app_auth.features.passkeys.ceremonies import challenge_in, verify_registration  # noqa: PLC0415  # see there

    name, now = readable_name(name), await database_time(session, principal.seen_at)
    try:
        challenge = challenge_in(response.client_data)
        challenge_id = Challenges(auth.settings).check(challenge, Purpose.REGISTRATION, now=now, holder=principal)
        passkey = verify_registration(party, response, challenge=challenge, user_id=principal.user_id, name=name)
    except ResponseRejected as error:
        log.info("passkey_rejected", because=str(error))
        raise PasskeyNotAdded from error
    if not await UsedChallengeRepository(session).use(challenge_id):
        raise PasskeyNotAdded  # guard: test_a_challenge_of_a_registration_is_taken_once
    passkeys = await _held(session, principal)
    if len(await passkeys.of_user(principal.user_id)) >= limit:
        raise TooManyPasskeys(limit=limit)  # guard: test_passkeys_that_are_added_at_once_stay_within_the_limit
    await passkeys.add(passkey, taken=PasskeyTaken)
    await _tell(session, principal, Event.PASSKEY_ADDED, Notice.PASSKEY_ADDED, passkey_id=passkey.id, client=client)
    return passkey


async def passkeys_of(session: Session, principal: Principal) -> Sequence[Passkey]:
    """Return the passkeys of the user, oldest first; their number is bounded."""
    return await PasskeyRepository(session).of_user(principal.user_id)


def accepted_by(
    party: RelyingParty, *, user_id: UUID, email: str, passkeys: Sequence[Passkey]
) -> dict[str, dict[str, Any]]:  # Any: JSON
    """Return what a browser is told so that it forgets other passkeys of the account (WebAuthn Level 3, 5.1.10)."""
    whose = {"rpId": party.id, "userId": base64url(handle_of(user_id))}
    ids = [base64url(passkey.credential_id) for passkey in passkeys]
    return {
        "accepted": {**whose, "allAcceptedCredentialIds": ids},
        "details": {**whose, "name": email, "displayName": email},
    }


async def rename(session: Session, principal: Principal, passkey_id: UUID, *, name: str) -> Passkey:
    """Give one of the user's passkeys another name.

    Raises:
        InvalidPasskeyName, PasskeyNotFound.
    """
    name = readable_name(name)
    renamed = await PasskeyRepository(session).rename(passkey_id, user_id=principal.user_id, name=name)
    if renamed is None:
        raise PasskeyNotFound  # guard: test_the_passkey_of_another_is_not_found
    return renamed


async def remove(auth: Auth, session: Session, principal: Principal, passkey_id: UUID, *, client: Client) -> None:
    """Remove one of the user's passkeys, and tell the owner by mail. It opens nothing from now on.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        PasskeyNotFound: the user has none with this id; somebody else may.
        LastWayIn: nobody could sign in to the account any more.
        SessionEnded: the session has just been ended.
    """
    await require_fresh(auth, session, principal)  # guard: test_a_passkey_is_removed_only_after_a_fresh_sign_in
    passkeys, user_id = await _held(session, principal), principal.user_id
    if passkey_id not in {passkey.id for passkey in await passkeys.of_user(user_id)}:
        raise PasskeyNotFound  # guard: test_the_passkey_of_another_is_not_found
    await require_another_way_in(auth, session, user_id)  # guard: test_the_last_way_in_is_not_removed
    await passkeys.delete(passkey_id)
    await _tell(session, principal, Event.PASSKEY_REMOVED, Notice.PASSKEY_REMOVED, passkey_id=passkey_id, client=client)


def readable_name(name: str) -> str:
    """Return a name without the blanks around it.

    Raises:
        InvalidPasskeyName: nothing is left, it is too long, or it has a character that cannot be seen.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidPasskeyName
    return name


async def _held(session: Session, principal: Principal) -> PasskeyRepository:
    """Lock the user, so that what ends the session and what adds or removes a way in go one after the other."""
    if not await UserSessionRepository(session).hold(principal.user_id, principal.session_id):
        raise SessionEnded  # guard: test_a_session_that_was_just_ended_adds_no_passkey
    return PasskeyRepository(session)


async def _tell(
    session: Session, principal: Principal, event: Event, notice: Notice, *, passkey_id: UUID, client: Client
) -> None:
    user_id = principal.user_id
    audit(
        session, event, client=client, user_id=user_id, session_id=principal.session_id, passkey=str(passkey_id)
    )  # guard: test_adding_and_removing_a_passkey_is_audited_and_told_to_the_owner
    await enqueue(
        session, SecurityNotice(user_id=user_id, what=notice), owner_id=user_id
    )  # guard: test_adding_and_removing_a_passkey_is_audited_and_told_to_the_owner

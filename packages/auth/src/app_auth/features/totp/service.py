"""Turning one-time codes on and off, and answering challenges with them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app_auth.addresses import canonical_email
from app_auth.admission import complete
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.challenges import find_challenge
from app_auth.client import NOBODY, Client
from app_auth.errors import AccountNotFound, SessionEnded
from app_auth.features.totp import codes
from app_auth.features.totp.errors import InvalidCode, TotpOff, TotpOn
from app_auth.features.totp.vault import Vault
from app_auth.permissions import audit_act, require_fresh
from app_auth.principal import Principal
from app_db import Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.totp.models import TotpSecret
from app_db.features.totp.repository import TotpRepository
from app_db.jobs.outbox import enqueue
from app_db.models import UserSession
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.types import new_id

NAME: Final = "totp"
"""The name of this folder: `User.second_factors` has it while codes are asked for."""
OFFER: Final = timedelta(minutes=15)
"""How long a secret waits for its first code."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the owner of an account sees of its second factor."""

    since: datetime | None
    """When it was turned on; None if it is off."""
    recovery_codes: int
    """How many are left."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret for a generator, which counts once a code of it was entered."""

    secret: str
    uri: str


async def status(session: Session, principal: Principal) -> Status:
    """Return whether the account has a second factor, by two queries."""
    totp = TotpRepository(session)
    row = await totp.secret_of(principal.user_id)
    since = None if row is None else row.confirmed_at
    return Status(since, await totp.codes_left(principal.user_id))


async def enrol(
    auth: Auth, vault: Vault, session: Session, principal: Principal, *, now: datetime | None = None
) -> Offer:
    """Make a secret for a generator, in place of one that was never confirmed. Nothing is asked for yet.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        TotpOn: there is a generator already.
        TotpUnavailable: there are no keys.
    """
    await require_fresh(auth, session, principal, now=now)  # guard: test_a_second_factor_needs_a_fresh_sign_in
    secret, secret_id, user_id = codes.new_secret(), new_id(), principal.user_id
    sealed = vault.seal(secret, secret_id=secret_id, user_id=user_id)
    await _hold(session, principal)
    offered = TotpSecret(id=secret_id, user_id=user_id, sealed=sealed, key_id=vault.key_id)
    if not await TotpRepository(session).offer(offered):
        raise TotpOn
    uri = codes.uri_of(secret, account=principal.email, issuer=auth.settings.issuer)
    return Offer(codes.text_of(secret), uri)


async def offered(
    auth: Auth, vault: Vault, session: Session, principal: Principal, *, now: datetime | None = None
) -> Offer:
    """Return the secret that waits for its first code, so that its page can be shown again.

    Raises:
        ReauthenticationRequired, TotpUnavailable.
        TotpOff: nothing waits for a code, or it has waited for too long.
    """
    await require_fresh(auth, session, principal, now=now)  # guard: test_what_is_offered_is_shown_to_a_fresh_sign_in
    row = await _waiting(session, principal.user_id, await database_time(session, now))
    secret = vault.open(row)
    uri = codes.uri_of(secret, account=principal.email, issuer=auth.settings.issuer)
    return Offer(codes.text_of(secret), uri)


async def confirm(
    auth: Auth,
    vault: Vault,
    session: Session,
    principal: Principal,
    *,
    code: str,
    client: Client,
    now: datetime | None = None,
) -> list[str]:
    """Turn the second factor on with a first code, end all other sessions, and return the recovery codes, once.

    Raises:
        TotpOff: nothing waits for a code, or it has waited for too long.
        InvalidCode, Throttled, TotpUnavailable.
    """
    user_id, totp = principal.user_id, TotpRepository(session)
    await _hold(session, principal)  # guard: test_a_session_that_was_ended_turns_nothing_on
    time = await database_time(session, now)
    row = await _waiting(session, user_id, time)
    async with auth.throttle.code(user_id, row.id):
        step = codes.matched_step(vault.open(row), codes.typed(code), now=time)
        if step is None:
            raise InvalidCode(client, user_id=user_id)  # guard: test_a_generator_counts_after_its_first_code
    await totp.confirm(row.id, step=step)
    await UserRepository(session).add_second_factor(user_id, NAME)
    shown = await _renew_codes(vault, session, user_id)
    # Those sessions were begun without the factor.
    await UserSessionRepository(session).end_others(
        user_id, keep=principal.session_id
    )  # guard: test_turning_it_on_ends_other_sessions
    await _tell(session, principal, Event.SECOND_FACTOR_ADDED, Notice.SECOND_FACTOR_ADDED, client=client)
    return shown


async def renew_recovery_codes(
    auth: Auth, vault: Vault, session: Session, principal: Principal, *, client: Client, now: datetime | None = None
) -> list[str]:
    """Make new recovery codes in place of all others, and return them, once.

    Raises:
        ReauthenticationRequired, TotpUnavailable.
        TotpOff: there is no second factor.
    """
    await require_fresh(auth, session, principal, now=now)  # guard: test_recovery_codes_need_a_fresh_sign_in
    user_id = principal.user_id
    await _hold(session, principal)
    row = await TotpRepository(session).secret_of(user_id)
    if row is None or row.confirmed_at is None:
        raise TotpOff
    shown = await _renew_codes(vault, session, user_id)
    await _tell(session, principal, Event.RECOVERY_CODES_RENEWED, Notice.RECOVERY_CODES_RENEWED, client=client)
    return shown


async def remove(
    auth: Auth, session: Session, principal: Principal, *, client: Client, now: datetime | None = None
) -> None:
    """Turn the second factor off, and end all other sessions and the sign-ins that wait for a code.

    Raises:
        ReauthenticationRequired: the sign-in, which has asked for a code, is older than `fresh_sign_in`.
        TotpOff: there is no second factor.
    """
    await require_fresh(auth, session, principal, now=now)  # guard: test_removing_it_needs_a_fresh_sign_in
    user_id = principal.user_id
    await _hold(session, principal)
    if not await _turn_off(session, user_id):
        raise TotpOff
    await UserSessionRepository(session).end_others(user_id, keep=principal.session_id)
    await _tell(session, principal, Event.SECOND_FACTOR_REMOVED, Notice.SECOND_FACTOR_REMOVED, client=client)


async def remove_by_operator(session: Session, *, email: str) -> bool:
    """Turn the second factor of an account off, end its sessions, and tell its owner; from a shell on the server only.

    Returns whether it had one.

    Raises:
        InvalidEmail: `email` is no address.
        AccountNotFound: no account has this address, in any spelling.
    """
    users = UserRepository(session)
    user_id = await users.find_id(canonical_email(email))
    if user_id is None:
        raise AccountNotFound
    await users.lock(user_id)
    if not await _turn_off(session, user_id):
        return False
    ended = await UserSessionRepository(session).end_all(user_id)
    event = Event.SECOND_FACTOR_REMOVED
    audit_act(session, event, client=NOBODY, user_id=user_id, operator=None, method=NAME, sessions=ended)
    notice = SecurityNotice(user_id=user_id, what=Notice.SECOND_FACTOR_REMOVED)
    await enqueue(session, notice, owner_id=user_id)
    return True


async def answer(
    auth: Auth,
    vault: Vault,
    session: Session,
    *,
    challenge: str,
    code: str,
    client: Client,
    now: datetime | None = None,
) -> UserSession:
    """Start the login session that a challenge stands for, by a code of the generator or a recovery code.

    Raises:
        InvalidChallenge: it is not ours, was answered, has expired, or has ended with a change of the account.
        InvalidCode: also for a code that was used before.
        Throttled: before anything is looked at, and after some wrong codes for the challenge or the account.
        TotpUnavailable: the keys are missing.
    """
    await auth.throttle.one_time(client)  # guard: test_answers_to_challenges_are_throttled
    row = await find_challenge(auth, session, challenge, now=now)
    challenge_id, user_id = row.id, row.user_id
    time = await database_time(session, now)
    async with auth.throttle.code(user_id, challenge_id):  # guard: test_guesses_at_codes_are_throttled
        # Before the secret: of an answer and a removal at once, one waits for the other.
        await UserRepository(session).lock(user_id)
        how = await _use(vault, session, user_id, codes.typed(code), now=time)
        if how is None:
            raise InvalidCode(
                client, user_id=user_id, session_id=challenge_id
            )  # guard: test_a_wrong_code_opens_nothing
    if how == "recovery_code":
        await enqueue(session, SecurityNotice(user_id=user_id, what=Notice.RECOVERY_CODE_USED), owner_id=user_id)
    return await complete(auth, session, row, how=how, client=client, now=now)


async def _waiting(session: Session, user_id: UUID, now: datetime) -> TotpSecret:
    row = await TotpRepository(session).secret_of(user_id)
    if row is None or row.confirmed_at is not None or now - row.created_at > OFFER:
        raise TotpOff
    return row


async def _hold(session: Session, principal: Principal) -> None:
    """Lock the user of a session that has not been ended meanwhile."""
    if not await UserSessionRepository(session).hold(principal.user_id, principal.session_id):
        raise SessionEnded


async def _use(vault: Vault, session: Session, user_id: UUID, code: str, *, now: datetime) -> str | None:
    """Use a code up, and return what it was; None if it is none, or is used up already."""
    totp = TotpRepository(session)
    row = await totp.secret_of(user_id)
    if row is None or row.confirmed_at is None:
        return None
    if codes.is_recovery_code(code):
        used = await totp.use_code(user_id, vault.digests(code, user_id=user_id))
        return "recovery_code" if used else None
    secret_id, secret, outdated = row.id, vault.open(row), row.key_id != vault.key_id
    step = codes.matched_step(secret, code, now=now)
    if step is None or not await totp.use_step(secret_id, step, newest=codes.step_at(now) + codes.WINDOW):
        return None
    if outdated:
        sealed = vault.seal(secret, secret_id=secret_id, user_id=user_id)
        await totp.reseal(
            secret_id, sealed=sealed, key_id=vault.key_id
        )  # guard: test_a_code_moves_its_secret_to_the_newest_key
    return NAME


async def _turn_off(session: Session, user_id: UUID) -> bool:
    """Delete the factor of a locked user, and end the sign-ins that wait for it; return whether there was one."""
    await TotpRepository(session).remove(user_id)
    await OneTimeTokenRepository(session).delete_of(user_id)  # guard: test_removing_it_ends_the_sign_ins_that_wait
    return await UserRepository(session).remove_second_factor(user_id, NAME)


async def _renew_codes(vault: Vault, session: Session, user_id: UUID) -> list[str]:
    shown = codes.new_recovery_codes()
    digests = [vault.digest(codes.typed(code), user_id=user_id) for code in shown]
    await TotpRepository(session).replace_codes(user_id, digests)
    return shown


async def _tell(session: Session, principal: Principal, event: Event, notice: Notice, *, client: Client) -> None:
    user_id, session_id = principal.user_id, principal.session_id
    audit(session, event, client=client, user_id=user_id, session_id=session_id, method=NAME)
    await enqueue(session, SecurityNotice(user_id=user_id, what=notice), owner_id=user_id)

"""Login sessions: signing in, staying signed in, being recognised, signing out."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app_auth.addresses import canonical_email
from app_auth.admission import Proof, SignInRefused, admit
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import NOBODY, Client
from app_auth.errors import (
    AccountNotFound,
    InvalidCredentials,
    InvalidEmail,
    InvalidGrant,
    RefreshTokenExpired,
    RefreshTokenNotFound,
    RefreshTokenUsed,
    SessionEnded,
)
from app_auth.permissions import audit_act
from app_auth.principal import Principal, recognise
from app_auth.tokens import RefreshClaims
from app_db import Database, Session
from app_db.clock import database_time
from app_db.errors import NotFound
from app_db.models import UserSession
from app_db.repositories.user_sessions import UserSessionRepository, rotate
from app_db.repositories.users import Credentials, UserRepository
from app_db.types import utcnow


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """The tokens of a client. The refresh token is derived, returned, and stored nowhere."""

    access_token: str
    access_expires_at: datetime
    refresh_token: str
    refresh_expires_at: datetime


async def sign_in(
    auth: Auth, session: Session, *, email: str, password: str, client: Client, now: datetime | None = None
) -> IssuedTokens:
    """Start a login session, and end the user's oldest ones beyond `sessions_per_user`.

    Raises:
        InvalidCredentials: for a wrong password, an unknown address and a disabled account alike, after the same work
            (ASVS 5.0, 6.3.8).
        EmailNotVerified: with the right password only. Like the refusals above, its aftermath audits the attempt.
        SecondFactorRequired: with a challenge, if the account has a second factor.
        Throttled: before any hash is computed, for the right password as well.
        HashingBusy: when the hashing pool is full.
    """
    user_session = await begin(auth, session, email=email, password=password, client=client, now=now)
    return tokens_of(auth, user_session, now=now)


def tokens_of(auth: Auth, user_session: UserSession, *, now: datetime | None = None) -> IssuedTokens:
    """Return the first tokens of a login session that has just begun."""
    return _issue(
        auth,
        RefreshClaims(user_session.id, 0),
        user_id=user_session.user_id,
        key_id=user_session.refresh_key_id,
        expires_at=user_session.idle_expires_at,
        now=now,
    )


async def begin(
    auth: Auth, session: Session, *, email: str, password: str, client: Client, now: datetime | None = None
) -> UserSession:
    """Start a login session without tokens, and end the user's oldest ones beyond `sessions_per_user`.

    Raises:
        InvalidCredentials, EmailNotVerified, SecondFactorRequired, Throttled, HashingBusy: as for `sign_in`.
    """
    account, new_hash = await _verify_password(auth, session, email=email, password=password, client=client)
    user_id, stored = account.user_id, account.password_hash
    try:
        begun = await admit(auth, session, user_id, proof=Proof.PASSWORD, client=client, now=now, password_hash=stored)
    except SignInRefused:
        # Hashing took a while, and the stored hash may be another one by now. If a password change replaced it, that
        # ended all sessions but not this one; if a parallel sign-in did, the password is still right. So verify again.
        return await begin(
            auth, session, email=email, password=password, client=client, now=now
        )  # guard: test_a_password_that_is_changed_while_it_signs_in_is_refused
    except SecondFactorRequired as required:
        if new_hash is not None:
            required.keep(lambda kept: UserRepository(kept).replace_password_hash(account, new_hash))
        raise
    if new_hash is not None:
        await UserRepository(session).replace_password_hash(
            account, new_hash
        )  # guard: test_an_outdated_hash_is_replaced_at_sign_in
    return begun


async def _verify_password(
    auth: Auth, session: Session, *, email: str, password: str, client: Client
) -> tuple[Credentials, str | None]:
    """Return the account with this password, and the hash that has to replace an outdated one."""
    users, canonical = UserRepository(session), _canonical(email)
    async with auth.throttle.login(client, canonical or email):
        account = await users.read_credentials(canonical) if canonical else None  # hashing holds no connection
        # Verified for an unknown address too: equal time hides who has an account.
        stored = account.password_hash if account else None
        matches = await auth.passwords.verify(password, stored)
        flaw = None if stored is None else auth.passwords.flaw_of(stored)
        refused = InvalidCredentials(client, user_id=account.user_id if account else None, because=flaw)
        if account is None or stored is None or account.disabled or not matches:
            raise refused  # guard: test_a_wrong_password_is_refused
    return account, await auth.passwords.rehashed(password, stored)


def _canonical(email: str) -> str | None:
    try:
        return canonical_email(email)
    except InvalidEmail:
        return None


async def refresh(
    auth: Auth, database: Database, *, token: str, client: Client, now: datetime | None = None
) -> IssuedTokens:
    """Exchange a refresh token for its successor and a new access token.

    N parallel calls with one token all get the same successor, and so does a repetition within the grace. The exchange
    is a transaction of its own.

    Raises:
        RefreshTokenNotFound: not ours, or its session has ended.
        RefreshTokenExpired: by idleness or by age.
        RefreshTokenUsed: any other use of a token that has a successor; its aftermath ends the session.
        Throttled: before the token is looked at.
    """
    await auth.throttle.refresh(client)  # guard: test_refreshes_are_throttled
    claims = auth.refresh_tokens.parse(token)
    rotation = await rotate(
        database,
        claims.session_id,
        counter=claims.counter,
        key_id=auth.refresh_tokens.active_key_id,
        now=now,
        grace=auth.settings.refresh_grace,
        idle=auth.settings.refresh_idle,
    )
    if rotation is None:
        async with database.unit_of_work(read_only=True) as session:
            ended = await UserSessionRepository(session).get(claims.session_id)
            at = await database_time(session, now)
        raise _refusal(ended, claims, client=client, now=at)
    return _issue(
        auth,
        RefreshClaims(claims.session_id, rotation.counter),
        user_id=rotation.user_id,
        key_id=rotation.key_id,
        expires_at=rotation.idle_expires_at,
        now=now,
    )


def _refusal(user_session: UserSession | None, claims: RefreshClaims, *, client: Client, now: datetime) -> InvalidGrant:
    if user_session is None:
        return RefreshTokenNotFound()
    if user_session.is_expired(now):
        return RefreshTokenExpired()
    age = None if user_session.rotated_at is None else now - user_session.rotated_at
    newer = max(0, user_session.refresh_counter - claims.counter)  # below 0 after a database was restored
    return RefreshTokenUsed(claims.session_id, client, age=age, newer=newer)


async def authenticate(auth: Auth, database: Database, *, token: str, now: datetime | None = None) -> Principal:
    """Return the user and session of an access token, by one query, so that an ended session is refused at once.

    Raises:
        InvalidToken: the token is not valid; UserRemoved and SessionEnded are subclasses of it.
    """
    claims = auth.access_tokens.verify(token)
    return await recognise(database, user_id=claims.user_id, session_id=claims.session_id, now=now)


async def sign_out(auth: Auth, session: Session, *, token: str, client: Client) -> None:
    """End the session of an access token. One that has ended already is no error, so the client may repeat it.

    Raises:
        InvalidToken: when the token is not ours, or has expired.
    """
    claims = auth.access_tokens.verify(token)
    user_id = await UserSessionRepository(session).end(claims.session_id)
    if user_id is not None:
        audit(session, Event.SIGNED_OUT, client=client, user_id=user_id, session_id=claims.session_id)


async def list_sessions(session: Session, principal: Principal, *, now: datetime | None = None) -> list[UserSession]:
    """Return the user's sessions that have not expired, newest first: `sessions_per_user` at most."""
    return await sessions_of(session, principal.user_id, now=now or principal.seen_at)


async def sessions_of(session: Session, user_id: UUID, *, now: datetime | None = None) -> list[UserSession]:
    """Return the sessions of an account that have not expired, newest first."""
    sessions = await UserSessionRepository(session).of_user(user_id)
    time = await database_time(session, now)
    return [user_session for user_session in sessions if not user_session.is_expired(time)]


async def revoke(session: Session, principal: Principal, session_id: UUID, *, client: Client) -> None:
    """End one of the user's own sessions, from its next request on; it may be the current one.

    Raises:
        NotFound: the user has no session with this id; somebody else may.
        SessionEnded: the current session has just been ended.
    """
    sessions, user_id = await _held(session, principal), principal.user_id
    if not await sessions.end_owned(session_id, user_id=user_id):
        raise NotFound  # guard: test_the_session_of_somebody_else_is_not_found
    audit(session, Event.SESSION_REVOKED, client=client, user_id=user_id, session_id=session_id)


async def revoke_others(session: Session, principal: Principal, *, client: Client) -> None:
    """End all sessions of the user but the current one, from their next requests on. May be repeated.

    Raises:
        SessionEnded: the current session has just been ended.
    """
    sessions, user_id = await _held(session, principal), principal.user_id
    ended = await sessions.end_others(user_id, keep=principal.session_id)
    if ended:  # only one of several parallel requests ends them
        audit(session, Event.SESSIONS_REVOKED, client=client, user_id=user_id, count=ended, because="others")


async def revoke_all(session: Session, principal: Principal, *, client: Client) -> None:
    """End all sessions of the user, the current one too, from their next requests on.

    Raises:
        SessionEnded: the current session has just been ended.
    """
    sessions, user_id = await _held(session, principal), principal.user_id
    ended = await sessions.end_all(user_id)
    audit(session, Event.SESSIONS_REVOKED, client=client, user_id=user_id, count=ended, because="all")


async def sign_out_everywhere(
    session: Session, *, email: str, client: Client = NOBODY, operator: Principal | None = None
) -> int:
    """End all sessions of the account with this address, from their next requests on; return how many there were.

    Without an operator, a shell did it.

    Raises:
        InvalidEmail: `email` is no address.
        AccountNotFound: no account has this address, in any spelling.
    """
    users = UserRepository(session)
    user_id = await users.find_id(canonical_email(email))
    if user_id is None:
        raise AccountNotFound
    await users.lock(user_id)  # guard: test_signing_out_everywhere_waits_for_a_sign_in_and_ends_it
    ended = await UserSessionRepository(session).end_all(user_id)
    audit_act(
        session, Event.SESSIONS_REVOKED, client=client, user_id=user_id, operator=operator, count=ended,
        because="operator",
    )  # fmt: skip
    return ended


async def _held(session: Session, principal: Principal) -> UserSessionRepository:
    sessions = UserSessionRepository(session)
    if not await sessions.hold(principal.user_id, principal.session_id):
        raise SessionEnded  # guard: test_a_session_that_was_just_ended_ends_no_other
    return sessions


def _issue(
    auth: Auth, claims: RefreshClaims, *, user_id: UUID, key_id: str, expires_at: datetime, now: datetime | None
) -> IssuedTokens:
    # By the clock of this process, because processes verify access tokens by their own clocks, without a row.
    access_token, access_expires_at = auth.access_tokens.issue(
        user_id=user_id, session_id=claims.session_id, now=now or utcnow()
    )
    refresh_token = auth.refresh_tokens.derive(claims.session_id, claims.counter, key_id=key_id)
    return IssuedTokens(access_token, access_expires_at, refresh_token, expires_at)

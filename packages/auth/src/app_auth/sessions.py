"""Login sessions: signing in, staying signed in, being recognised, signing out."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app_auth.accounts import canonical_email
from app_auth.auth import Auth
from app_auth.errors import (
    InvalidCredentials,
    InvalidEmail,
    RefreshTokenExpired,
    RefreshTokenNotFound,
    RefreshTokenUsed,
    SessionEnded,
    UserRemoved,
)
from app_auth.principal import Principal
from app_auth.tokens import RefreshClaims
from app_db import Database, Session
from app_db.models import UserSession
from app_db.repositories.user_sessions import UserSessionRepository, find_authenticated
from app_db.repositories.users import UserRepository
from app_db.types import new_id


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """What a client keeps. The refresh token is derived, returned, and stored nowhere."""

    access_token: str
    access_expires_at: datetime
    refresh_token: str
    refresh_expires_at: datetime


async def sign_in(auth: Auth, session: Session, *, email: str, password: str, now: datetime) -> IssuedTokens:
    """Start a login session.

    Raises:
        InvalidCredentials: for a wrong password and an unknown address alike, after the same work (ASVS 5.0, 6.3.8).
        HashingBusy: when the hashing pool is full.
    """
    users = UserRepository(session)
    try:
        account = await users.credentials_of(canonical_email(email))
    except InvalidEmail:
        account = None
    await session.release()  # guard: test_a_sign_in_holds_no_connection_while_it_hashes
    # Verified for an unknown address too: equal time hides who has an account.
    matches = await auth.passwords.verify(password, account.password_hash if account else None)
    if account is None or not matches:
        raise InvalidCredentials  # guard: test_a_wrong_password_is_refused
    # Hashing took a while: a password that was changed meanwhile has ended all sessions, and would miss this one.
    if not await users.still_has(account):
        raise InvalidCredentials  # guard: test_a_password_that_is_changed_while_it_signs_in_is_refused
    settings = auth.settings
    user_session = UserSession(
        id=new_id(),
        user_id=account.user_id,
        created_at=now,
        last_used_at=now,
        refresh_counter=0,
        refresh_key_id=auth.refresh_tokens.active_key_id,
        idle_expires_at=now + min(settings.refresh_idle, settings.refresh_absolute),
        expires_at=now + settings.refresh_absolute,
    )
    session.add(user_session)
    return _issue(
        auth,
        RefreshClaims(user_session.id, 0),
        user_id=account.user_id,
        key_id=user_session.refresh_key_id,
        expires_at=user_session.idle_expires_at,
        now=now,
    )


async def refresh(auth: Auth, session: Session, *, token: str, now: datetime) -> IssuedTokens:
    """Exchange a refresh token for its successor and a new access token.

    N parallel calls with one token all get the same successor, and so does a repetition within the grace.

    Raises:
        RefreshTokenNotFound: not ours, or its session has ended.
        RefreshTokenExpired: by idleness or by age.
        RefreshTokenUsed: any other use of a token that has a successor; its aftermath ends the session.
    """
    claims = auth.refresh_tokens.parse(token)
    sessions = UserSessionRepository(session)
    rotation = await sessions.rotate(
        claims.session_id,
        counter=claims.counter,
        key_id=auth.refresh_tokens.active_key_id,
        now=now,
        grace=auth.settings.refresh_grace,
        idle=auth.settings.refresh_idle,
    )
    if rotation is None:
        user_session = await sessions.get(claims.session_id)
        if user_session is None:
            raise RefreshTokenNotFound
        raise RefreshTokenExpired if user_session.is_expired(now) else RefreshTokenUsed(claims.session_id)
    return _issue(
        auth,
        RefreshClaims(claims.session_id, rotation.counter),
        user_id=rotation.user_id,
        key_id=rotation.key_id,
        expires_at=rotation.idle_expires_at,
        now=now,
    )


async def authenticate(auth: Auth, database: Database, *, token: str, now: datetime) -> Principal:
    """Return who bears this access token: one query, so that an ended session is refused at once.

    Raises:
        InvalidToken: with UserRemoved and SessionEnded as its kinds.
    """
    claims = auth.access_tokens.verify(token)
    row = await find_authenticated(database, user_id=claims.user_id, session_id=claims.session_id)
    if row is None:
        raise UserRemoved
    if row.session_id is None or row.signed_in_at is None or row.idle_expires_at is None or now >= row.idle_expires_at:
        raise SessionEnded  # guard: test_signing_out_ends_the_access_token_at_once
    return Principal(row.user_id, row.email, row.role, row.session_id, row.signed_in_at)


async def sign_out(auth: Auth, session: Session, *, token: str) -> None:
    """End the session of an access token. One that has ended already is no error, so the client may repeat it.

    Raises:
        InvalidToken: when the token is not ours, or has expired.
    """
    claims = auth.access_tokens.verify(token)
    await UserSessionRepository(session).end(claims.session_id)  # guard: test_signing_out_ends_its_refresh_token


def _issue(
    auth: Auth, claims: RefreshClaims, *, user_id: UUID, key_id: str, expires_at: datetime, now: datetime
) -> IssuedTokens:
    access_token, access_expires_at = auth.access_tokens.issue(user_id=user_id, session_id=claims.session_id, now=now)
    refresh_token = auth.refresh_tokens.derive(claims.session_id, claims.counter, key_id=key_id)
    return IssuedTokens(access_token, access_expires_at, refresh_token, expires_at)

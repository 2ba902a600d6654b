"""The way into an account: whatever proves who somebody is, login sessions begin here and nowhere else (ADR-0063)."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app_auth.audit import Event, audit, audit_row
from app_auth.auth import Auth
from app_auth.challenges import InvalidChallenge, SecondFactorRequired
from app_auth.client import Client
from app_auth.errors import EmailNotVerified, InvalidGrant
from app_db import Session
from app_db.models import OneTimeToken, TokenPurpose, UserSession
from app_db.repositories.beginning_sessions import begin_session
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_db.types import new_id


class Proof(StrEnum):
    """The first proof of who somebody is."""

    PASSWORD = "password"  # noqa: S105  # the name of a proof
    MAILED_LINK = "mailed_link"
    PROVIDER = "provider"
    PASSKEY = "passkey"


TWO_FACTORS: Final = frozenset({Proof.PASSKEY})
"""What is two factors by itself: a device, and what its owner unlocks it with."""


class SignInRefused(InvalidGrant):
    """This account cannot be signed in to."""

    def __init__(self, client: Client, *, user_id: UUID) -> None:
        super().__init__()
        self.client, self.user_id = client, user_id

    async def aftermath(self, session: Session) -> None:
        """Keep the attempt in the audit."""
        audit(session, Event.SIGN_IN_FAILED, client=self.client, user_id=self.user_id, because="disabled")


async def admit(
    auth: Auth,
    session: Session,
    user_id: UUID,
    *,
    proof: Proof,
    client: Client,
    now: datetime | None = None,
    password_hash: str | None = None,
) -> UserSession:
    """Start a login session after a first proof, and end the user's oldest ones beyond `sessions_per_user`.

    `password_hash` is the hash that a password was compared with: it must still be the stored one. The answer to the
    client is `sessions.tokens_of` or `browser_sessions.hand_over`. A proof that is good once and is used up in this
    transaction has to be used up by `SecondFactorRequired.keep` too, because that error rolls it back.

    Raises:
        SignInRefused: the account is disabled or gone, or has another password by now.
        EmailNotVerified: its address is not verified, and the settings ask for that.
        SecondFactorRequired: with a challenge, if the account has a second factor and the proof is not two by itself.

    Example:
        user_session = await admit(auth, session, user.id, proof=Proof.PROVIDER, client=client)
        return sessions.tokens_of(auth, user_session)
    """
    note = await UserRepository(session).note_sign_in(user_id, password_hash=password_hash)
    if note is None:
        raise SignInRefused(client, user_id=user_id)
    if auth.settings.verification and not note.verified:
        raise EmailNotVerified(client, user_id=user_id)  # guard: test_an_unverified_account_cannot_sign_in
    now = now or note.now
    methods = [name for name in note.second_factors if name in auth.second_factors]
    if methods and proof not in TWO_FACTORS:
        row = auth.one_time_tokens.issue_to(user_id, note.email, TokenPurpose.SECOND_FACTOR, now=now)
        raise SecondFactorRequired(
            auth, row, note, methods=methods, how=proof, client=client
        )  # guard: test_no_first_proof_alone_opens_an_account_with_a_second_factor
    return await _begin(auth, session, user_id, session_id=new_id(), how=proof, client=client, now=now)


async def complete(
    auth: Auth, session: Session, challenge: OneTimeToken, *, how: str, client: Client, now: datetime | None = None
) -> UserSession:
    """Start the login session that a challenge stands for, once; call it after the second factor has been checked.

    Raises:
        InvalidChallenge: it was answered before, has expired, or the account has changed or been disabled.
    """
    challenge_id, user_id, email = challenge.id, challenge.user_id, challenge.email_canonical
    note = await UserRepository(session).note_sign_in(user_id)
    if note is None or note.email != email:
        raise InvalidChallenge
    if not await OneTimeTokenRepository(session).use(challenge_id, now=now):
        raise InvalidChallenge  # guard: test_a_challenge_becomes_one_session
    return await _begin(auth, session, user_id, session_id=challenge_id, how=how, client=client, now=now or note.now)


async def _begin(
    auth: Auth, session: Session, user_id: UUID, *, session_id: UUID, how: str, client: Client, now: datetime
) -> UserSession:
    settings = auth.settings
    user_session = UserSession(
        id=session_id,
        user_id=user_id,
        created_at=now,
        last_used_at=now,
        refresh_counter=0,
        refresh_key_id=auth.refresh_tokens.active_key_id,
        idle_expires_at=now + min(settings.refresh_idle, settings.refresh_absolute),
        expires_at=now + settings.refresh_absolute,
        client_address=client.address,
        user_agent=client.user_agent,
    )
    signed_in = audit_row(Event.SIGNED_IN, client=client, user_id=user_id, session_id=session_id, how=how)
    # The user is locked: of N parallel sign-ins, each sees the sessions of those before it.
    ended = await begin_session(session, user_session, signed_in, cap=settings.sessions_per_user)
    if ended:
        audit(session, Event.SESSIONS_REVOKED, client=client, user_id=user_id, count=ended, because="too_many")
    return user_session

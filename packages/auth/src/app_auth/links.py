"""Links in mails: requests do not show who has an account, and each link works for one purpose, once."""

from datetime import datetime

from app_auth.addresses import new_address
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidLink
from app_db import Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import Notice, OneTimeLink, SecurityNotice
from app_db.jobs.outbox import enqueue
from app_db.models import OneTimeToken, TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository


async def request_verification(auth: Auth, session: Session, *, email: str, client: Client) -> None:
    """Send the verification mail again, within the limit `mail_account`. Returns the same for every address.

    Raises:
        InvalidEmail: it is no address.
        Throttled: before anything else.
    """
    await auth.throttle.forgot(client)  # guard: test_requests_for_a_verification_mail_are_throttled
    await _request_link(auth, session, email, TokenPurpose.VERIFY_EMAIL, Event.VERIFICATION_REQUESTED, client=client)


async def verify_email(
    auth: Auth, session: Session, *, token: str, client: Client, now: datetime | None = None
) -> None:
    """Mark the address as verified: its owner has got this token by mail.

    May be repeated while the token lives: people open a link twice, and mail scanners open it before them.

    Raises:
        InvalidLink: forged, expired, replaced by a newer one, or the account has another address by now.
        Throttled: before anything else.
    """
    await auth.throttle.one_time(client)  # guard: test_verifications_are_throttled
    row = await _find(auth, session, token, TokenPurpose.VERIFY_EMAIL, now=now)
    users, user_id, email = UserRepository(session), row.user_id, row.email_canonical
    if await users.verify_email(user_id, email=email, now=now):
        audit(session, Event.EMAIL_VERIFIED, client=client, user_id=user_id)
    elif not await users.is_verified(user_id, email=email):
        raise InvalidLink  # guard: test_a_link_for_another_address_is_worthless


async def forgot_password(auth: Auth, session: Session, *, email: str, client: Client) -> None:
    """Mail a link that sets a new password, within the limit `mail_account`. Returns the same for every address.

    Raises:
        InvalidEmail: it is no address.
        Throttled: before anything else.
    """
    await auth.throttle.forgot(client)  # guard: test_requests_for_a_reset_are_throttled
    await _request_link(
        auth, session, email, TokenPurpose.RESET_PASSWORD, Event.PASSWORD_RESET_REQUESTED, client=client
    )


async def reset_password(
    auth: Auth, session: Session, *, token: str, new_password: str, client: Client, now: datetime | None = None
) -> None:
    """Set a new password with a token that was mailed, end all login sessions and kill all other links of the user.

    It also verifies the address. It signs nobody in.

    Raises:
        InvalidLink: as `verify_email` does; of N parallel calls with one token, N - 1 get it.
        PasswordTooShort, PasswordTooLong, PasswordTooCommon, HashingBusy: the token can still be used.
        Throttled: before anything else.
    """
    await auth.throttle.one_time(client)  # guard: test_resets_are_throttled
    row = await _find(auth, session, token, TokenPurpose.RESET_PASSWORD, now=now)
    token_id, user_id, email = row.id, row.user_id, row.email_canonical
    auth.passwords.check_strength(new_password, email=email)
    await session.release()  # guard: test_a_reset_holds_no_connection_while_it_hashes
    new_hash = await auth.passwords.hash(new_password)
    users, tokens = UserRepository(session), OneTimeTokenRepository(session)
    if not await users.reset_password(user_id, email=email, password_hash=new_hash, now=now):
        raise InvalidLink
    if not await tokens.use(token_id, now=now):
        raise InvalidLink  # guard: test_a_reset_link_works_once
    await tokens.delete_of(user_id)  # guard: test_a_reset_kills_every_other_link
    await UserSessionRepository(session).end_all(user_id)  # guard: test_a_reset_ends_every_session
    audit(session, Event.PASSWORD_RESET, client=client, user_id=user_id)
    await enqueue(session, SecurityNotice(user_id=user_id, what=Notice.PASSWORD_RESET), owner_id=user_id)


async def _request_link(
    auth: Auth, session: Session, email: str, purpose: TokenPurpose, event: Event, *, client: Client
) -> None:
    canonical = new_address(email).canonical
    async with auth.throttle.mail(purpose.value, canonical) as may_be_sent:
        # One lookup and one job for every address; the worker does the rest, so response times do not differ.
        user_id = await UserRepository(session).find_id(canonical)
        audit(session, event, client=client, user_id=user_id)
        if may_be_sent:  # guard: test_nobody_is_flooded_with_links
            await enqueue(session, OneTimeLink(user_id=user_id, purpose=purpose))


async def _find(
    auth: Auth, session: Session, token: str, purpose: TokenPurpose, *, now: datetime | None
) -> OneTimeToken:
    tokens = auth.one_time_tokens
    row = await OneTimeTokenRepository(session).get(tokens.parse(token))
    if row is None:
        raise InvalidLink
    return tokens.check(token, row, purpose, now=await database_time(session, now))

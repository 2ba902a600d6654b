"""Links in mails: requests do not show who has an account, and each link works for one purpose, once."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app_auth.addresses import new_address
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidCredentials, InvalidLink
from app_db import Session
from app_db.account_parts import AccountPart
from app_db.clock import database_time
from app_db.features.accounts.payloads import Notice, OneTimeLink, SecurityNotice
from app_db.jobs.outbox import enqueue
from app_db.models import OneTimeToken, TokenPurpose
from app_db.repositories.account_parts import delete_parts
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
    auth: Auth, session: Session, *, token: str, password: str, client: Client, now: datetime | None = None
) -> None:
    """Mark the address as verified: its owner has got this token by mail, and says which password counts.

    It may be the password of the registration. Another one replaces it, and ends whatever the account could be entered
    by until then: somebody else has registered (ADR-0070). May be repeated with that password while the token lives.

    Raises:
        InvalidLink: forged, expired, replaced by a newer one, or the account is disabled or has another address by now.
        InvalidCredentials: the address is verified already, and this is not the password of its account.
        PasswordTooShort, PasswordTooLong, PasswordTooCommon, HashingBusy: the token can still be used.
        Throttled: before anything else; for a repetition with wrong passwords as for a sign-in.
    """
    await auth.throttle.one_time(client)  # guard: test_verifications_are_throttled
    row = await _find(auth, session, token, TokenPurpose.VERIFY_EMAIL, now=now)
    link = _Link(row.id, row.user_id, row.email_canonical)
    # Hashing takes a while, so another request may be faster: then its password counts, and this one is compared.
    while not await _verify(auth, session, link, password=password, client=client, now=now):
        pass


@dataclass(frozen=True, slots=True)
class _Link:
    """A row that was found; a session that was released does not know its own any more."""

    id: UUID
    user_id: UUID
    email: str


async def _verify(
    auth: Auth, session: Session, link: _Link, *, password: str, client: Client, now: datetime | None
) -> bool:
    users, user_id, email = UserRepository(session), link.user_id, link.email
    account = await users.credentials_of(email)
    if account is None or account.user_id != user_id or account.disabled:
        raise InvalidLink  # guard: test_a_link_for_another_address_is_worthless
    stored = account.password_hash
    await session.release()  # guard: test_a_verification_holds_no_connection_while_it_hashes
    if account.verified:
        async with auth.throttle.login(client, email):  # guard: test_an_old_link_is_no_way_to_guess_the_password
            if not await auth.passwords.verify(password, stored):
                raise InvalidCredentials(client, user_id=user_id)  # guard: test_a_used_link_sets_no_other_password
        return True
    counts = stored if await auth.passwords.verify(password, stored) else None
    if counts is None:
        auth.passwords.check_strength(password, email=email)
        counts = await auth.passwords.hash(password)
    if not await users.verify_email(account, email=email, password_hash=counts, now=now):
        return False
    if counts != stored:
        await claim(session, user_id, keep=link.id)  # guard: test_nothing_of_who_registered_first_is_left
    audit(session, Event.EMAIL_VERIFIED, client=client, user_id=user_id, password_replaced=counts != stored or None)
    return True


async def claim(session: Session, user_id: UUID, *, keep: UUID | None = None) -> None:
    """End all that an account could be entered by until its address was proven by somebody else, but this link."""
    await UserSessionRepository(session).end_all(user_id)
    await delete_parts(session, user_id, *AccountPart, keep=keep)


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
    """Set a new password with a token that was mailed; end all sessions, links and keys for machines of the user.

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
    is_first = await users.reset_password(user_id, email=email, password_hash=new_hash, now=now)
    if is_first is None:
        raise InvalidLink
    if not await tokens.use(token_id, now=now):
        raise InvalidLink  # guard: test_a_reset_link_works_once
    await tokens.delete_of(user_id)  # guard: test_a_reset_kills_every_other_link
    await UserSessionRepository(session).end_all(user_id)  # guard: test_a_reset_ends_every_session
    if is_first:
        await claim(session, user_id)  # guard: test_a_reset_of_an_address_that_nobody_proved_leaves_no_way_in
    ended = await delete_parts(session, user_id, AccountPart.KEY)  # guard: test_a_reset_revokes_every_key
    audit(session, Event.PASSWORD_RESET, client=client, user_id=user_id, keys=ended or None)
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

"""Changing the address of an account: asked for, and confirmed from the new address."""

from datetime import datetime
from uuid import UUID

from app_auth.accounts import require_carried
from app_auth.addresses import canonical_email, new_address
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import EmailTaken, InvalidCredentials, InvalidLink, SessionEnded
from app_auth.features.email_change.errors import EmailUnchanged
from app_auth.features.email_change.tokens import CONFIRM, CONFIRM_WITHIN, UNDO_WITHIN, confirming
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_db import Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import AccountErasure
from app_db.features.email_change.models import EmailChange, FormerEmail
from app_db.features.email_change.payloads import EmailChanged, EmailChangeLink
from app_db.features.email_change.repository import EmailChangeRepository
from app_db.jobs.outbox import enqueue
from app_db.models import User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.types import new_id


async def request(auth: Auth, session: Session, principal: Principal, *, email: str, client: Client) -> None:
    """Have a link mailed to a new address, which confirms it. Nothing changes until then.

    The same happens for an address that has an account: its owner is told, and nobody else.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        Throttled, InvalidEmail, AddressNotCarried: as for a registration.
        EmailUnchanged: it is the address of the account.
        SessionEnded: the session has just been ended.
    """
    await require_fresh(auth, session, principal)  # guard: test_changing_the_address_needs_a_fresh_sign_in
    await auth.throttle.forgot(client)  # guard: test_changes_of_address_are_throttled
    address, before = new_address(email), canonical_email(principal.email)
    if address.canonical == before:
        raise EmailUnchanged  # guard: test_the_address_of_the_account_is_no_new_one
    await require_carried(session, address)
    async with auth.throttle.mail(CONFIRM, address.canonical) as may_be_sent:
        if not await UserSessionRepository(session).hold(principal.user_id, principal.session_id):
            raise SessionEnded  # guard: test_a_session_that_was_just_ended_changes_no_address
        now = await database_time(session)
        change = EmailChange(
            id=new_id(),
            user_id=principal.user_id,
            session_id=principal.session_id,
            before_canonical=before,
            email=address.written,
            email_canonical=address.canonical,
            key_id=auth.one_time_tokens.active_key_id,
            created_at=now,
            expires_at=now + CONFIRM_WITHIN,
        )
        await EmailChangeRepository(session).replace(change)
        audit(session, Event.EMAIL_CHANGE_REQUESTED, client=client, user_id=principal.user_id)
        if may_be_sent:  # guard: test_nobody_is_flooded_with_changes_of_address
            await enqueue(session, EmailChangeLink(change_id=change.id))


async def confirm(
    auth: Auth,
    session: Session,
    *,
    token: str,
    client: Client,
    principal: Principal | None = None,
    password: str = "",
    now: datetime | None = None,
) -> None:
    """Give the account its new address, by the link that was mailed there and by its session or password.

    The link alone is not enough: an address with a typing error is a stranger's. All other sessions end, and all links.

    Raises:
        InvalidLink: forged, expired, used or replaced; the session that asked has ended; the address has changed since.
        InvalidCredentials: nobody of the account is signed in, and this is not its password.
        EmailTaken: another account has proven the address meanwhile.
        Throttled: before anything else, and for wrong passwords as for a sign-in.
    """
    await auth.throttle.one_time(client)  # guard: test_confirmations_are_throttled
    change = await EmailChangeRepository(session).get(auth.one_time_tokens.parse(token))
    if change is None or not auth.one_time_tokens.equal(confirming(auth.one_time_tokens, change), token):
        raise InvalidLink  # guard: test_a_forged_confirmation_is_refused
    session.expunge(change)  # it is still read after the session was released
    if principal is None or principal.user_id != change.user_id:
        await _prove(auth, session, change, password, client=client)
    user = await UserRepository(session).locked(change.user_id)
    if user is None or user.disabled_at is not None or user.email_canonical != change.before_canonical:
        raise InvalidLink  # guard: test_a_confirmation_is_for_the_address_before
    if not await EmailChangeRepository(session).use(change.id, now=now):
        raise InvalidLink  # guard: test_a_confirmation_expires_after_a_day
    await _move(auth, session, user, change, client=client, now=now)


async def _prove(auth: Auth, session: Session, change: EmailChange, password: str, *, client: Client) -> None:
    async with auth.throttle.login(client, change.before_canonical):
        stored = await UserRepository(session).password_hash(change.user_id)
        await session.release()  # guard: test_a_confirmation_holds_no_connection_while_it_hashes
        if not await auth.passwords.verify(password, stored):
            raise InvalidCredentials(
                client, user_id=change.user_id
            )  # guard: test_a_confirmation_by_a_stranger_needs_the_password


async def _move(
    auth: Auth, session: Session, user: User, change: EmailChange, *, client: Client, now: datetime | None
) -> None:
    changes, time = EmailChangeRepository(session), await database_time(session, now)
    former = FormerEmail(
        id=new_id(),
        user_id=user.id,
        email=user.email,
        email_canonical=user.email_canonical,
        # Who left an address and comes back to it has undone that change: then there is nothing to undo (ADR-0071).
        can_return=not await changes.return_to(user.id, change.email_canonical, now=now),
        key_id=auth.one_time_tokens.active_key_id,
        created_at=time,
        expires_at=time + UNDO_WITHIN,
    )
    await set_email(auth, session, user.id, email=change.email, canonical=change.email_canonical, client=client)
    session.add(former)
    await OneTimeTokenRepository(session).delete_of(user.id)  # guard: test_a_new_address_kills_the_links_of_before
    await UserSessionRepository(session).end_others(
        user.id, keep=change.session_id
    )  # guard: test_a_new_address_ends_other_sessions
    audit(session, Event.EMAIL_CHANGED, client=client, user_id=user.id, session_id=change.session_id)
    await enqueue(session, EmailChanged(former_id=former.id), owner_id=user.id)


async def set_email(auth: Auth, session: Session, user_id: UUID, *, email: str, canonical: str, client: Client) -> None:
    """Give the account this address; an account that has registered it and never proven it makes way.

    Raises:
        EmailTaken: another account has it.
    """
    changes = EmailChangeRepository(session)
    if auth.settings.verification:  # without it, nobody proves an address, and all accounts count
        unproven = await changes.free(canonical)  # guard: test_an_unproven_account_does_not_keep_an_address
        if unproven is not None:
            audit(session, Event.ACCOUNT_DELETED, client=client, user_id=unproven, because="address_proven")
            await enqueue(session, AccountErasure(user_id=unproven))
    await changes.set_email(user_id, email=email, canonical=canonical, taken=EmailTaken)

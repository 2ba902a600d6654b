"""Services that create, change, disable and delete accounts."""

import unicodedata
from datetime import datetime, timedelta
from uuid import UUID

from app_auth.addresses import Address, canonical_email, new_address
from app_auth.audit import SHELL, Event, audit
from app_auth.auth import Auth
from app_auth.client import NOBODY, Client
from app_auth.errors import (
    AccountNotFound,
    AddressNotCarried,
    EmailTaken,
    InvalidCredentials,
    PasswordUnchanged,
    RegistrationClosed,
    UserRemoved,
)
from app_auth.permissions import audit_act, require_fresh
from app_auth.principal import Principal
from app_db import Session
from app_db.account_parts import AccountPart
from app_db.clock import database_time
from app_db.features.accounts.payloads import (
    AccountErasure,
    Notice,
    OneTimeLink,
    RegistrationNotice,
    SecurityNotice,
    WelcomeEmail,
)
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_db.jobs.workers import has_smtputf8
from app_db.models import Role, TokenPurpose, User
from app_db.repositories.account_parts import delete_parts
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import Credentials, UserRepository
from app_db.types import new_id

ONE_NOTICE = Unique(period=timedelta(hours=1))
"""Registering the address of another person many times sends that person one mail, not a hundred."""


async def create(
    auth: Auth, session: Session, *, email: str, password: str, role: Role = Role.USER, client: Client = NOBODY
) -> User:
    """Create an account with its welcome mail. The caller vouches for the address, so it counts as verified.

    Raises:
        InvalidEmail, PasswordTooShort, PasswordTooLong, PasswordTooCommon: before any hash is computed.
        EmailTaken: when the address has an account, in any spelling; of N parallel requests, N - 1 get it.
        HashingBusy: when the hashing pool is full.
    """
    user = await _new_user(auth, email=email, password=password, role=role)
    user.email_verified_at = await database_time(session)
    await _add(session, user)
    audit(session, Event.REGISTERED, client=client, user_id=user.id, by=SHELL, role=role.value)
    return user


async def register(auth: Auth, session: Session, *, email: str, password: str, client: Client) -> User | None:
    """Create an account for a visitor; the job that mails to them is enqueued in the same transaction.

    With verification, new and known addresses cause the same work and the result None: the owner learns by mail
    whether there was an account, the client does not learn it (ADR-0038). The password counts only if the link in that
    mail is opened with it (ADR-0070).

    Raises:
        RegistrationClosed, Throttled: before anything else.
        AddressNotCarried: the workers have reported that none of them can send mail to it (RFC 6531).
        InvalidEmail, PasswordTooShort, PasswordTooLong, PasswordTooCommon: before any hash is computed.
        EmailTaken: without verification, as for `create`.
        HashingBusy: when the hashing pool is full.
    """
    if auth.settings.registration == "closed":
        raise RegistrationClosed  # guard: test_a_closed_registration_makes_no_account
    await auth.throttle.register(client)  # guard: test_registrations_are_throttled
    await require_carried(session, new_address(email))
    user = await _new_user(auth, email=email, password=password)
    if auth.settings.verification:
        await _add_quietly(auth, session, user, client=client)
        return None
    await _add(session, user)
    audit(session, Event.REGISTERED, client=client, user_id=user.id)
    return user


async def register_verified(auth: Auth, session: Session, *, email: str, client: Client, by: str) -> UUID | None:
    """Create an account without a password for a visitor whose address somebody else, `by`, has verified.

    None if the address has an account already; then nothing has changed.

    Raises:
        RegistrationClosed, Throttled: before anything else.
        AddressNotCarried, InvalidEmail: as for `register`.
    """
    if auth.settings.registration == "closed":
        raise RegistrationClosed
    await auth.throttle.register(client)
    address = new_address(email)
    await require_carried(session, address)
    user = User(id=new_id(), email=address.written, email_canonical=address.canonical, password_hash=None)
    user.email_verified_at = await database_time(session)
    if not await UserRepository(session).add_new(user):
        return None
    audit(session, Event.REGISTERED, client=client, user_id=user.id, by=by)
    await enqueue(session, WelcomeEmail(user_id=user.id), owner_id=user.id)
    return user.id


async def change_password(
    auth: Auth, session: Session, principal: Principal, *, current_password: str, new_password: str, client: Client
) -> None:
    """Set a new password, end all other login sessions of the user and kill all links that were mailed.

    Raises:
        Throttled: a wrong `current_password` counts like a failed sign-in.
        InvalidCredentials: when `current_password` is wrong.
        PasswordUnchanged: when `new_password` is the current one.
        PasswordTooShort, PasswordTooLong, PasswordTooCommon, HashingBusy.
    """
    auth.passwords.check_strength(new_password, email=principal.email)
    users, user_id = UserRepository(session), principal.user_id
    async with auth.throttle.login(client, canonical_email(principal.email)):
        stored = await users.password_hash(user_id)
        flaw = auth.passwords.flaw_of(stored) if stored else None
        refused = InvalidCredentials(client, user_id=user_id, event=Event.PASSWORD_CHANGE_FAILED, because=flaw)
        await session.release()  # guard: test_a_password_change_holds_no_connection_while_it_hashes
        if not await auth.passwords.verify(current_password, stored):
            raise refused  # guard: test_changing_the_password_needs_the_current_one
    if unicodedata.normalize("NFC", new_password) == unicodedata.normalize("NFC", current_password):
        raise PasswordUnchanged  # guard: test_the_current_password_is_no_new_one
    new_hash = await auth.passwords.hash(new_password)
    if stored is None or not await users.replace_password_hash(Credentials(user_id, stored), new_hash):
        raise refused  # guard: test_a_password_change_that_another_has_overtaken_is_refused
    await OneTimeTokenRepository(session).delete_of(user_id)  # guard: test_a_new_password_kills_the_links_of_before
    sessions = UserSessionRepository(session)
    await sessions.end_others(user_id, keep=principal.session_id)  # guard: test_a_new_password_ends_other_sessions
    audit(session, Event.PASSWORD_CHANGED, client=client, user_id=user_id, session_id=principal.session_id)
    await enqueue(session, SecurityNotice(user_id=user_id, what=Notice.PASSWORD_CHANGED), owner_id=user_id)


async def disable(
    session: Session,
    *,
    email: str,
    now: datetime | None = None,
    client: Client = NOBODY,
    operator: Principal | None = None,
) -> None:
    """Disable the account: its next request is refused. May be repeated. Without an operator, a shell did it.

    Raises:
        InvalidEmail, AccountNotFound.
    """
    user_id = await UserRepository(session).set_disabled(canonical_email(email), await database_time(session, now))
    if user_id is None:
        raise AccountNotFound
    ended = await UserSessionRepository(session).end_all(user_id)  # guard: test_disabling_an_account_ends_its_sessions
    await OneTimeTokenRepository(session).delete_of(user_id)  # guard: test_disabling_an_account_kills_its_links
    keys = await delete_parts(session, user_id, AccountPart.KEY)  # guard: test_disabling_an_account_revokes_its_keys
    audit_act(
        session,
        Event.ACCOUNT_DISABLED,
        client=client,
        user_id=user_id,
        operator=operator,
        sessions=ended,
        keys=keys or None,
    )  # guard: test_what_operators_do_to_accounts_is_audited


async def enable(session: Session, *, email: str, client: Client = NOBODY, operator: Principal | None = None) -> None:
    """Let the owner of a disabled account in again. May be repeated. Without an operator, a shell did it.

    Raises:
        InvalidEmail, AccountNotFound.
    """
    user_id = await UserRepository(session).set_disabled(canonical_email(email), None)
    if user_id is None:
        raise AccountNotFound
    audit_act(session, Event.ACCOUNT_ENABLED, client=client, user_id=user_id, operator=operator)


async def delete_account(
    auth: Auth, session: Session, principal: Principal, *, client: Client, now: datetime | None = None
) -> None:
    """Delete the user with all login sessions; a job erases what the user's jobs left. The address may register again.

    Raises:
        ReauthenticationRequired: when the sign-in is older than `fresh_sign_in`.
        UserRemoved: another request has just deleted the user.
    """
    await require_fresh(auth, session, principal, now=now)
    if not await UserRepository(session).delete(principal.user_id):
        raise UserRemoved  # guard: test_of_parallel_deletions_of_an_account_one_is_done_and_audited
    audit(session, Event.ACCOUNT_DELETED, client=client, user_id=principal.user_id, session_id=principal.session_id)
    erasure = AccountErasure(user_id=principal.user_id)
    await enqueue(session, erasure)  # guard: test_deleting_an_account_takes_away_what_its_jobs_have_left


async def require_carried(session: Session, address: Address) -> None:
    """Refuse an address that no mail server of ours can send to; holds no connection afterwards.

    Raises:
        AddressNotCarried: the workers have reported it (RFC 6531).
    """
    if address.needs_smtputf8 and await has_smtputf8(session) is False:
        raise AddressNotCarried  # guard: test_an_address_that_no_mail_server_of_ours_carries_is_told_so
    await session.release()  # so that hashing holds no connection


async def _new_user(auth: Auth, *, email: str, password: str, role: Role = Role.USER) -> User:
    address = new_address(email)
    auth.passwords.check_strength(password, email=address.canonical)
    # Hashed before the first statement, so that no connection waits for it.
    password_hash = await auth.passwords.hash(password)
    return User(
        id=new_id(), email=address.written, email_canonical=address.canonical, password_hash=password_hash, role=role
    )


async def _add(session: Session, user: User) -> None:
    await UserRepository(session).add(user, taken=EmailTaken)
    welcome = WelcomeEmail(user_id=user.id)
    await enqueue(session, welcome, owner_id=user.id)  # guard: test_registering_enqueues_a_welcome


async def _add_quietly(auth: Auth, session: Session, user: User, *, client: Client) -> None:
    users = UserRepository(session)
    mail: JobPayload
    # The mail counts towards the address's limit, but is sent even beyond it: without it the account is unusable.
    async with auth.throttle.mail(TokenPurpose.VERIFY_EMAIL.value, user.email_canonical):
        if await users.add_new(user):
            audit(session, Event.REGISTERED, client=client, user_id=user.id)
            mail = OneTimeLink(user_id=user.id, purpose=TokenPurpose.VERIFY_EMAIL)
        else:
            there = await users.credentials_of(user.email_canonical)
            user_id = None if there is None else there.user_id
            mail = RegistrationNotice(user_id=user_id)
            if there is not None and not there.verified:  # guard: test_who_registers_second_gets_the_link_too
                mail = OneTimeLink(user_id=user_id, purpose=TokenPurpose.VERIFY_EMAIL)
        await enqueue(session, mail, unique=ONE_NOTICE)

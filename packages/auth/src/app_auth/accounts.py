"""Accounts: made, changed, deleted."""

from datetime import datetime
from uuid import UUID

import email_validator

from app_auth.auth import Auth
from app_auth.errors import EmailTaken, InvalidCredentials, InvalidEmail, ReauthenticationRequired
from app_auth.principal import Principal
from app_db import Session
from app_db.jobs.catalog import AccountExport, WelcomeEmail
from app_db.jobs.outbox import enqueue
from app_db.models import Role, User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import Credentials, UserRepository
from app_db.types import new_id


def canonical_email(email: str) -> str:
    """Return the form in which two spellings of one address are equal.

    Raises:
        InvalidEmail: when it is no address at all, or longer than the 254 characters of RFC 5321.
    """
    try:
        normal = email_validator.validate_email(email, check_deliverability=False, test_environment=True).normalized
    except email_validator.EmailNotValidError:
        raise InvalidEmail from None
    return normal.casefold()


async def register(auth: Auth, session: Session, *, email: str, password: str, role: Role = Role.USER) -> User:
    """Create an account and, in the same transaction, the job that sends its welcome mail.

    Raises:
        InvalidEmail, PasswordTooShort, PasswordTooLong: before any hash is computed.
        EmailTaken: when the address has an account, in whatever spelling; for N parallel requests, N - 1 times.
        HashingBusy: when the hashing pool is full.
    """
    canonical = canonical_email(email)
    auth.passwords.check_strength(password)
    # Hashed before the first statement, so that no connection waits for it.
    password_hash = await auth.passwords.hash(password)
    user = User(id=new_id(), email=email, email_canonical=canonical, password_hash=password_hash, role=role)
    await UserRepository(session).add(user, taken=EmailTaken)
    welcome = WelcomeEmail(user_id=user.id)
    await enqueue(session, welcome, owner_id=user.id)  # guard: test_registering_enqueues_a_welcome
    return user


async def change_password(
    auth: Auth, session: Session, principal: Principal, *, current_password: str, new_password: str
) -> None:
    """Set a new password and end all other login sessions of the user.

    Raises:
        InvalidCredentials: when `current_password` is wrong.
        PasswordTooShort, PasswordTooLong, HashingBusy.
    """
    auth.passwords.check_strength(new_password)
    users, user_id = UserRepository(session), principal.user_id
    stored = await users.password_hash(user_id)
    await session.release()  # guard: test_a_password_change_holds_no_connection_while_it_hashes
    if not await auth.passwords.verify(current_password, stored):
        raise InvalidCredentials  # guard: test_changing_the_password_needs_the_current_one
    new_hash = await auth.passwords.hash(new_password)
    if stored is None or not await users.replace_password_hash(Credentials(user_id, stored), new_hash):
        raise InvalidCredentials  # guard: test_a_password_change_that_another_has_overtaken_is_refused
    sessions = UserSessionRepository(session)
    await sessions.end_others(user_id, keep=principal.session_id)  # guard: test_a_new_password_ends_other_sessions


async def delete_account(auth: Auth, session: Session, principal: Principal, *, now: datetime) -> None:
    """Delete the user with all their login sessions; the address may register anew.

    Raises:
        ReauthenticationRequired: when the sign-in is older than `fresh_sign_in`.
    """
    if now - principal.signed_in_at > auth.settings.fresh_sign_in:
        raise ReauthenticationRequired  # guard: test_deleting_an_account_needs_a_fresh_sign_in
    await UserRepository(session).delete(principal.user_id)


async def request_export(session: Session, principal: Principal) -> UUID:
    """Enqueue the collection of all that we hold about the user and return the job's id."""
    return await enqueue(session, AccountExport(user_id=principal.user_id), owner_id=principal.user_id)

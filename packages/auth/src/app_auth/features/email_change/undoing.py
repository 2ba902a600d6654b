"""Undoing a change of address, by the link that was mailed to the address before it."""

import secrets
from datetime import datetime

from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import InvalidLink
from app_auth.features.email_change.service import set_email
from app_auth.features.email_change.tokens import undoing
from app_db import Session
from app_db.account_parts import AccountPart
from app_db.features.accounts.payloads import Notice, OneTimeLink, SecurityNotice
from app_db.features.email_change.repository import EmailChangeRepository
from app_db.jobs.outbox import enqueue
from app_db.models import TokenPurpose
from app_db.repositories.account_parts import delete_parts
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import Credentials, UserRepository


async def undo(auth: Auth, session: Session, *, token: str, client: Client, now: datetime | None = None) -> None:
    """Bring a former address back, end all sessions and every way in but the second factor, and ask for a password.

    Works whatever happened since: after a second change this link brings its own address back, and the links of later
    changes die with it, while those of earlier ones stay. So who changes an address twice does not outrun its owner.

    Raises:
        InvalidLink: forged, expired, used, or overtaken by an earlier address; the account is disabled or deleted.
        EmailTaken: another account has proven the address meanwhile.
        Throttled: before anything else.
        HashingBusy: the token can still be used.
    """
    await auth.throttle.one_time(client)  # guard: test_undoing_is_throttled
    changes, users = EmailChangeRepository(session), UserRepository(session)
    former = await changes.get_former(auth.one_time_tokens.parse(token))
    if former is None or not auth.one_time_tokens.equal(undoing(auth.one_time_tokens, former), token):
        raise InvalidLink  # guard: test_a_forged_undoing_is_refused
    user_id, email, canonical = former.user_id, former.email, former.email_canonical
    await session.release()  # guard: test_undoing_holds_no_connection_while_it_hashes
    # The thief may know the password, or have set it: nobody knows this one.
    nobodys = await auth.passwords.hash(secrets.token_urlsafe(32))
    user = await users.locked(user_id)
    if user is None or user.disabled_at is not None:
        raise InvalidLink  # guard: test_the_address_of_a_disabled_account_does_not_come_back
    if not await changes.return_to(user_id, canonical, now=now):
        raise InvalidLink  # guard: test_a_change_is_undone_once
    await set_email(auth, session, user_id, email=email, canonical=canonical, client=client)
    await users.replace_password_hash(
        Credentials(user_id, user.password_hash), nobodys
    )  # guard: test_an_undone_change_takes_the_password_away
    await UserSessionRepository(session).end_all(user_id)  # guard: test_an_undone_change_ends_every_session
    await delete_parts(
        session, user_id, AccountPart.LINK, AccountPart.WAY_IN, AccountPart.KEY
    )  # guard: test_an_undone_change_leaves_no_way_in
    audit(session, Event.EMAIL_CHANGE_UNDONE, client=client, user_id=user_id)
    await enqueue(session, SecurityNotice(user_id=user_id, what=Notice.EMAIL_CHANGE_UNDONE), owner_id=user_id)
    await enqueue(session, OneTimeLink(user_id=user_id, purpose=TokenPurpose.RESET_PASSWORD), owner_id=user_id)

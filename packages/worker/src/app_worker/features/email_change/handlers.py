"""The jobs that mail links about a change of address: to the new one, and to the one before."""

from datetime import timedelta

import structlog

from app_auth.features.email_change.tokens import confirming, undoing
from app_db.clock import database_time
from app_db.features.email_change.payloads import EmailChanged, EmailChangeLink
from app_db.features.email_change.repository import EmailChangeRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.correspondence import mail_to
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


@handles(EmailChangeLink, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_change_link(job: JobContext, payload: EmailChangeLink) -> None:
    """Mail the link that confirms a change. Who has an account with that address is told instead."""
    async with job.transaction() as session:
        users, change = UserRepository(session), await EmailChangeRepository(session).get(payload.change_id)
        user = None if change is None else await users.get(change.user_id)
        there = None if change is None else await users.credentials_of(change.email_canonical)
        owner = None if there is None or not there.verified else await users.get(there.user_id)
        time = await database_time(session)
    if change is None or user is None or time >= change.expires_at:
        log.info("link_not_mailed", because="expired, used, replaced or without an account")
    elif owner is not None:
        await mail_to(job, owner, "address_in_use")  # guard: test_the_owner_of_a_taken_address_is_told_and_gets_no_link
    else:
        link = job.mails.link_to("change-email", confirming(job.mails.one_time_tokens, change))
        await mail_to(job, user, "change_email", to=change.email, link=link)


@handles(EmailChanged, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def tell_former_address(job: JobContext, payload: EmailChanged) -> None:
    """Tell the address before that the account has another one, with the link that undoes it."""
    async with job.transaction() as session:
        former = await EmailChangeRepository(session).get_former(payload.former_id)
        user = None if former is None else await UserRepository(session).get(former.user_id)
    if former is None or user is None:
        log.info("link_not_mailed", because="undone, or without an account")
        return
    link = ""
    if former.can_return:
        link = job.mails.link_to("undo-email-change", undoing(job.mails.one_time_tokens, former))
    await mail_to(job, user, "email_changed", to=former.email, link=link)

"""The jobs of accounts: they send mails, make links, and erase the traces of a deleted account.

Jobs hold ids; the address is read when the mail is sent. Links are made in a job, because the time that a request takes
would show whether there is an account.
"""

from datetime import timedelta
from uuid import UUID

import structlog

from app_db.clock import database_time
from app_db.features.accounts.payloads import (
    AccountErasure,
    OneTimeEmail,
    OneTimeLink,
    RegistrationNotice,
    SecurityNotice,
    WelcomeEmail,
)
from app_db.jobs.erasure import erase_traces, may_leave_traces
from app_db.jobs.outbox import enqueue
from app_db.models import TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext, Snooze
from app_worker.correspondence import mail_to
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)

TEMPLATES = {TokenPurpose.VERIFY_EMAIL: "verify", TokenPurpose.RESET_PASSWORD: "reset"}
MINUTES_TOLD = 120
SOON, LATER = timedelta(seconds=15), timedelta(hours=1)


async def _mail_owner(job: JobContext, user_id: UUID, template: str, **values: str) -> None:
    """Mail the owner of an account; if the account was deleted meanwhile, nobody gets a mail."""
    async with job.transaction() as session:
        user = await UserRepository(session).get(user_id)
    if user is not None:
        await mail_to(job, user, template, **values)


@handles(WelcomeEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_welcome_email(job: JobContext, payload: WelcomeEmail) -> None:
    """Greet a new user."""
    await _mail_owner(job, payload.user_id, "welcome")


@handles(SecurityNotice, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_security_notice(job: JobContext, payload: SecurityNotice) -> None:
    """Tell the owner of an account what happened to it."""
    await _mail_owner(job, payload.user_id, "notice", what=payload.what)


@handles(RegistrationNotice, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_registration_notice(job: JobContext, payload: RegistrationNotice) -> None:
    """Tell the owner of an account that somebody has tried to register with its address."""
    if payload.user_id is None:
        return
    await _mail_owner(job, payload.user_id, "registration")


@handles(OneTimeEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_one_time_link(job: JobContext, payload: OneTimeEmail) -> None:
    """Mail a link, unless it has been used or replaced meanwhile. Each attempt mails the same link (ADR-0028)."""
    async with job.transaction() as session:
        token = await OneTimeTokenRepository(session).get(payload.token_id)
        user = None if token is None else await UserRepository(session).get(token.user_id)
        time = await database_time(session)
    if token is None or user is None or time >= token.expires_at:
        because = "expired" if token is not None and user is not None else "used, replaced or without an account"
        log.info("link_not_mailed", because=because)
        return
    minutes = round((token.expires_at - token.created_at).total_seconds() / 60)
    await mail_to(
        job,
        user,
        TEMPLATES[token.purpose],
        link=job.mails.link(token),
        lifetime=f"{minutes // 60} hours" if minutes > MINUTES_TOLD else f"{minutes} minutes",
    )


@handles(OneTimeLink)
async def make_one_time_link(job: JobContext, payload: OneTimeLink) -> None:
    """Replace the user's token for this purpose by a new one, and enqueue its mail in the same transaction.

    This happens exactly once, so a used link is never made again. A disabled account gets no link, and a verified
    address gets none to verify it.
    """
    # Locked: a concurrent change of the password ends before this, or waits and then deletes this token.
    user = None if payload.user_id is None else await UserRepository(job.session).locked(payload.user_id)
    if user is None or user.disabled_at is not None:
        return
    if payload.purpose is TokenPurpose.VERIFY_EMAIL and user.email_verified_at is not None:
        return
    token = job.mails.one_time_tokens.issue(user, payload.purpose, now=await database_time(job.session))
    await OneTimeTokenRepository(job.session).replace(token)
    await enqueue(job.session, OneTimeEmail(token_id=token.id), owner_id=user.id)


@handles(AccountErasure, mode=Mode.LEASE, timeout=timedelta(minutes=5))
async def erase_account(job: JobContext, payload: AccountErasure) -> None:
    """Erase the errors and results of a deleted account's jobs, in batches; repeat until the last job has ended.

    Results hold the data of exports, and errors the text that a handler of yours has put into an exception.
    """
    # First, so that traces of jobs that end meanwhile are erased as well.
    async with job.transaction() as session:
        running = await may_leave_traces(session, payload.user_id)
    erased = 1
    while erased:
        async with job.transaction() as session:
            erased = await erase_traces(session, payload.user_id)
    if running is not None:
        raise Snooze(SOON if running else LATER)  # guard: test_what_a_job_leaves_after_the_deletion_goes_too

"""Mails. Jobs hold ids; the address is read when the mail is sent."""

from datetime import timedelta

import structlog

from app_db.clock import database_time
from app_db.jobs.catalog import OneTimeEmail, RegistrationNotice, SecurityNotice, WelcomeEmail
from app_db.models import TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.correspondence import mail_to
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)

TEMPLATES = {TokenPurpose.VERIFY_EMAIL: "verify", TokenPurpose.RESET_PASSWORD: "reset"}
MINUTES_TOLD = 120


@handles(WelcomeEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_welcome_email(job: JobContext, payload: WelcomeEmail) -> None:
    """Greet a new user; one who has left meanwhile gets no mail."""
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is not None:
        await mail_to(job, user, "welcome")


@handles(SecurityNotice, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_security_notice(job: JobContext, payload: SecurityNotice) -> None:
    """Tell the owner of an account what happened to it; one who has left meanwhile gets no mail."""
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is not None:
        await mail_to(job, user, "notice", what=payload.what)


@handles(RegistrationNotice, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_registration_notice(job: JobContext, payload: RegistrationNotice) -> None:
    """Tell the owner of an account that somebody has tried to register with its address."""
    if payload.user_id is None:
        return
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is not None:
        await mail_to(job, user, "registration")


@handles(OneTimeEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_one_time_link(job: JobContext, payload: OneTimeEmail) -> None:
    """Mail a link, unless it has been used or replaced meanwhile. Sent again, it is the same link (ADR-0028)."""
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

"""Mails. Jobs hold ids; the address is read when the mail is sent."""

from datetime import timedelta

from app_db.jobs.catalog import SecurityNotice, WelcomeEmail
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.registry import Mode, handles


@handles(WelcomeEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_welcome_email(job: JobContext, payload: WelcomeEmail) -> None:
    """Greet a new user; one who has left meanwhile gets no mail."""
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is not None:
        await job.mails.send("welcome", to=user.email, message_id=str(job.id), email=user.email)


@handles(SecurityNotice, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def send_security_notice(job: JobContext, payload: SecurityNotice) -> None:
    """Tell the owner of an account what happened to it; one who has left meanwhile gets no mail."""
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is not None:
        await job.mails.send("notice", to=user.email, message_id=str(job.id), email=user.email, what=payload.what)

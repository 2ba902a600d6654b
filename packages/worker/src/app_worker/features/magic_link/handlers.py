"""Makes links to sign in with, and mails them."""

from datetime import timedelta

import structlog

from app_auth.features.magic_link.tokens import LIFE, signing_in
from app_db.clock import database_time
from app_db.features.magic_link.models import SignInLink
from app_db.features.magic_link.payloads import SignInLinkEmail, SignInLinkRequest
from app_db.features.magic_link.repository import SignInLinkRepository
from app_db.jobs.outbox import enqueue
from app_db.repositories.users import UserRepository
from app_db.types import new_id
from app_worker.context import JobContext
from app_worker.correspondence import mail_to
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


@handles(SignInLinkRequest)
async def make_sign_in_link(job: JobContext, payload: SignInLinkRequest) -> None:
    """Make a link, and enqueue its mail in the same transaction. A disabled account gets none."""
    # Locked: a concurrent change of the account ends before this, or waits and then deletes this link.
    user = None if payload.user_id is None else await UserRepository(job.session).locked(payload.user_id)
    if user is None or user.disabled_at is not None:
        return
    now = await database_time(job.session)
    link = SignInLink(
        id=new_id(),
        user_id=user.id,
        email_canonical=user.email_canonical,
        binding_digest=payload.binding_digest,
        key_id=job.mails.one_time_tokens.active_key_id,
        created_at=now,
        expires_at=now + LIFE,
    )
    job.session.add(link)
    await enqueue(job.session, SignInLinkEmail(link_id=link.id), owner_id=user.id)


@handles(SignInLinkEmail, mode=Mode.LEASE, timeout=timedelta(seconds=30))
async def mail_sign_in_link(job: JobContext, payload: SignInLinkEmail) -> None:
    """Mail a link, unless it has been used, has expired, or its account has changed meanwhile."""
    async with job.transaction() as session:
        link = await SignInLinkRepository(session).get(payload.link_id)
        user = None if link is None else await UserRepository(session).get(link.user_id)
        time = await database_time(session)
    if link is None or user is None or time >= link.expires_at:
        log.info("link_not_mailed", because="expired, used, or its account has changed")
        return
    token = signing_in(job.mails.one_time_tokens, link)
    await mail_to(job, user, "sign_in_link", link=job.mails.link_to("sign-in", token))

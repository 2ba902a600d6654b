"""Links for the owners of accounts: made here, where nobody waits who could see whether there is an account."""

from app_db.clock import database_time
from app_db.jobs.catalog import OneTimeEmail, OneTimeLink
from app_db.jobs.outbox import enqueue
from app_db.models import TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.registry import handles


@handles(OneTimeLink)
async def make_one_time_link(job: JobContext, payload: OneTimeLink) -> None:
    """Replace the user's token for this purpose by a new one, and enqueue its mail in the same transaction.

    Exactly once, so a link that was used is never made again. There is none for a disabled account, and none that
    verifies an address which is verified.
    """
    # Locked: a password that changes at the same time has killed this token, or is waited for.
    user = None if payload.user_id is None else await UserRepository(job.session).locked(payload.user_id)
    if user is None or user.disabled_at is not None:
        return
    if payload.purpose is TokenPurpose.VERIFY_EMAIL and user.email_verified_at is not None:
        return
    token = job.mails.one_time_tokens.issue(user, payload.purpose, now=await database_time(job.session))
    await OneTimeTokenRepository(job.session).replace(token)
    await enqueue(job.session, OneTimeEmail(token_id=token.id), owner_id=user.id)

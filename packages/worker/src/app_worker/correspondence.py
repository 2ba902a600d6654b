"""Mail to the owner of an account; an account whose mail is refused is marked as undeliverable."""

import structlog

from app_auth.audit import Event, audit
from app_auth.client import NOBODY
from app_db.models import User
from app_db.outage import is_outage
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository
from app_worker.context import Discard, JobContext
from app_worker.mail_errors import MailUnanswered, MailUndeliverable

log = structlog.get_logger(__name__)

MOST_COPIES = 3
"""How many copies of a mail a server gets, at most, if it takes them and never replies."""


async def mail_to(job: JobContext, user: User, template: str, *, to: str | None = None, **values: str) -> None:
    """Send one mail to the owner of an account; all attempts of the job use the same Message-ID.

    If the server refuses the address for good, the account is marked for operators until a server accepts a mail again.
    `to` is an address that the account does not have: whether it can be reached says nothing about the account.

    Raises:
        MailUndeliverable: the recipient or the message was refused for good; the job is discarded.
        Discard: the server has got `MOST_COPIES`, and never replied.
        MailError: the mail was not handed over; a later attempt may succeed.
    """
    try:
        address = to or user.email
        await job.mails.send(template, to=address, message_id=str(job.id), email=address, **values)
    except MailUndeliverable as error:
        if to is not None:
            raise  # guard: test_an_address_that_an_account_does_not_have_marks_no_account
        await _note_undeliverable(job, user, str(error))
        raise
    except MailUnanswered as error:
        if await _unanswered(job) + 1 >= MOST_COPIES:  # guard: test_a_server_that_never_answers_gets_three_copies
            raise Discard(f"{error}; it has got {MOST_COPIES} copies of this mail") from None
        raise
    if to is None and user.undeliverable_at is not None:
        await _note_deliverable(job, user)  # guard: test_an_account_is_reached_again_once_a_mail_is_taken


async def _note_undeliverable(job: JobContext, user: User, because: str) -> None:
    async with job.transaction() as session:
        users = UserRepository(session)
        await users.note_undeliverable(
            user.id, email=user.email_canonical, because=because
        )  # guard: test_an_account_whose_mail_is_refused_is_marked
        if user.undeliverable_because != because:
            audit(session, Event.MAIL_UNDELIVERABLE, client=NOBODY, user_id=user.id, because=because)


async def _note_deliverable(job: JobContext, user: User) -> None:
    try:
        async with job.transaction() as session:
            await UserRepository(session).note_deliverable(user.id, email=user.email_canonical)
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("mail_not_noted")  # the next mail clears the mark; an error here would send this mail again


async def _unanswered(job: JobContext) -> int:
    """Return how many attempts of this job ended without a reply of the server."""
    async with job.transaction() as session:
        errors = await JobRepository(session).errors_of(job.id)
    return sum(MailUnanswered.__name__ in error.error.split(":", 1)[0] for error in errors)

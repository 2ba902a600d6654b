"""What becomes of the jobs that send mail, and of the accounts that they write to."""

from email.message import EmailMessage

from app_db import Database
from app_db.jobs.catalog import WelcomeEmail
from app_db.models import JobState
from app_db.testing.plugin import MakeUser
from app_worker.mail import MemoryMailer
from app_worker.mail_errors import MailUndeliverable, Reply
from app_worker.testing import drain

from .conftest import Jobs


class Refusing(MemoryMailer):
    """A mailer that hands nothing over."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.tries = 0

    async def send(self, message: EmailMessage) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        await super().send(message)


async def test_a_recipient_that_is_refused_for_good_is_not_tried_again(
    jobs: Jobs, database: Database, make_user: MakeUser
) -> None:
    """RFC 5321, 4.2.1: a 5yz is not repeated as it is."""
    user = await make_user(email="ada@example.test")
    delivery = await jobs.enqueue(WelcomeEmail(user_id=user.id))
    mailer = Refusing(MailUndeliverable("RCPT", Reply(550, "5.1.1")))

    await drain(database, mailer=mailer, keep_failures=True)
    await drain(database, mailer=mailer, keep_failures=True, with_scheduled=True)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt, mailer.tries) == (JobState.DISCARDED, 1, 1)

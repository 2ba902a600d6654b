"""Mail: messages are composed from templates, and handed to a Mailer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from typing import Protocol

import jinja2
import structlog

from app_auth.addresses import ascii_domain
from app_auth.errors import InvalidEmail
from app_auth.mail import MailSettings, read_mailbox
from app_auth.one_time import OneTimeTokens
from app_db.models import OneTimeToken, TokenPurpose
from app_runtime.discovery import FeatureError, feature_folders
from app_worker.mail_errors import MailError, MailServerRefuses, MailUndeliverable
from app_worker.settings import CommandSettings
from app_worker.smtp import SmtpMailer
from app_worker.threads import worker_threads
from app_worker.time_limit import own_limits

log = structlog.get_logger(__name__)

PRODUCT = "Groundwork"


def template_folders(package: str) -> list[Path]:
    """Return the folders in which features may have mail templates; some do not exist.

    Raises:
        FeatureError: two templates have the same name.
    """
    folders = [folder / "templates" for folder in feature_folders(package)]
    there: dict[str, Path] = {}
    for template in (template for folder in folders for template in sorted(folder.glob("*.*"))):
        if (other := there.setdefault(template.name, template)) != template:
            raise FeatureError(f"{template}: there is one in {other.parent}: rename one of them")
    return folders


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(template_folders("app_worker.features")),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


class Mailer(Protocol):
    """Hands messages to a mail server."""

    async def send(self, message: EmailMessage) -> None:
        """Hand the message over; when this returns, the server is responsible for the message."""


class ConsoleMailer:
    """Logs messages instead of sending them, where there is no mail server."""

    async def send(self, message: EmailMessage) -> None:
        """Log the message."""
        log.info("mail_printed", to=message["To"], subject=message["Subject"], text=plain_text(message))


def plain_text(message: EmailMessage) -> str:
    """Return the text of a message that compose() has built."""
    body = message.get_body(("plain",))
    assert body is not None, "compose() always sets one"
    text: str = body.get_content()
    return text


class MemoryMailer:
    """Keeps messages, for tests."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []

    async def send(self, message: EmailMessage) -> None:
        """Keep the message."""
        self.sent.append(message)


def open_mailer(settings: MailSettings) -> Mailer:
    """Return the mailer for the scheme of the URL."""
    return ConsoleMailer() if settings.server.scheme == "console" else SmtpMailer(settings)


def _count_nowhere(outcome: str) -> None:
    """Count nothing, in commands and tests."""


_PAGES = {TokenPurpose.VERIFY_EMAIL: "verify", TokenPurpose.RESET_PASSWORD: "reset"}


@dataclass(frozen=True, slots=True)
class Mails:
    """Sends the mails of handlers."""

    mailer: Mailer
    sender: str
    base_url: str
    """The base of all links: from the settings, never from a request."""
    one_time_tokens: OneTimeTokens
    count: Callable[[str], None] = _count_nowhere
    """Called with the outcome of each mail, one of `metrics.MAIL_OUTCOMES`."""

    def link(self, token: OneTimeToken) -> str:
        """Return a link with the token in its fragment, which browsers send to no server.

        Raises:
            InvalidLink: when the key of the token is no longer in the ring.
        """
        return self.link_to(_PAGES[token.purpose], self.one_time_tokens.derive(token))

    def link_to(self, page: str, token: str) -> str:
        """Return a link to one of the pages of links.js, with the token in its fragment."""
        return f"{self.base_url.rstrip('/')}/#/{page}?token={token}"

    async def send(self, template: str, *, to: str, message_id: str, **values: str) -> None:
        """Compose and send one mail; every template gets `base_url` and `product` besides `values`.

        The time does not count for the time limit of the handler, because each step of SMTP has a limit of its own.

        Raises:
            MailError: the mail was not handed over. `MailUndeliverable` discards a job that does not catch it.

        Example:
            @handles(EndSessions, mode=Mode.LEASE)
            async def greet(job: JobContext, payload: EndSessions) -> None:
                async with job.transaction() as session:
                    user = await UserRepository(session).get(payload.user_id)
                if user is not None:
                    await job.mails.send("welcome", to=user.email, message_id=str(job.id), email=user.email)
        """
        values = {"base_url": self.base_url, "product": PRODUCT, **values}
        outcome = "failed"
        try:
            message = compose(template, sender=self.sender, to=to, message_id=message_id, values=values)
            with own_limits(), worker_threads():  # guard: test_a_mail_waits_for_no_thread_of_its_own_kind
                await self.mailer.send(message)
            outcome = "sent"
        except MailError as error:
            outcome = error.outcome
            _log_refusal(error)
            raise
        finally:
            self.count(outcome)


def _log_refusal(error: MailError) -> None:
    """Log an error if the server refuses every mail: all of them wait until an operator mends it."""
    if isinstance(error, MailServerRefuses):
        log.error("mail_server_refuses", cause=str(error))  # guard: test_what_the_server_has_against_us_is_loud


def open_mails(settings: CommandSettings, *, count: Callable[[str], None] = _count_nowhere) -> Mails:
    """Return the `Mails` of these settings."""
    mailer, tokens = open_mailer(settings.mail), OneTimeTokens(settings.auth)
    return Mails(mailer, settings.mail.sender, str(settings.public_base_url), tokens, count)


def compose(template: str, *, sender: str, to: str, message_id: str, values: Mapping[str, str]) -> EmailMessage:
    """Build a message from `<template>.txt`, whose first line is the subject, and `<template>.html`.

    The same `message_id` for every attempt lets mail servers and people recognise a mail that was sent twice.

    Raises:
        MailUndeliverable: no mail can be addressed to `to`.
    """
    subject, _, text = _TEMPLATES.get_template(f"{template}.txt").render(values).partition("\n")
    message = EmailMessage()
    message["From"] = mailbox = read_mailbox(sender)
    message["To"] = _recipient(to)
    message["Subject"] = subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<{message_id}@{mailbox.domain}>"  # RFC 5322, 3.6.4: a domain of ours
    # RFC 3834, 5: automatic replies (away messages) are not sent to such a mail.
    message["Auto-Submitted"] = "auto-generated"  # guard: test_a_mail_says_that_no_person_wrote_it
    message.set_content(text.lstrip("\n"))
    message.add_alternative(_TEMPLATES.get_template(f"{template}.html").render(values), subtype="html")
    return message


def _recipient(address: str) -> Address:
    """Return an address as one mailbox: it cannot add recipients or a header."""
    local, _, domain = address.rpartition("@")
    try:
        dns_domain = ascii_domain(domain)  # guard: test_a_domain_is_mailed_as_dns_knows_it
        return Address(username=local, domain=dns_domain)
    except (InvalidEmail, ValueError):
        raise MailUndeliverable("RCPT", "the address cannot be written down") from None

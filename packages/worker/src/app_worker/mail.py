"""Sending mail: composed from templates, handed to a Mailer."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from functools import partial
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import jinja2
import structlog

from app_auth.addresses import ascii_domain
from app_auth.one_time import OneTimeTokens
from app_db.models import OneTimeToken, TokenPurpose
from app_worker.settings import CommandSettings, MailSettings

log = structlog.get_logger(__name__)

PRODUCT = "Groundwork"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("app_worker"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


class Mailer(Protocol):
    """Delivers a message, or raises."""

    async def send(self, message: EmailMessage) -> None:
        """Hand the message over; returning means that somebody else is responsible for it now."""


class SmtpMailer:
    """One SMTP conversation per message."""

    def __init__(self, settings: MailSettings) -> None:
        url = urlsplit(settings.url.get_secret_value())
        self._connect = partial(
            aiosmtplib.SMTP,
            hostname=url.hostname,
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            timeout=settings.timeout.total_seconds(),
        )

    async def send(self, message: EmailMessage) -> None:
        """Send it.

        Raises:
            aiosmtplib.SMTPException, OSError: when the server refuses it or cannot be reached.
        """
        client = self._connect()
        try:
            await client.connect()
            await client.send_message(message)
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()  # the message is accepted: a failure here must not send it again
        finally:
            client.close()  # without a word: a worker that stops does not wait for a server that is silent


class ConsoleMailer:
    """Logs messages instead of sending them, for whoever runs without a mail server."""

    async def send(self, message: EmailMessage) -> None:
        """Log it."""
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
        """Keep it."""
        self.sent.append(message)


def open_mailer(settings: MailSettings) -> Mailer:
    """Return the mailer that the URL names.

    Raises:
        ValueError: for a scheme that is none of ours.
    """
    match urlsplit(settings.url.get_secret_value()).scheme:
        case "smtp" | "smtps":
            return SmtpMailer(settings)
        case "console":
            return ConsoleMailer()
        case scheme:
            raise ValueError(f"APP_MAIL__URL must start with smtp://, smtps:// or console://, not {scheme}://")


_PAGES = {TokenPurpose.VERIFY_EMAIL: "verify", TokenPurpose.RESET_PASSWORD: "reset"}


@dataclass(frozen=True, slots=True)
class Mails:
    """What handlers send mail with."""

    mailer: Mailer
    sender: str
    base_url: str
    """Where links lead: always from the settings, never from a request."""
    one_time_tokens: OneTimeTokens

    def link(self, token: OneTimeToken) -> str:
        """Return where the token is used: in the fragment, which no server and no log ever sees.

        Raises:
            InvalidLink: when its key is not in the ring any more.
        """
        return f"{self.base_url.rstrip('/')}/#/{_PAGES[token.purpose]}?token={self.one_time_tokens.derive(token)}"

    async def send(self, template: str, *, to: str, message_id: str, **values: str) -> None:
        """Compose and send one mail; every template gets `base_url` and `product` besides `values`."""
        values = {"base_url": self.base_url, "product": PRODUCT, **values}
        await self.mailer.send(compose(template, sender=self.sender, to=to, message_id=message_id, values=values))


def open_mails(settings: CommandSettings) -> Mails:
    """Return what these settings say. Raises ValueError as `open_mailer` does."""
    mailer, tokens = open_mailer(settings.mail), OneTimeTokens(settings.auth)
    return Mails(mailer, settings.mail.sender, str(settings.public_base_url), tokens)


def compose(template: str, *, sender: str, to: str, message_id: str, values: Mapping[str, str]) -> EmailMessage:
    """Build a message from `<template>.txt`, whose first line is the subject, and `<template>.html`.

    The same `message_id` for every attempt lets mail servers and people recognise a mail that was sent twice.
    """
    subject, _, text = _TEMPLATES.get_template(f"{template}.txt").render(values).partition("\n")
    message = EmailMessage()
    message["From"] = sender
    local, _, domain = to.rpartition("@")
    dns_domain = ascii_domain(domain)  # guard: test_a_domain_is_mailed_as_dns_knows_it
    message["To"] = Address(username=local, domain=dns_domain)  # one address, or ValueError: no list, no further header
    message["Subject"] = subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<{message_id}@groundwork>"
    message.set_content(text.lstrip("\n"))
    message.add_alternative(_TEMPLATES.get_template(f"{template}.html").render(values), subtype="html")
    return message

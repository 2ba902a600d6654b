"""The mails to an address, and the links and tokens in them."""

import re
from email.message import EmailMessage
from urllib.parse import parse_qs, urlsplit

from tests.attack.conftest import PUBLIC_BASE_URL
from tests.e2e.processes import MailSink, until

LINK = re.compile(r"https?://\S+")


def mails_to(sink: MailSink, address: str) -> list[EmailMessage]:
    """Return all mails to an address, in upper or lower case, oldest first."""
    return [mail for mail in sink.mails if mail["To"].casefold() == address.casefold()]


async def told(sink: MailSink, address: str, subject: str) -> None:
    """Wait for a mail with this in its subject."""
    await until(lambda: any(subject in mail["Subject"] for mail in mails_to(sink, address)), f"{address} was told")


def links_to(sink: MailSink, address: str) -> list[str]:
    """Return all links in all mails to an address, oldest first."""
    texts = [mail.get_body(("plain",)) for mail in mails_to(sink, address)]
    return [link for text in texts if text for link in LINK.findall(text.get_content())]


async def token_mailed_to(sink: MailSink, address: str, action: str, *, number: int = 1) -> str:
    """Wait for the `number`th mail with a link to verify or to reset, and return its token."""

    def links() -> list[str]:
        return [link for link in links_to(sink, address) if action in link and "token=" in link]

    await until(lambda: len(links()) >= number, f"{number} links to {action} were mailed to {address}")
    link = links()[number - 1]
    assert link.startswith(PUBLIC_BASE_URL)
    return parse_qs(urlsplit(link).fragment.partition("?")[2])["token"][0]

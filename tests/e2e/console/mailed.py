"""Links in mails to a person of the console, and pages that they lead to."""

import re

from playwright.async_api import Page

from tests.e2e.console.site import ConsoleSite
from tests.e2e.processes import MailSink, until


async def link_to(sink: MailSink, address: str, page: str) -> str:
    """Wait for a mail with a link to this page of links.js, and return what is behind its host."""

    def found() -> list[str]:
        texts = [mail.get_body(("plain",)).get_content() for mail in sink.to(address)]  # type: ignore[union-attr]  # ours have one
        return [link for text in texts for link in re.findall(rf"#/{page}\?token=\S+", text)]

    await until(lambda: bool(found()), f"a link to {page} was mailed to {address}")
    return found()[-1]


async def press(page: Page, console: ConsoleSite, link: str, button: str) -> None:
    """Open a mailed link, and press its button."""
    await page.goto(f"{console.base}/links{link}")
    await page.get_by_role("button", name=button).click()

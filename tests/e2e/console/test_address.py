"""Changing an address, undoing it, signing in by a mailed link: in a real browser, with the mails of a real worker."""

import re

from playwright.async_api import Page, expect

from tests.e2e.processes import MailSink, Worker, until

from .site import ADA, ConsoleSite

NEW = "lovelace@example.com"


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


async def test_an_address_is_changed_and_brought_back_and_a_link_signs_in(
    console: ConsoleSite, worker: Worker, mail_sink: MailSink
) -> None:
    async with console.visit("/account", email=ADA) as seen:
        page = seen.page
        await page.get_by_role("link", name="Change the address…").click()
        await page.get_by_label("New e-mail address").fill(NEW)
        await page.get_by_role("button", name="Send the link").click()
        await page.get_by_label("Link in the mail").fill(await link_to(mail_sink, NEW, "change-email"))
        await page.get_by_role("button", name="Change the address").click()
        await expect(page.get_by_role("status")).to_contain_text("Your address is changed")
        await expect(page.locator("dl.facts")).to_contain_text(NEW)

        await press(page, console, await link_to(mail_sink, ADA, "undo-email-change"), "Bring this address back")
        await expect(page.locator("#message")).to_contain_text("Your account has this address again")

        await page.goto(f"{console.url}/sign-in")
        await page.get_by_role("link", name="Sign in by a mailed link").click()
        await page.get_by_label("E-mail address").fill(ADA)
        await page.get_by_role("button", name="Mail me a link").click()
        await press(page, console, await link_to(mail_sink, ADA, "sign-in"), "Sign in")
        await page.wait_for_url(f"{console.url}/**")
        await page.goto(f"{console.url}/account")
        await expect(page.locator("dl.facts")).to_contain_text(ADA)
        assert seen.faults == []

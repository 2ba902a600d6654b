"""Changing an address, and undoing it: in a real browser, with the mails of a real worker."""

from playwright.async_api import expect

from tests.e2e.console.mailed import link_to, press
from tests.e2e.console.site import ADA, ConsoleSite
from tests.e2e.processes import MailSink, Worker

NEW = "lovelace@example.com"


async def test_an_address_is_changed_and_brought_back(
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
        assert seen.faults == []

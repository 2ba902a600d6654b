"""Signing in by a mailed link, in a real browser, with the mail of a real worker."""

from playwright.async_api import expect

from tests.e2e.console.mailed import link_to, press
from tests.e2e.console.site import ADA, ConsoleSite
from tests.e2e.processes import MailSink, Worker


async def test_a_mailed_link_signs_in(console: ConsoleSite, worker: Worker, mail_sink: MailSink) -> None:
    async with console.visit("/sign-in") as seen:
        page = seen.page
        await page.get_by_role("link", name="Sign in by a mailed link").click()
        await page.get_by_label("E-mail address").fill(ADA)
        await page.get_by_role("button", name="Mail me a link").click()
        await press(page, console, await link_to(mail_sink, ADA, "sign-in"), "Sign in")
        await page.wait_for_url(f"{console.url}/**")
        await page.goto(f"{console.url}/account")
        await expect(page.locator("dl.facts")).to_contain_text(ADA)
        assert seen.faults == []

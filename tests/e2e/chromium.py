"""Pages in Debian's Chromium, driven by Playwright: what they ask for, what goes wrong, and whom they shut out."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

INSTALL = "these tests need Chromium: `apt-get install chromium`, or `chromium` on the PATH"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PATIENCE = 45_000
"""Milliseconds that a page may take: Playwright's own five seconds would judge how busy the machine is."""


@asynccontextmanager
async def open_chromium(*, keeps_pages: bool = False, host: str | None = None) -> AsyncIterator[Browser]:
    """Start Chromium; with `keeps_pages` its back-forward cache is on, which Playwright turns off.

    With a `host` it finds that name on this machine, and no other host at all.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, INSTALL
    off = ["--disable-back-forward-cache"] if keeps_pages else None
    options = ["--no-sandbox"]  # its pages are ours, and containers run as root
    if host:
        options.append(f"--host-resolver-rules=MAP {host} 127.0.0.1, MAP * ~NOTFOUND")
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=options, ignore_default_args=off)
        yield browser
        await browser.close()


class Watched:
    """A page: `requests` that its policy let through, and `faults`: other hosts, errors, violations of its policy."""

    def __init__(self, page: Page, *, base: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)
        self.base = base
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self._ask(request.url))
        page.on(
            "requestfailed", lambda request: self.requests.remove(request.url) if request.failure == "csp" else None
        )

    def _ask(self, url: str) -> None:
        self.requests.append(url)
        if not url.startswith((self.base, "data:", "blob:")):
            self.faults.append(url)

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.faults.append(text)


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds against the rules of WCAG 2.2 AA on the page as it is."""
    found: Any = await Axe().run(page, options=RULES)  # Any: JSON
    return [f"{rule['id']}: {node['html']}" for rule in found.response["violations"] for node in rule["nodes"]]

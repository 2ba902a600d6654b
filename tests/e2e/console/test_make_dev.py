"""`make dev`, and the console by hand: from a registration to a job that failed, was edited and is run again."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from app_runtime.testing.processes import free_port
from tests.e2e.chromium import Watched
from tests.e2e.launcher import Launcher, copied_for_dev, run_beside

from .site import ADA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD = "correct horse battery staple"
PATIENCE = 90_000
MUCH = f"""
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, state, finished_at, attempt)
    SELECT uuidv7(), users.id, 'email.notice', '{{}}', 1, 'completed', now(), 1
    FROM users, generate_series(1, 250000) WHERE email = '{ADA}';
"""
OF_A_RELEASE_BEFORE = """
    INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at, max_attempts)
    VALUES (uuidv7(), 'email.welcome', '{"user": "ada"}', 1, 'available', now(), 1);
    NOTIFY jobs;
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with copied_for_dev(tmp_path_factory.mktemp("dev") / "checkout") as copy:
        yield copy


@pytest.fixture(scope="module")
def dev(checkout: Path) -> Iterator[Launcher]:
    """`make dev`, which lets in only who has confirmed the address."""
    dev = Launcher(checkout, port=free_port(), APP_AUTH__VERIFICATION="on")
    dev.expect_start()
    yield dev
    dev.stop()
    assert dev.process.stdout
    dev.process.stdout.close()


async def register(page: Page, dev: Launcher, console: str) -> None:
    """Register in the console, verify by the mail that was caught, and sign in."""
    await page.goto(f"{console}/register")
    await page.get_by_label("E-mail address").fill(ADA)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Register").click()
    dev.expect(r"/#/verify\?token=\S+")
    link = re.findall(r"http://\S+/#/verify\?token=\S+", dev.output)[-1]
    await page.goto(f"{console}/verify")
    await page.get_by_label("Link").fill(link)
    await page.get_by_label("Your password").fill(PASSWORD)
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.get_by_role("status")).to_be_visible()
    await sign_in(page, console)


async def sign_in(page: Page, console: str, *, to: str = "/account") -> None:
    """Open a page, by way of the sign-in."""
    await page.goto(f"{console}{to}")
    await page.get_by_label("E-mail address").fill(ADA)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{console}{to}")


async def test_an_export_goes_on_in_the_browser_although_its_worker_was_killed(
    dev: Launcher, checkout: Path, chromium: Browser
) -> None:
    console = f"http://localhost:{dev.port}/console"
    context = await chromium.new_context()
    page = await context.new_page()
    await register(page, dev, console)
    assert run_beside(checkout, "psql", typed=MUCH).returncode == 0
    await page.goto(f"{console}/export")

    await page.get_by_role("button", name="Start an export").click()
    await page.evaluate("window.stays = true")
    await expect(page.get_by_text("now: jobs")).to_be_visible(timeout=PATIENCE)
    *_, (worker, _since) = json.loads((checkout / ".data/lock").read_text())
    os.kill(worker, signal.SIGKILL)

    await expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=PATIENCE)
    assert "The worker was killed, and is started again" in dev.output
    assert await page.evaluate("window.stays")
    await context.close()


async def test_a_change_of_the_code_reloads_the_api_at_once_and_the_page_comes_back(
    dev: Launcher, checkout: Path, chromium: Browser
) -> None:
    """Needs the account and the export of the test before."""
    context = await chromium.new_context()
    page = await context.new_page()
    async with page.expect_response("**/console/live?**"):
        await sign_in(page, f"http://localhost:{dev.port}/console", to="/export")
    await page.evaluate("window.stays = true")
    source = checkout / "packages/api/src/app_api/app.py"

    async with page.expect_response("**/console/live?**", timeout=PATIENCE):
        source.write_text(source.read_text() + "# changed\n")

    assert dev.output.count("api_started") == 2
    assert "timeout graceful shutdown exceeded" not in dev.output
    assert await page.evaluate("window.stays")
    await context.close()


async def test_a_job_that_fails_is_found_in_two_clicks_edited_and_run_again(
    dev: Launcher, checkout: Path, chromium: Browser
) -> None:
    """Needs the account of the test before."""
    console = f"http://localhost:{dev.port}/console"
    [granted] = re.findall(r'make api ARGS="(operator grant) ADDRESS"', dev.output)
    assert run_beside(checkout, "api", f"--arguments={granted} {ADA}").returncode == 0
    assert run_beside(checkout, "psql", typed=OF_A_RELEASE_BEFORE).returncode == 0
    user_id = run_beside(checkout, "psql", typed="SELECT 'id=' || id FROM users;").stdout.partition("id=")[2].split()[0]
    context = await chromium.new_context()
    seen = Watched(await context.new_page(), base=f"http://localhost:{dev.port}")
    page = seen.page
    await sign_in(page, console, to="/overview")

    await page.get_by_role("link", name="user_id").click(timeout=PATIENCE)
    await expect(page.get_by_text("Traceback").first).to_be_visible()
    await page.get_by_role("link", name="Run again as a new job").click()
    await page.get_by_label("Payload (JSON)").fill(json.dumps({"user_id": user_id}))
    await page.get_by_role("button", name="Enqueue").click()

    await expect(page.locator(".timeline").get_by_text("Completed")).to_be_visible(timeout=PATIENCE)
    assert seen.faults == []
    await context.close()

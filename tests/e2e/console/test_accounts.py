"""Accounts, Account and Audit in a real browser: somebody is found, locked out, let in, and the audit taken home."""

import csv
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from sqlalchemy import func, select, update

from app_db import Database
from app_db.models import AuditEvent, Role, User, UserSession
from app_db.types import new_id
from tests.e2e.conftest import StartWorker

from .site import ADA, EVIL, OPERATOR, VIEWS, ConsoleSite, require_usable


@pytest_asyncio.fixture(loop_scope="session")
async def ada_id(console: ConsoleSite, database: Database) -> UUID:
    """The id of Ada's account, which has a session and events with texts of strangers; OPERATOR is an operator."""
    await console.register(OPERATOR)
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.email == OPERATOR).values(role=Role.OPERATOR))
        user_id = (await session.scalars(select(User.id).where(User.email == ADA))).one()
        far = func.now() + func.make_interval(0, 0, 0, 1)
        living = {"refresh_key_id": "1", "idle_expires_at": far, "expires_at": far}
        session.add(UserSession(id=new_id(), user_id=user_id, user_agent=EVIL, client_address="192.0.2.1", **living))
        session.add(AuditEvent(id=new_id(), event="sign_in_failed", user_id=user_id, details={EVIL: f"={EVIL}"}))
    return user_id


async def open_ada(page: Page) -> None:
    """Find her by the beginning of her address: two clicks from the navigation."""
    await page.get_by_role("link", name="Accounts").click()
    await page.get_by_label("Address begins with").fill("ADA@")
    await page.get_by_role("button", name="Filter").click()
    await page.get_by_role("link", name=ADA).click()
    await expect(page.get_by_role("heading", name=ADA)).to_be_visible()


async def test_an_account_is_found_locked_out_and_let_in_without_javascript(console: ConsoleSite, ada_id: UUID) -> None:
    async with console.visit("/overview", email=OPERATOR, java_script_enabled=False) as seen:
        page = seen.page
        said = page.get_by_role("status")
        await open_ada(page)
        await page.get_by_role("button", name="Send a reset link").click()
        await expect(said).to_have_text("A link for a new password is on its way.")
        await expect(page.get_by_role("region", name="Mails").get_by_text("account.link")).to_be_visible()
        await page.get_by_role("button", name="End the session of").click()
        await expect(page.get_by_text("It is signed in nowhere.")).to_be_visible()
        await page.get_by_role("link", name="Accounts").first.click()
        await page.get_by_text(f"Act on {ADA}").click()
        await page.get_by_role("row", name=ADA).get_by_role("button", name="End all sessions").click()
        await expect(said).to_have_text("All sessions of the account are ended.")
        await page.get_by_label("Role").select_option("operator")
        await page.get_by_role("button", name="Change").click()
        await expect(said).to_have_text("The role counts from the next request on.")
        await page.get_by_role("button", name="Disable").click()
        await expect(said).to_have_text("The account is disabled and signed out.")
        await page.get_by_role("button", name="Enable").click()
        await expect(said).to_have_text("The account is enabled.")
        await expect(page.get_by_role("region", name="Audit").get_by_text("an operator")).to_have_count(6)

        await page.get_by_role("link", name="All events").click()
        await page.get_by_label("Event", exact=True).select_option("role_changed")
        await page.get_by_role("button", name="Filter").click()
        events = page.get_by_role("region", name="Events")
        await expect(events.get_by_role("link", name=OPERATOR)).to_have_count(1)
        assert str(ada_id) in page.url
        assert seen.faults == []


async def test_the_audit_is_exported_and_followed_until_it_can_be_downloaded(
    console: ConsoleSite, ada_id: UUID, start_worker: StartWorker
) -> None:
    async with console.visit("/audit", email=OPERATOR) as seen:
        page = seen.page
        await page.get_by_label("Account").fill(ADA)
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("button", name="Export what matches as CSV").click()
        await expect(page.get_by_text("Waiting for a worker")).to_be_visible()

        start_worker()

        await expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=60_000)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        file = await (await download.value).path()
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert {(row["account"], row["account_id"]) for row in rows} == {(ADA, str(ada_id))}
        assert [row["event"] for row in rows] == ["audit_exported", "sign_in_failed", "registered"]
        assert seen.faults == []


@pytest.mark.parametrize("options", VIEWS)
async def test_every_page_of_accounts_fits_and_can_be_used_by_everybody(
    console: ConsoleSite, ada_id: UUID, options: dict[str, Any]
) -> None:
    async with console.visit("/accounts", email=OPERATOR, **options) as seen:
        found = ("accounts", "accounts?address=nobody&state=disabled", f"accounts/{ada_id}")
        for path in (*found, "audit", "audit?event=signed_in&until=2026-01-01", "audit/export"):
            await seen.page.goto(f"{console.url}/{path}")

            await require_usable(seen.page)
            assert EVIL not in await seen.page.content(), path
        assert seen.faults == []


async def test_open_pages_of_accounts_follow_what_happens_and_keep_what_was_chosen(
    console: ConsoleSite, ada_id: UUID, database: Database
) -> None:
    async with console.visit("/audit", email=OPERATOR) as seen:
        page = seen.page
        async with database.unit_of_work() as session:
            session.add(AuditEvent(id=new_id(), event="signed_in", user_id=ada_id))
        await expect(page.get_by_role("link", name="1 newer event matches: show")).to_be_visible()

        await open_ada(page)
        await page.get_by_label("Role").select_option("operator")
        end = page.get_by_role("button", name="End the session of")
        await end.focus()
        async with database.unit_of_work() as session:
            session.add(AuditEvent(id=new_id(), event="role_changed", user_id=ada_id))
            await session.execute(update(User).where(User.id == ada_id).values(disabled_at=func.now()))

        await expect(page.get_by_role("region", name="Audit").get_by_text("role changed")).to_be_visible()
        await expect(page.get_by_text("Disabled", exact=True)).to_be_visible()
        await expect(end).to_be_focused()
        await expect(page.get_by_label("Role")).to_have_value("operator")
        assert seen.faults == []

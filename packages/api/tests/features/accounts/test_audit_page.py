"""Audit: events found by a filter, with the accounts behind them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from app_api.features.accounts import operator_audit_pages as audit
from app_api.lifespan import State
from app_auth.testing import Account
from app_db import Database
from app_db.models import AuditEvent
from app_db.testing.queries import assert_queries
from app_db.types import first_id_at, new_id
from packages.api.tests.conftest import Browser

EVIL = "<script>alert(1)</script>"
ROW = '<th scope="row">'
EVE = new_id()


def at(time: datetime) -> UUID:
    """Return an id of that time."""
    return UUID(int=first_id_at(time).int | 7)


@pytest_asyncio.fixture(loop_scope="session")
async def events(operator_browser: Browser, database: Database, ada: Account) -> None:
    """Five events, and no others."""
    day = datetime(2026, 11, 20, tzinfo=UTC)
    last = day + timedelta(hours=23, minutes=59, seconds=59)
    about: list[dict[str, Any]] = [
        {"event": "signed_in", "user_id": ada.id, "client_address": "2001:db8::1"},
        {"event": "sign_in_failed", "client_address": "192.0.2.1", "details": {EVIL: EVIL}},
        {"event": "role_changed", "user_id": ada.id, "actor_id": EVE, "request_id": EVIL},
        {"event": "account_deleted", "user_id": EVE, "id": at(last), "happened_at": last},
        {"event": "registered", "user_id": EVE, "id": at(day), "happened_at": day},
    ]
    async with database.unit_of_work() as session:
        await session.execute(text("DELETE FROM audit_events"))
        session.add_all([AuditEvent(**{"id": new_id(), **columns}) for columns in about])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 5), ({"event": "signed_in"}, 1), ({"event": ""}, 5), ({"account": "ada"}, 2), ({"by": str(EVE)}, 1),
        ({"account": str(EVE)}, 2), ({"account": "nobody@example.com"}, 0), ({"account": "no address"}, 0),
        ({"client": " 2001:DB8:0::1"}, 1), ({"client": "192.0.2.1", "event": "signed_in"}, 0),
        ({"client": EVIL}, 0), ({"since": "2026-11-21"}, 3), ({"until": "2026-11-20"}, 2),
        ({"since": "2026-11-20T00:01", "until": "2026-11-20T23:59"}, 1), ({"until": "2026-11-20T00:00"}, 1),
        ({"account": "ada", "event": "role_changed", "since": "2026-11-20"}, 1),
    ],
)  # fmt: skip
async def test_the_last_minute_and_the_last_day_count(
    operator_browser: Browser, events: None, ada: Account, query: dict[str, str], found: int
) -> None:
    """And all else that the address bar holds."""
    query = {name: ada.email if value == "ada" else value for name, value in query.items()}

    page = (await operator_browser.get(f"/console/audit?{urlencode(query)}")).text

    assert page.count(ROW) == found
    assert ("No event matches" in page) == (found == 0)
    assert EVIL not in page


@pytest.mark.parametrize("query", ["since=yesterday", "until=0001-01-01", "since=9999-12-31T23:59", "event=misspelt"])
async def test_a_filter_that_means_nothing_is_refused(operator_browser: Browser, query: str) -> None:
    assert (await operator_browser.get(f"/console/audit?{query}")).status_code == 422


async def test_the_accounts_behind_events_are_named(
    operator_browser: Browser, events: None, ada: Account, state: State
) -> None:
    with assert_queries(state["database"], max=3):
        page = (await operator_browser.get("/console/audit")).text

    assert page.count(f">{ada.email}</a>") == 2
    assert f"gone: {EVE}" in page
    assert page.count("&lt;script&gt;") == 3
    assert 'value="2026-11-20T23:59"' in (await operator_browser.get("/console/audit?until=2026-11-20")).text


async def test_pages_of_the_audit_follow_each_other_with_the_filter(
    operator_browser: Browser, events: None, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PER_PAGE", 1)

    first = (await operator_browser.get(f"/console/audit?{urlencode({'account': ada.email})}")).text
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = (await operator_browser.get(link)).text

    assert "account=ada" in link or "account=account" in link
    assert ("role changed</a>" in first, "signed in</a>" in second, "Newest" in second) == (True, True, True)

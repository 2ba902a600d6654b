"""What the open pages of accounts and of the audit are sent."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, text, update

from app_api.features.accounts import operator_account_pages
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.models import AuditEvent, JobState, User
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import Browser, MakeJob, OpenBrowser
from packages.api.tests.console.live_parts import marks_of, texts_of

EVIL = "<script>alert(1)</script>"


async def add_event(database: Database, **columns: object) -> UUID:
    async with database.unit_of_work() as session:
        event = AuditEvent(**{"id": new_id(), "event": "signed_in", **columns})
        session.add(event)
        return event.id


async def test_the_rows_of_accounts_are_followed_for_all_pages_by_one_query(
    app: FastAPI, database: Database, operator_browser: Browser, ada: Account, make_account: MakeAccount
) -> None:
    gone = await make_account()
    [mark] = marks_of((await operator_browser.get("/console/accounts")).text)
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == ada.id).values(disabled_at=utcnow()))
        await session.execute(delete(User).where(User.id == gone.id))

    others = [f"account-rows:{ada.id}", "account-rows:", "account-rows:x,y"]
    with assert_queries(database, max=1):
        texts = await texts_of(app, database, mark, *others)

    assert mark.count(",") == 2
    assert ada.email in texts[mark]
    assert "disabled" in texts[mark]
    assert "This account has been deleted" in texts[mark]
    assert texts[others[0]].count("disabled") == 1
    assert 'scope="row"' not in texts[others[1]] + texts[others[2]]


async def test_accounts_are_followed_for_all_pages_by_four_queries(
    app: FastAPI, database: Database, operator_browser: Browser, make_job: MakeJob, ada: Account,
    make_account: MakeAccount, open_browser: OpenBrowser,
) -> None:  # fmt: skip
    eve = await make_account()
    pages = [(await operator_browser.get(f"/console/accounts/{one.id}")).text for one in (ada, eve)]
    for account in (ada, eve, eve):
        await open_browser().sign_in(account)
    job = await make_job(JobState.EXECUTING, owner_id=ada.id, kind=EVIL, progress={"done": 1, "of": 4})
    mail = await make_job(owner_id=eve.id, kind=WelcomeEmail.kind)
    async with database.unit_of_work() as session:
        expired = text("UPDATE user_sessions SET idle_expires_at = now() WHERE user_id = :id")
        await session.execute(expired, {"id": ada.id})
        await session.execute(update(User).where(User.id == eve.id).values(disabled_at=utcnow()))
    for number in range(11):
        await add_event(database, event=f"event_{number:02}", user_id=ada.id, details={"by": EVIL})

    facts, live, facts_of_eve, live_of_eve = marks = [mark for page in pages for mark in marks_of(page)]
    with assert_queries(database, max=4):
        texts = await texts_of(app, database, *marks, "account:x", f"account-facts:{new_id()}")

    assert set(texts) == set(marks)
    assert "Disabled" in texts[facts_of_eve]
    assert "Disabled" not in texts[facts]
    assert ("signed in nowhere" in texts[live], texts[live_of_eve].count("Last used")) == (True, 1)
    assert texts[live_of_eve].count('/end"') == 3  # two sessions, and all
    assert (str(job) in texts[live], str(mail) in texts[live]) == (True, False)
    assert str(mail) in texts[live_of_eve].partition("<h2>Jobs")[0]
    assert ("event 10" in texts[live], "event 00" in texts[live]) == (True, False)
    assert texts[live].index("event 10") < texts[live].index("event 09")
    assert 'value="25"' in texts[live]
    assert EVIL not in texts[live]


async def test_of_too_many_accounts_some_are_followed(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch, ada: Account, make_account: MakeAccount
) -> None:
    monkeypatch.setattr(operator_account_pages, "MOST_FOLLOWED", 1)
    first, second = sorted([ada.id, (await make_account()).id])

    texts = await texts_of(app, database, f"account:{second}", f"account:{first}", f"account-facts:{first}")

    assert set(texts) == {f"account:{first}", f"account-facts:{first}"}


async def test_newer_events_are_counted_for_all_filters_by_one_query(
    app: FastAPI, database: Database, operator_browser: Browser, ada: Account
) -> None:
    async def mark_of(query: str) -> str:
        [mark] = marks_of((await operator_browser.get(f"/console/audit?{query}")).text)
        return mark

    queries = [
        "", f"account={ada.email}", f"by={ada.id}", "client=192.0.2.1", "event=signed_in", "account=no+one",
        "since=9998-01-01", "until=2020-01-01", "since=2020-01-01&until=9998-01-01", "event=registered",
    ]  # fmt: skip
    marks = [await mark_of(query) for query in queries]
    for columns in ({"user_id": ada.id}, {"actor_id": ada.id}, {"client_address": "192.0.2.1", "event": "other"}):
        await add_event(database, **columns)

    wrong = ["newer-events:", "newer-events:first=1", f"newer-events:event=none&first={new_id()}"]
    with assert_queries(database, max=1):
        texts = await texts_of(app, database, *marks, *wrong)

    shown = [texts[mark].split(">")[1].split(" match")[0] if texts[mark].strip() else "" for mark in marks]
    assert shown == [
        "3 newer events", "1 newer event", "1 newer event", "1 newer event", "2 newer events", "", "", "",
        "3 newer events", "",
    ]  # fmt: skip
    assert f'/console/audit?account={ada.id}"' in texts[marks[1]]
    assert set(texts) == set(marks)


async def test_an_audit_without_events_says_when_there_are_some(
    app: FastAPI, database: Database, operator_browser: Browser
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(text("DELETE FROM audit_events"))
    [mark] = marks_of((await operator_browser.get("/console/audit")).text)
    event = await add_event(database, happened_at=datetime.now(UTC))

    assert "1 newer event matches" in (await texts_of(app, database, mark))[mark]
    [mark] = marks_of((await operator_browser.get("/console/audit")).text)
    assert mark == f"newer-events:first={event}"

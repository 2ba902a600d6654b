"""Accounts and Account: found by a filter, and acted on by operators."""

from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import select, text, update

from app_api.features.accounts import operator_pages as accounts
from app_api.lifespan import State
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.models import AuditEvent, JobState, Role, User, UserSession
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import Browser, MakeJob, OpenBrowser

EVIL = "<script>alert(1)</script>"
ROW = '<th scope="row"><a class="long"'


@pytest_asyncio.fixture(loop_scope="session")
async def page_of(operator_browser: Browser, ada: Account) -> str:
    """The address of the page of Ada's account."""
    return f"/console/accounts/{ada.id}"


async def change(database: Database, account: Account, **values: object) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == account.id).values(**values))


async def user_of(database: Database, account: Account) -> User:
    async with database.unit_of_work(read_only=True) as session:
        return await session.get_one(User, account.id)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 4), ({"address": " ADA@"}, 1), ({"address": "ada_"}, 0), ({"address": "nobody"}, 0),
        ({"address": "\u00e4%"}, 0),
        ({"state": "verified"}, 3), ({"state": "unverified"}, 1), ({"state": "disabled"}, 1), ({"state": ""}, 4),
        ({"state": "undeliverable"}, 1), ({"role": "operator"}, 1), ({"role": "user", "state": "disabled"}, 1),
        ({"signed_in": "1d"}, 1), ({"signed_in": "30d"}, 1), ({"signed_in": "older-30d"}, 1),
        ({"signed_in": "never"}, 2), ({"signed_in": "never", "address": "ada@"}, 1),
    ],
)  # fmt: skip
async def test_the_address_bar_holds_the_filter_of_accounts(
    operator_browser: Browser, make_account: MakeAccount, database: Database, query: dict[str, str], found: int
) -> None:
    await make_account(email="ada@example.test")
    away, new = await make_account(email="adam@example.test"), await make_account()
    await change(database, away, signed_in_at=utcnow() - timedelta(days=60), disabled_at=utcnow())
    await change(database, new, email_verified_at=None, undeliverable_at=utcnow())

    page = (await operator_browser.get(f"/console/accounts?{urlencode(query)}")).text

    assert page.count(ROW) == found
    assert ("No account matches" in page) == (found == 0)


async def test_pages_of_accounts_follow_each_other_with_the_filter(
    operator_browser: Browser, make_account: MakeAccount, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    monkeypatch.setattr(accounts, "PER_PAGE", 2)
    for _ in range(3):
        await make_account()

    for query, rows in (("role=user", (2, 1)), ("signed_in=never", (2, 1))):
        with assert_queries(state["database"], max=3):
            first = (await operator_browser.get(f"/console/accounts?{query}")).text
        link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
        second = (await operator_browser.get(link)).text

        assert query in link
        assert (first.count(ROW), second.count(ROW)) == rows
        assert "First page" in second


async def test_a_beginning_that_is_too_frequent_asks_for_more_of_it(
    operator_browser: Browser, database: Database
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(
            text("""
            INSERT INTO users (id, email, email_canonical, password_hash)
            SELECT uuidv7(), 'x' || number, 'x' || number, '' FROM generate_series(1, 1001) AS number
        """)
        )

    assert "Type more of the address" in (await operator_browser.get("/console/accounts?address=x")).text
    assert "Type more of the address" not in (await operator_browser.get("/console/accounts?address=x9")).text


async def test_the_page_of_an_account_shows_all_about_it_in_four_queries(
    operator_browser: Browser, make_job: MakeJob, ada: Account, page_of: str, open_browser: OpenBrowser, state: State,
    database: Database,
) -> None:  # fmt: skip
    browser = open_browser()
    browser.client.headers["User-Agent"] = EVIL
    await browser.sign_in(ada)
    mail = await make_job(JobState.EXECUTING, owner_id=ada.id, kind=WelcomeEmail.kind, progress={"done": 1, "of": 2})
    job = await make_job(JobState.DISCARDED, owner_id=ada.id, kind=EVIL)
    await make_job(owner_id=new_id())
    async with database.unit_of_work() as session:
        event = AuditEvent(id=new_id(), event=EVIL, user_id=ada.id, actor_id=new_id(), details={EVIL: EVIL})
        session.add_all([event, AuditEvent(id=new_id(), event="x", user_id=ada.id, details={"by": "shell"})])

    with assert_queries(state["database"], max=5):  # one of them says who asks
        page = (await operator_browser.get(page_of)).text

    mails, _, others = page.partition("<h2>Jobs</h2>")
    assert str(mail) in mails
    assert str(job) not in mails
    assert str(job) in others
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 5
    assert all(words in page for words in (ada.email, "an operator", "a shell", "signed in", "All events"))


async def test_an_account_without_anything_says_so(
    operator_browser: Browser, make_job: MakeJob, ada: Account, page_of: str, database: Database
) -> None:
    await change(
        database, ada, undeliverable_at=utcnow(), undeliverable_because=EVIL, disabled_at=utcnow(),
        email_verified_at=None,
    )  # fmt: skip

    page = (await operator_browser.get(page_of)).text

    assert all(words in page for words in ("signed in nowhere", "No mail was queued", "no other jobs", "not yet"))
    assert "&lt;script&gt;" in page
    assert "Enable</button>" in page


@pytest.mark.parametrize(
    ("act", "fields", "done", "event"),
    [
        ("disable", {}, "disabled and signed out", "account_disabled"),
        ("role", {"role": "operator"}, "counts from the next request on", "role_changed"),
        ("send-reset-link", {}, "is on its way", "password_reset_requested"),
        ("sessions/end", {}, "All sessions of the account are ended", "sessions_revoked"),
    ],
)
async def test_an_operator_acts_on_an_account(
    operator_browser: Browser, page_of: str, database: Database, ada: Account, act: str, fields: dict[str, str],
    done: str, event: str,
) -> None:  # fmt: skip
    answer = await operator_browser.post(f"{page_of}/{act}", None, **fields)

    assert answer.status_code == 303, answer.text
    assert done in (await operator_browser.get(answer.headers["Location"])).text
    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == event))
    assert (row.user_id, row.actor_id is None) == (ada.id, False)


async def test_a_session_of_an_account_is_ended_and_a_disabled_account_enabled(
    operator_browser: Browser, open_browser: OpenBrowser, ada: Account, page_of: str, database: Database
) -> None:
    theirs = open_browser()
    await theirs.sign_in(ada)
    async with database.unit_of_work(read_only=True) as session:
        [session_id] = await session.scalars(select(UserSession.id).where(UserSession.user_id == ada.id))

    ended = await operator_browser.post(f"{page_of}/sessions/{session_id}/end")

    assert ended.headers["Location"].endswith("done=session-of-account-ended")
    assert (await theirs.get("/console/account")).status_code == 303
    assert (await operator_browser.post(f"{page_of}/sessions/{session_id}/end")).status_code == 404
    await operator_browser.post(f"{page_of}/disable")
    refused = await operator_browser.post(f"{page_of}/send-reset-link")
    assert (refused.status_code, "enable it first" in refused.text) == (409, True)
    enabled = await operator_browser.post(f"{page_of}/enable")
    assert enabled.headers["Location"].endswith("done=account-enabled")
    assert (await user_of(database, ada)).disabled_at is None


@pytest.mark.parametrize(("act", "fields"), [("disable", {}), ("role", {"role": "operator"})])
async def test_what_takes_rights_asks_for_the_password_again(
    operator_browser: Browser, page_of: str, database: Database, ada: Account, act: str, fields: dict[str, str]
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    answer = await operator_browser.post(f"{page_of}/{act}", None, **fields)

    assert answer.headers["Location"].startswith("/console/confirm")
    user = await user_of(database, ada)
    assert (user.disabled_at, user.role) == (None, Role.USER)


async def test_the_own_account_is_shown_without_what_would_lock_out(
    operator_browser: Browser, database: Database
) -> None:
    async with database.unit_of_work(read_only=True) as session:
        own = (await session.scalars(select(User.id).where(User.role == Role.OPERATOR))).one()
    path = f"/console/accounts/{own}"

    page = (await operator_browser.get(path)).text
    answers = [await operator_browser.post(f"{path}/disable"), await operator_browser.post(f"{path}/role", role="user")]

    assert "This is your own account" in page
    assert f"{path}/disable" not in page
    assert [(answer.status_code, "another operator has to do it" in answer.text) for answer in answers] == [
        (409, True)
    ] * 2
    assert (await operator_browser.get(path)).status_code == 200


async def test_an_account_that_is_gone_has_no_page(operator_browser: Browser) -> None:
    path = f"/console/accounts/{UUID(int=7)}"

    assert (await operator_browser.get(path)).status_code == 404
    assert (await operator_browser.post(f"{path}/enable")).status_code == 404

"""My account: sessions, password, deletion, by forms alone."""

from fastapi import FastAPI

from app_auth.testing import Account
from app_db import Database
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import Browser, OpenBrowser
from packages.api.tests.console.live_parts import marks_of, texts_of


async def test_sessions_are_listed_and_ended_one_by_one_or_all_others(open_browser: OpenBrowser, ada: Account) -> None:
    here, there, elsewhere = [open_browser() for _ in range(3)]
    for browser in (there, elsewhere, here):
        browser.client.headers["User-Agent"] = "<b>Netscape</b>"
        await browser.sign_in(ada)
    page = (await here.get("/console/account")).text
    assert page.count("&lt;b&gt;Netscape&lt;/b&gt;</span>") == 3
    assert page.count("this one") == 1
    ends = [part.partition('"')[0] for part in page.split('action="')[1:] if "/end" in part.partition('"')[0]]
    assert len(ends) == 3  # all others, and each of the two

    ended = await here.post(ends[-1])  # the oldest comes last

    assert ended.headers["Location"] == "/console/account?done=session-ended"
    assert "The session is ended." in (await here.get(ended.headers["Location"])).text
    assert [(await each.get("/console/account")).status_code for each in (here, there, elsewhere)] == [200, 303, 200]
    await here.post(ends[0])
    assert (await elsewhere.get("/console/account")).status_code == 303
    assert (await here.post(ends[-1])).status_code == 404


async def test_an_address_shows_no_words_of_a_stranger(signed_in_browser: Browser) -> None:
    page = await signed_in_browser.get("/console/account?done=You+won")

    assert "You won" not in page.text


async def test_the_password_is_changed_and_other_sessions_end(open_browser: OpenBrowser, ada: Account) -> None:
    here, there = open_browser(), open_browser()
    for browser in (there, here):
        await browser.sign_in(ada)
    assert 'minlength="15"' in (await here.get("/console/account/password")).text

    short = await here.post("/console/account/password", current=ada.password, new="short")
    wrong = await here.post("/console/account/password", current="wrong", new="a new one, long enough 7")
    done = await here.post("/console/account/password", current=ada.password, new="a new one, long enough 7")

    assert (short.status_code, "it needs at least 15 characters" in short.text) == (422, True)
    assert (wrong.status_code, "Incorrect email or password" in wrong.text) == (400, True)
    assert done.headers["Location"] == "/console/account?done=password-changed"
    assert (await here.get("/console/account")).status_code == 200
    assert (await there.get("/console/account")).status_code == 303


async def test_the_account_is_deleted_and_the_cookie_with_it(
    signed_in_browser: Browser, ada: Account, database: Database
) -> None:
    assert ada.email in (await signed_in_browser.get("/console/account/delete")).text

    done = await signed_in_browser.post("/console/account/delete")

    assert done.headers["Location"] == "/console/sign-in?done=account-deleted"
    assert "Max-Age=0" in done.headers["Set-Cookie"]
    assert "Your account is deleted." in (await signed_in_browser.get(done.headers["Location"])).text
    assert (await signed_in_browser.get("/console/account")).status_code == 303


async def test_the_own_sessions_are_followed(
    app: FastAPI, signed_in_browser: Browser, open_browser: OpenBrowser, ada: Account, database: Database
) -> None:
    before = (await signed_in_browser.get("/console/account")).text
    (mark,) = marks_of(before)
    await open_browser().sign_in(ada)

    with assert_queries(database, max=1):
        texts = await texts_of(app, database, mark, viewer_id=ada.id)

    assert (before.count("data-key="), texts[mark].count("data-key=")) == (1, 2)
    assert texts[mark].count("this one") == 1

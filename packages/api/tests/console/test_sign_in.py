"""Who gets into the console, by which cookie, and how they leave."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app_api.testing import SignedIn
from app_auth.testing import Account, MakeAccount
from app_db import Database
from app_db.models import AuditEvent, UserSession
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import OUR_FORM, Browser, OpenBrowser

COOKIE = "__Host-console"


async def test_a_page_without_a_cookie_leads_to_the_sign_in(browser: Browser) -> None:
    response = await browser.get("/console/account?done=x")

    assert response.status_code == 303
    assert response.headers["Location"] == "/console/sign-in?next=%2Fconsole%2Faccount%3Fdone%3Dx"


async def test_who_signs_in_gets_to_the_page_that_they_wanted(browser: Browser, ada: Account) -> None:
    page = await browser.get("/console/sign-in?next=/console/account")
    assert '<input type="hidden" name="next" value="/console/account">' in page.text

    response = await browser.post("/console/sign-in", email=ada.email, password=ada.password, next="/console/account")

    assert (response.status_code, response.headers["Location"]) == (303, "/console/account")
    account = await browser.get("/console/account")
    assert account.status_code == 200
    assert ada.email in account.text


async def test_the_cookie_has_every_lock(browser: Browser, ada: Account) -> None:
    response = await browser.sign_in(ada)

    [cookie] = response.headers.get_list("set-cookie")
    value, *attributes = cookie.split("; ")
    assert value.startswith(f"{COOKIE}=bs_")
    assert {name.lower() for name in attributes} == {"httponly", "max-age=2592000", "path=/", "samesite=lax", "secure"}


async def test_each_port_has_a_cookie_of_its_own(browser: Browser, ada: Account) -> None:
    headers = {**OUR_FORM, "Host": "localhost:8001"}

    response = await browser.post("/console/sign-in", headers, email=ada.email, password=ada.password)

    assert response.headers["set-cookie"].startswith("__Host-console-8001=bs_")


async def test_the_secret_of_a_cookie_is_in_no_column(browser: Browser, ada: Account, database: Database) -> None:
    await browser.sign_in(ada)
    secret = browser.client.cookies[COOKIE]

    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(UserSession).where(UserSession.user_id == ada.id))
    assert secret.rpartition(".")[2] not in repr(vars(row))


async def test_a_wrong_password_shows_the_form_again_and_is_audited(
    browser: Browser, ada: Account, database: Database
) -> None:
    response = await browser.post("/console/sign-in", email=ada.email, password="wrong", next="/console/account")

    assert response.status_code == 400
    assert "Incorrect email or password" in response.text
    assert f'value="{ada.email}"' in response.text
    assert 'value="/console/account"' in response.text
    assert "wrong" not in response.text
    async with database.unit_of_work(read_only=True) as session:
        events = [*await session.scalars(select(AuditEvent.event).where(AuditEvent.user_id == ada.id))]
    assert events == ["registered", "sign_in_failed"]


async def test_a_sign_in_has_a_new_session_and_ends_the_one_before(
    browser: Browser, ada: Account, database: Database
) -> None:
    await browser.sign_in(ada)
    before = browser.client.cookies[COOKIE]

    await browser.sign_in(ada)

    after = browser.client.cookies[COOKIE]
    assert before.split(".")[1] != after.split(".")[1]
    async with database.unit_of_work(read_only=True) as session:
        ids = [one.hex for one in await session.scalars(select(UserSession.id).where(UserSession.user_id == ada.id))]
    assert ids == [after.split(".")[1]]


async def test_a_session_that_somebody_else_put_into_the_browser_is_not_that_of_who_signs_in(
    open_browser: OpenBrowser, browser: Browser, ada: Account, make_account: MakeAccount
) -> None:
    mallory = await make_account()
    await browser.sign_in(mallory)
    planted = {"Cookie": f"{COOKIE}={browser.client.cookies[COOKIE]}"}
    victim = open_browser()

    signed_in = await victim.post("/console/sign-in", {**OUR_FORM, **planted}, email=ada.email, password=ada.password)

    assert signed_in.status_code == 303
    assert ada.email in (await victim.get("/console/account")).text
    known = await open_browser().client.get("/console/account", headers=planted)
    assert known.status_code == 303  # Mallory's session has ended with the one that replaced it


async def test_signing_out_ends_the_session_and_drops_the_cookie(
    open_browser: OpenBrowser, signed_in_browser: Browser
) -> None:
    secret = signed_in_browser.client.cookies[COOKIE]
    thief = open_browser()
    thief.client.cookies.set(COOKIE, secret, domain="localhost.local")

    response = await signed_in_browser.post("/console/sign-out")

    assert (response.status_code, response.headers["Location"]) == (303, "/console/sign-in")
    assert COOKIE not in signed_in_browser.client.cookies
    left = await thief.client.get("/console/account", headers={"Cookie": f"{COOKIE}={secret}"})
    assert left.headers["Location"].startswith("/console/sign-in")


async def test_signing_out_may_be_repeated_and_needs_no_session(browser: Browser) -> None:
    assert (await browser.post("/console/sign-out")).status_code == 303
    forged = {**OUR_FORM, "Cookie": f"{COOKIE}=bs_nothing"}
    assert (await browser.post("/console/sign-out", forged)).status_code == 303


async def test_a_cookie_is_no_bearer_token_and_a_token_is_no_cookie(
    browser: Browser, ada: Account, signed_in: SignedIn
) -> None:
    await browser.sign_in(ada)
    secret = browser.client.cookies[COOKIE]
    client, tokens = browser.client, signed_in.tokens

    bearer = await client.get("/auth/me", headers={"Authorization": f"Bearer {secret}"})
    by_cookie = await client.get("/auth/me")
    refreshed = await client.post("/auth/refresh-token", json={"refresh_token": secret})

    assert [bearer.status_code, by_cookie.status_code, refreshed.status_code] == [401, 401, 400]
    client.cookies.clear()
    for token in (tokens.access_token, tokens.refresh_token):
        shown = await client.get("/console/account", headers={"Cookie": f"{COOKIE}={token}"})
        assert shown.status_code == 303
    by_header = await client.get("/console/account", headers=signed_in.headers)
    assert by_header.status_code == 303


async def test_a_page_finds_its_viewer_by_one_query(signed_in_browser: Browser, state: dict[str, Database]) -> None:
    with assert_queries(state["database"], max=1):
        assert (await signed_in_browser.get("/console/account/password")).status_code == 200


async def test_a_session_of_a_browser_is_one_of_the_api(
    signed_in_browser: Browser, ada: Account, sign_in: object, browser: Browser
) -> None:
    token = await browser.client.post("/auth/access-token", data={"username": ada.email, "password": ada.password})
    headers = {"Authorization": f"Bearer {token.json()['access_token']}"}
    [_, ours] = (await browser.client.get("/auth/sessions", headers=headers)).json()["items"]

    ended = await browser.client.delete(f"/auth/sessions/{ours['id']}", headers=headers)

    assert ended.status_code == 204
    assert (await signed_in_browser.get("/console/account")).status_code == 303


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example/console", "/\\evil.example", "/console/../..//evil.example", "/consoles",
     "/console//evil.example", "/console/%2e%2e", "javascript:alert(1)", "/console\r\nx: y", "",
     "/console/" + "a" * 3000],
)  # fmt: skip
async def test_no_address_of_another_site_is_a_next_page(browser: Browser, ada: Account, target: str) -> None:
    response = await browser.post("/console/sign-in", email=ada.email, password=ada.password, next=target)

    assert (response.status_code, response.headers["Location"]) == (303, "/console")


async def test_the_first_page_is_the_first_of_the_navigation(
    signed_in_browser: Browser, operator_browser: Browser
) -> None:
    assert (await signed_in_browser.get("/console")).headers["Location"] == "/console/account"
    first = await operator_browser.get("/console/")
    shown = await operator_browser.get(first.headers["Location"])
    assert 'aria-current="page"' in shown.text


async def test_what_cannot_be_undone_asks_for_the_password_again(
    signed_in_browser: Browser, ada: Account, database: Database
) -> None:
    await make_older(database, ada)

    asked = await signed_in_browser.get("/console/account/delete")

    assert asked.headers["Location"] == "/console/confirm?next=%2Fconsole%2Faccount%2Fdelete"
    page = await signed_in_browser.get(asked.headers["Location"])
    assert f"<strong>{ada.email}</strong>" in page.text
    wrong = await signed_in_browser.post("/console/confirm", password="wrong", next="/console/account/delete")
    assert (wrong.status_code, "Incorrect email or password" in wrong.text) == (400, True)
    right = await signed_in_browser.post("/console/confirm", password=ada.password, next="/console/account/delete")
    assert right.headers["Location"] == "/console/account/delete"
    assert (await signed_in_browser.get("/console/account/delete")).status_code == 200


async def test_a_form_that_needs_a_fresh_sign_in_leads_back_to_its_page(
    signed_in_browser: Browser, ada: Account, database: Database
) -> None:
    await make_older(database, ada)
    headers = {**OUR_FORM, "Referer": "https://localhost/console/account/delete"}

    asked = await signed_in_browser.post("/console/account/delete", headers)

    assert asked.headers["Location"] == "/console/confirm?next=%2Fconsole%2Faccount%2Fdelete"
    for referer in ("https://localhost//evil.example", "https://[broken"):
        asked = await signed_in_browser.post("/console/account/delete", {**OUR_FORM, "Referer": referer})
        assert asked.headers["Location"] == "/console/confirm?next=%2Fconsole"


async def make_older(database: Database, account: Account) -> None:
    """Let the account have signed in six minutes ago."""
    async with database.unit_of_work() as session:
        ago = func.now() - timedelta(minutes=6)
        await session.execute(update(UserSession).where(UserSession.user_id == account.id).values(created_at=ago))

"""Signing in with others in a browser: the buttons, the way there and back, and the own account's page."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import Response
from sqlalchemy import func, select, update

from app_api.settings import ApiSettings
from app_api.testing import run_lifespan
from app_auth.testing import Account
from app_db import Database
from app_db.features.providers.models import ProviderLink
from app_db.models import User, UserSession
from packages.api.tests.conftest import OUR_FORM, Browser, OpenBrowser, app_of, browser_of, lending
from packages.api.tests.features.providers.issuer import Issuer, approve
from packages.api.tests.features.providers.journeys import grow_old

SIGN_IN = "/console/sign-in"
OWN = "/console/account/providers"


@pytest.fixture
def app(settings: ApiSettings) -> FastAPI:
    """The application that knows the provider."""
    return app_of(settings)


@pytest_asyncio.fixture(loop_scope="session")
async def open_browser(app: FastAPI, settings: ApiSettings, api_database: Database) -> AsyncIterator[OpenBrowser]:
    """Return a function that opens one more browser, with cookies of its own."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(lending(settings, api_database)(app))
        browsers = [await stack.enter_async_context(browser_of(app, state)) for _ in range(3)]
        yield browsers.pop


async def go(browser: Browser, path: str, **fields: str) -> str:
    """Press a button of ours and then the provider's; return where that sends the browser."""
    away = await browser.post(path, None, **fields)
    assert away.status_code == 200, away.text
    return f"/console/providers/acme/callback?{urlencode(await approve(address_in(away)))}"


def address_in(away: Response) -> str:
    seconds, _, address = away.headers["refresh"].partition("; url=")
    assert seconds == "0"
    return address


async def sign_in(browser: Browser, to: str = OWN) -> Response:
    back = await browser.get(await go(browser, "/console/providers/acme/start", next=to))
    assert back.status_code == 303, back.text
    return back


async def users(database: Database) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(func.count()).select_from(User))).one()


async def test_a_browser_is_signed_in_by_a_provider(browser: Browser, issuer: Issuer) -> None:
    page = (await browser.get(f"{SIGN_IN}?next=/console/account")).text
    assert "Sign in with Acme" in page
    assert 'action="/console/providers/acme/start"' in page

    back = await sign_in(browser, "/console/account")

    assert back.headers["Location"] == "/console/account"
    account = (await browser.get("/console/account")).text
    assert "ada@example.test" in account
    assert "Sign in here with your account at Acme." in account


async def test_the_cookie_that_binds_has_every_lock(browser: Browser, issuer: Issuer) -> None:
    away = await browser.post("/console/providers/acme/start")

    value, *attributes = away.headers["set-cookie"].split("; ")
    assert value.startswith("__Host-console-providers=")
    assert {name.lower() for name in attributes} == {"httponly", "max-age=600", "path=/", "samesite=lax", "secure"}
    assert value.partition("=")[2] not in address_in(away)


async def test_two_tabs_of_a_browser_do_not_end_each_other(browser: Browser, issuer: Issuer) -> None:
    first = await go(browser, "/console/providers/acme/start", next="/console/account")
    second = await go(browser, "/console/providers/acme/start")

    assert (await browser.get(second)).status_code == 303
    assert (await browser.get(first)).headers["Location"] == "/console/account"


async def test_a_page_that_is_fetched_ahead_uses_no_answer_up(browser: Browser, issuer: Issuer) -> None:
    back = await go(browser, "/console/providers/acme/start")

    ahead = await browser.get(back, **{"Sec-Purpose": "prefetch;prerender"})

    assert (ahead.status_code, "set-cookie" in ahead.headers) == (503, False)
    assert (await browser.get(back)).status_code == 303


async def test_an_answer_in_another_browser_signs_nobody_in(
    browser: Browser, open_browser: OpenBrowser, issuer: Issuer, database: Database
) -> None:
    """Somebody lets a victim come back with the own code: the victim would work in the attacker's account."""
    back = await go(browser, "/console/providers/acme/start")
    victim = open_browser()
    await victim.post("/console/providers/acme/start")  # with a secret of its own

    for other in (victim, open_browser()):
        answer = await other.get(back)
        assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)
        assert "Sign-in with Acme did not work" in answer.text
    assert await users(database) == 0


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/auth/me", "x" * 4000]
)
async def test_nobody_is_led_elsewhere_afterwards(browser: Browser, issuer: Issuer, target: str) -> None:
    assert (await sign_in(browser, target)).headers["Location"] == "/console"


@pytest.mark.parametrize(
    "query",
    [
        "error=access_denied&error_description=<script>alert(1)</script>&state={state}",
        "code=x&state=",
        "code=x",
        "",
        "code=x&state=.",
        "code=x&state=A.A",
        "code=x&state=%E4",
        "state=cccccccccccccccccccccccccccccccccccc.x",
    ],
)
async def test_what_is_no_answer_is_a_page_that_says_so(browser: Browser, issuer: Issuer, query: str) -> None:
    back = await go(browser, "/console/providers/acme/start")
    state = back.partition("state=")[2].partition("&")[0]

    answer = await browser.get(f"/console/providers/acme/callback?{query.replace('{state}', state)}")

    assert (answer.status_code, "alert(1)" in answer.text) == (400, False)
    assert 'href="/console/sign-in"' in answer.text


async def test_a_failure_leads_back_to_where_it_was_begun(signed_in_browser: Browser, issuer: Issuer) -> None:
    for path, begun_at in ((f"{OWN}/acme/link", OWN), ("/console/providers/acme/confirm", "/console/confirm")):
        back = await go(signed_in_browser, path)

        answer = await signed_in_browser.get(back.replace("code=", "error=access_denied&"))

        assert answer.status_code == 400
        assert f'href="{begun_at}"' in answer.text


async def test_a_provider_that_is_down_is_said_to_be_on_the_page(browser: Browser, issuer: Issuer) -> None:
    issuer.description = {"issuer": "https://evil.example"}

    answer = await browser.post("/console/providers/acme/start")

    assert answer.status_code == 503
    assert "The provider does not answer as it should" in answer.text


async def test_a_provider_that_nobody_knows_is_not_found(browser: Browser, issuer: Issuer) -> None:
    assert (await browser.post("/console/providers/evil/start")).status_code == 404
    assert (await browser.get("/console/providers/evil/callback?code=x&state=x")).status_code == 404


async def test_no_form_of_another_site_begins_a_sign_in(browser: Browser, issuer: Issuer) -> None:
    answer = await browser.post("/console/providers/acme/start", {"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403


async def test_a_sign_in_by_a_provider_ends_the_session_before(
    signed_in_browser: Browser, issuer: Issuer, ada: Account, database: Database
) -> None:
    await sign_in(signed_in_browser)

    async with database.unit_of_work(read_only=True) as session:
        owners = [*await session.scalars(select(UserSession.user_id))]
    assert len(owners) == 1
    assert owners != [ada.id]


async def test_a_second_factor_is_asked_for_in_a_browser_too(
    browser: Browser, issuer: Issuer, database: Database
) -> None:
    await sign_in(browser)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(second_factors=["providers"]))  # any folder that is there
        await session.execute(update(ProviderLink).values(last_used_at=None))

    answer = await browser.get(await go(browser, "/console/providers/acme/start"))

    assert "__Host-console=" not in answer.headers.get("set-cookie", "")
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(func.count()).select_from(UserSession))).one() == 1
        assert (await session.scalars(select(ProviderLink.last_used_at))).one() is not None


# --- the own account -------------------------------------------------------------------------------------------------


async def test_an_owner_links_and_unlinks_in_a_browser(
    signed_in_browser: Browser, issuer: Issuer, ada: Account, database: Database
) -> None:
    browser = signed_in_browser
    assert "Link Acme" in (await browser.get(OWN)).text

    back = await browser.get(await go(browser, f"{OWN}/acme/link"))

    assert back.headers["Location"] == f"{OWN}?done=provider-linked"
    page = await browser.get(back.headers["Location"])
    assert "From now on it signs you in." in page.text
    assert "ada@example.test" in page.text
    assert "Link Acme" not in page.text
    async with database.unit_of_work(read_only=True) as session:
        link = (await session.scalars(select(ProviderLink))).one()
    assert link.user_id == ada.id
    unlinked = await browser.post(f"{OWN}/{link.id}/unlink")
    assert unlinked.headers["Location"] == f"{OWN}?done=provider-unlinked"
    assert "You have none yet." in (await browser.get(OWN)).text


async def test_the_last_way_in_stays_and_the_page_says_so(browser: Browser, issuer: Issuer, database: Database) -> None:
    await sign_in(browser)
    async with database.unit_of_work(read_only=True) as session:
        link = (await session.scalars(select(ProviderLink))).one()

    answer = await browser.post(f"{OWN}/{link.id}/unlink")

    assert answer.status_code == 409
    assert "Without this nobody could sign in to the account any more" in answer.text
    assert "Linked accounts" in answer.text


async def test_a_link_is_made_in_the_browser_session_that_has_begun_it(
    signed_in_browser: Browser, issuer: Issuer, database: Database
) -> None:
    back = await go(signed_in_browser, f"{OWN}/acme/link")
    await signed_in_browser.post("/console/sign-out")

    answer = await signed_in_browser.get(back)

    assert answer.headers["Location"].startswith("/console/sign-in?next=")
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(ProviderLink))).all() == []


async def test_linking_asks_for_the_password_again(
    signed_in_browser: Browser, issuer: Issuer, database: Database
) -> None:
    await grow_old(database)

    answer = await signed_in_browser.post(f"{OWN}/acme/link", {**OUR_FORM, "Referer": f"https://localhost{OWN}"})

    assert answer.headers["Location"] == f"/console/confirm?next={OWN.replace('/', '%2F')}"


async def test_who_has_no_password_confirms_with_the_provider(
    browser: Browser, issuer: Issuer, database: Database
) -> None:
    await sign_in(browser)
    await grow_old(database)
    asked = await browser.get("/console/account/delete")
    assert asked.headers["Location"] == "/console/confirm?next=%2Fconsole%2Faccount%2Fdelete"
    page = await browser.get(asked.headers["Location"])
    assert "Confirm with Acme" in page.text

    back = await browser.get(await go(browser, "/console/providers/acme/confirm", next="/console/account/delete"))

    assert back.headers["Location"] == "/console/account/delete"
    assert (await browser.get("/console/account/delete")).status_code == 200
    deleted = await browser.post("/console/account/delete")
    assert deleted.headers["Location"] == "/console/sign-in?done=account-deleted"
    assert await users(database) == 0


async def test_nobody_else_confirms_who_is_signed_in(
    signed_in_browser: Browser, issuer: Issuer, database: Database
) -> None:
    answer = await signed_in_browser.get(await go(signed_in_browser, "/console/providers/acme/confirm"))

    assert answer.status_code == 404
    assert "Your account is not linked with this provider." in answer.text
    assert await users(database) == 1


async def test_nobody_is_sent_away_who_could_not_come_back(app: FastAPI, issuer: Issuer) -> None:
    """In production without an address where people reach it."""
    async with run_lifespan(app) as state, browser_of(app, {**state, "reached_at": None}) as browser:
        assert "Acme" not in (await browser.get(SIGN_IN)).text
        assert (await browser.post("/console/providers/acme/start")).status_code == 404

"""One-time codes in the console, without JavaScript."""

import re
from datetime import timedelta

import pytest
import pytest_asyncio
from pyotp import TOTP
from sqlalchemy import update

from app_auth.testing import Account
from app_db import Database
from app_db.features.totp.models import TotpSecret
from app_db.models import UserSession
from app_db.types import utcnow
from packages.api.tests.conftest import OUR_FORM, Browser, OpenBrowser

from .conftest import Guarded

CODES = "/console/account/one-time-codes"
STEP = "/console/sign-in/totp"


@pytest_asyncio.fixture(loop_scope="session")
async def asked(browser: Browser, eve: Guarded) -> Browser:
    """A browser that has sent the right password of Eve's, from the page of her account."""
    email, password = eve.account.email, eve.account.password
    response = await browser.post("/console/sign-in", email=email, password=password, next="/console/account")
    assert response.headers["Location"] == f"{STEP}?next=%2Fconsole%2Faccount"
    return browser


async def offered(browser: Browser) -> TOTP:
    """Begin, and read the key from the page as somebody who types it does."""
    begun = await browser.post(f"{CODES}/new")
    assert (begun.status_code, begun.headers["Location"]) == (303, f"{CODES}/new")
    page = await browser.get(f"{CODES}/new")
    found = re.search(r"<code>([A-Z2-7 ]+)</code>", page.text)
    assert found
    return TOTP(found[1].replace(" ", ""))


async def test_the_password_alone_opens_no_page(asked: Browser, eve: Guarded) -> None:
    assert "__Host-console" not in asked.client.cookies
    page = await asked.get("/console/account")

    assert page.status_code == 303
    assert eve.account.email not in page.text


async def test_the_challenge_is_in_a_cookie_that_nothing_else_reads(browser: Browser, eve: Guarded) -> None:
    response = await browser.post("/console/sign-in", email=eve.account.email, password=eve.account.password)

    [cookie] = response.headers.get_list("set-cookie")
    challenge = cookie.partition("=")[2].partition(";")[0]
    assert cookie.startswith("__Host-console-challenge=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=300"} <= {*cookie.split("; ")}
    assert challenge not in response.headers["Location"] + response.text
    assert challenge not in (await browser.get(STEP)).text


@pytest.mark.parametrize("way", ["generator", "recovery"])
async def test_the_code_finishes_the_sign_in(asked: Browser, eve: Guarded, way: str) -> None:
    code = eve.code() if way == "generator" else eve.recovery[0]
    page = await asked.get(f"{STEP}?next=/console/account")
    assert '<input type="hidden" name="next" value="/console/account">' in page.text

    response = await asked.post(STEP, code=code, next="/console/account")

    assert (response.status_code, response.headers["Location"]) == (303, "/console/account")
    assert "__Host-console-challenge" not in asked.client.cookies
    assert eve.account.email in (await asked.get("/console/account")).text


async def test_a_wrong_code_shows_the_form_again(asked: Browser, eve: Guarded) -> None:
    response = await asked.post(STEP, code="271828", next="/console/account")

    assert response.status_code == 400
    assert "This code is wrong" in response.text
    assert "271828" not in response.text
    assert (await asked.post(STEP, code=eve.code())).status_code == 303


async def test_without_a_challenge_a_code_opens_nothing(browser: Browser, eve: Guarded) -> None:
    response = await browser.post(STEP, code=eve.code())

    assert response.status_code == 400
    assert "Sign in again" in response.text


async def test_the_next_page_is_one_of_ours(asked: Browser, eve: Guarded) -> None:
    response = await asked.post(STEP, code=eve.code(), next="https://evil.example/")

    assert response.headers["Location"] == "/console"


async def test_codes_are_turned_on_and_recovery_codes_shown_once(
    signed_in_browser: Browser, open_browser: OpenBrowser, ada: Account
) -> None:
    assert "Off" in (await signed_in_browser.get(CODES)).text
    generator = await offered(signed_in_browser)
    page = (await signed_in_browser.get(f"{CODES}/new")).text
    assert "<svg" in page
    assert "otpauth://totp/" in page

    shown = await signed_in_browser.post(f"{CODES}/confirm", code=generator.at(utcnow()))

    assert len(re.findall(r"^[a-z2-9]{4}(?:-[a-z2-9]{4}){3}$", shown.text, re.MULTILINE)) == 10
    assert shown.headers["Cache-Control"] == "no-store"
    again = await signed_in_browser.post(f"{CODES}/confirm", code=generator.at(utcnow(), counter_offset=1))
    assert again.status_code == 409
    on = await signed_in_browser.get(CODES)
    assert "10 of ten are left" in on.text
    other = open_browser()
    response = await other.post("/console/sign-in", email=ada.email, password=ada.password)
    assert response.headers["Location"].startswith(STEP)


async def test_a_wrong_first_code_shows_the_same_key_again(signed_in_browser: Browser) -> None:
    generator = await offered(signed_in_browser)

    response = await signed_in_browser.post(f"{CODES}/confirm", code="wrong")

    assert response.status_code == 400
    assert generator.secret in response.text.replace(" ", "")
    assert (await signed_in_browser.post(f"{CODES}/confirm", code=generator.at(utcnow()))).status_code == 200


async def test_new_recovery_codes_are_made_and_codes_turned_off(asked: Browser, eve: Guarded) -> None:
    await asked.post(STEP, code=eve.code())

    renewed = await asked.post(f"{CODES}/recovery-codes")
    removed = await asked.post(f"{CODES}/remove")

    assert "These replace all older ones" in renewed.text
    assert removed.headers["Location"] == f"{CODES}?done=codes-off"
    assert "One-time codes are off" in (await asked.get(f"{CODES}?done=codes-off")).text
    assert (await asked.post(f"{CODES}/remove")).status_code == 409


@pytest.mark.parametrize("act", ["new", "confirm", "recovery-codes", "remove"])
async def test_what_changes_it_asks_for_the_password_again(
    signed_in_browser: Browser, database: Database, act: str
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow() - timedelta(minutes=6)))

    response = await signed_in_browser.post(f"{CODES}/{act}", {**OUR_FORM, "Referer": f"https://localhost{CODES}"})

    assert (response.status_code, response.headers["Location"].partition("?")[0]) == (303, "/console/confirm")


async def test_confirming_that_it_is_you_asks_for_a_code_too(asked: Browser, eve: Guarded) -> None:
    await asked.post(STEP, code=eve.code())

    response = await asked.post("/console/confirm", password=eve.account.password, next=CODES)

    assert response.headers["Location"].startswith(STEP)


async def test_an_offer_that_waited_too_long_is_begun_again(signed_in_browser: Browser, database: Database) -> None:
    await offered(signed_in_browser)
    async with database.unit_of_work() as session:
        await session.execute(update(TotpSecret).values(created_at=utcnow() - timedelta(minutes=16)))

    response = await signed_in_browser.get(f"{CODES}/new")

    assert response.status_code == 200
    assert "No key waits" in response.text
    confirmed = await signed_in_browser.post(f"{CODES}/confirm", code="123456")
    assert confirmed.status_code == 409
    assert "Begin again" in confirmed.text


async def test_my_account_leads_to_it(signed_in_browser: Browser) -> None:
    assert f'href="{CODES}"' in (await signed_in_browser.get("/console/account")).text

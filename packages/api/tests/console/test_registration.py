"""Registering, proving an address and setting a password, by forms alone."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import pytest

from app_api.settings import ApiSettings
from app_api.testing import run_lifespan
from app_auth.auth import Auth
from app_auth.testing import Account
from app_db import Database
from app_db.models import TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow
from packages.api.tests.conftest import Browser, app_of, browser_of

PASSWORD = "four words of nobody 3"


type AppWith = Callable[..., AbstractAsyncContextManager[Browser]]


@pytest.fixture
def app_with(api_settings: ApiSettings, database: Database) -> AppWith:
    """Return a function that opens a browser at an application with other settings of accounts."""

    @asynccontextmanager
    async def open_it(**changed: object) -> AsyncIterator[Browser]:
        auth = api_settings.auth.model_copy(update=changed)
        app = app_of(api_settings.model_copy(update={"auth": auth}))
        async with run_lifespan(app) as state, browser_of(app, state) as browser:
            yield browser

    return open_it


async def mailed(auth: Auth, database: Database, user_id: UUID, purpose: TokenPurpose) -> str:
    """Return the link that a job would mail."""
    async with database.unit_of_work() as session:
        user = await session.get(User, user_id)
        assert user is not None
        row = auth.one_time_tokens.issue(user, purpose, now=utcnow())
        await OneTimeTokenRepository(session).replace(row)
        return f"https://localhost/#/verify?token={auth.one_time_tokens.derive(row)}"


async def test_who_registers_can_sign_in(browser: Browser) -> None:
    assert 'minlength="15"' in (await browser.get("/console/register")).text
    short = await browser.post("/console/register", email="lin@example.com", password="short")
    assert (short.status_code, 'value="lin@example.com"' in short.text) == (422, True)

    made = await browser.post("/console/register", email="lin@example.com", password=PASSWORD)

    assert made.headers["Location"] == "/console/sign-in?done=registered"
    assert "Your account is there." in (await browser.get(made.headers["Location"])).text
    assert (await browser.post("/console/sign-in", email="lin@example.com", password=PASSWORD)).status_code == 303


async def test_a_closed_registration_says_so(app_with: AppWith) -> None:
    async with app_with(registration="closed") as browser:
        assert "Nobody can register here." in (await browser.get("/console/register")).text
        refused = await browser.post("/console/register", email="lin@example.com", password=PASSWORD)
        assert (refused.status_code, "Nobody can register here." in refused.text) == (403, True)


async def test_an_address_is_confirmed_by_the_link_that_was_mailed(
    app_with: AppWith, auth: Auth, database: Database
) -> None:
    async with app_with(verification=True) as browser:
        made = await browser.post("/console/register", email="lin@example.com", password=PASSWORD)
        assert made.headers["Location"] == "/console/sign-in?done=mail-sent"
        unproved = await browser.post("/console/sign-in", email="lin@example.com", password=PASSWORD)
        assert (unproved.status_code, "Confirm your address first" in unproved.text) == (403, True)
        async with database.unit_of_work(read_only=True) as session:
            user_id = await UserRepository(session).find_id("lin@example.com")
        assert user_id
        link = await mailed(auth, database, user_id, TokenPurpose.VERIFY_EMAIL)

        wrong = await browser.post("/console/verify", link=link[:-1], password=PASSWORD)
        short = await browser.post("/console/verify", link=link, password="short")
        done = await browser.post("/console/verify", link=f"  {link} ", password=PASSWORD)

        assert (wrong.status_code, "Ask for a new one" in wrong.text) == (400, True)
        assert (short.status_code, "at least 15 characters" in short.text) == (422, True)
        assert done.headers["Location"] == "/console/sign-in?done=verified"
        assert (await browser.post("/console/sign-in", email="lin@example.com", password=PASSWORD)).status_code == 303


async def test_a_link_is_sent_again_for_any_address(browser: Browser, ada: Account) -> None:
    assert (await browser.get("/console/verify")).status_code == 200
    for email in (ada.email, "nobody@example.com"):
        again = await browser.post("/console/verify/resend", email=email)
        assert again.headers["Location"] == "/console/verify?done=mail-sent"
    assert (await browser.post("/console/verify/resend", email="no address")).status_code == 422


async def test_a_forgotten_password_is_set_anew_and_all_sessions_end(
    browser: Browser, signed_in_browser: Browser, ada: Account, auth: Auth, database: Database
) -> None:
    assert (await browser.get("/console/forgot")).status_code == 200
    answers = [await browser.post("/console/forgot", email=email) for email in (ada.email, "nobody@example.com")]
    assert {answer.headers["Location"] for answer in answers} == {"/console/reset?done=mail-sent"}
    assert "a mail is on its way" in (await browser.get("/console/reset?done=mail-sent")).text
    link = await mailed(auth, database, ada.id, TokenPurpose.RESET_PASSWORD)

    short = await browser.post("/console/reset", link=link, password="short")
    done = await browser.post("/console/reset", link=link, password=PASSWORD)

    assert (short.status_code, "at least 15 characters" in short.text) == (422, True)
    assert done.headers["Location"] == "/console/sign-in?done=password-set"
    assert (await signed_in_browser.get("/console/account")).status_code == 303
    assert (await browser.post("/console/sign-in", email=ada.email, password=PASSWORD)).status_code == 303

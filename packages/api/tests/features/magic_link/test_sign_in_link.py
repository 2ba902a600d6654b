"""/auth/sign-in-link and its pages: a link that works where it was asked for."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import select

from app_api.settings import ApiSettings
from app_api.testing import assert_problem, open_client
from app_auth.auth import Auth
from app_auth.features.magic_link.tokens import LIFE, signing_in
from app_auth.testing import Account
from app_db import Database
from app_db.features.magic_link.models import SignInLink
from app_db.models import Job, User
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import Browser, OpenBrowser, app_of

PATH = "/auth/sign-in-link"
OPEN = "/console/sign-in/link/open"


def with_links(settings: ApiSettings, *, on: bool) -> ApiSettings:
    return settings.model_copy(update={"auth": settings.auth.model_copy(update={"magic_link": on})})


@pytest.fixture(scope="session")
def api_settings(api_settings: ApiSettings) -> ApiSettings:
    """Settings that allow it."""
    return with_links(api_settings, on=True)


@pytest.fixture
def app(api_settings: ApiSettings) -> FastAPI:
    return app_of(api_settings)


@pytest_asyncio.fixture(loop_scope="session")
async def off(api_settings: ApiSettings) -> AsyncIterator[AsyncClient]:
    """A client of an application that does not."""
    async with open_client(app_of(with_links(api_settings, on=False))) as client:
        yield client


async def mailed(auth: Auth, database: Database, account: Account) -> str:
    """Make the link that the worker would make; return its token."""
    async with database.unit_of_work() as session:
        job = (await session.scalars(select(Job).where(Job.kind == "account.sign_in_link"))).all()[-1]
        email = (await session.scalars(select(User.email_canonical).where(User.id == account.id))).one()
        link = SignInLink(
            id=new_id(), user_id=account.id, email_canonical=email, binding_digest=job.payload["binding_digest"],
            key_id=auth.one_time_tokens.active_key_id, expires_at=utcnow() + LIFE,
        )  # fmt: skip
        session.add(link)
        return signing_in(auth.one_time_tokens, link)


async def test_a_client_signs_in_by_the_link_and_its_secret(
    client: AsyncClient, ada: Account, auth: Auth, database: Database
) -> None:
    asked = await client.post(PATH, json={"email": ada.email})
    body = {"token": await mailed(auth, database, ada), "secret": asked.json()["secret"]}

    elsewhere = await client.post(f"{PATH}/use", json=body | {"secret": "x"})
    begun = await client.post(f"{PATH}/use", json=body)
    again = await client.post(f"{PATH}/use", json=body)

    assert asked.status_code == 202
    assert_problem(elsewhere, 400, "asked_elsewhere")
    headers = {"Authorization": f"Bearer {begun.json()['access_token']}"}
    assert (await client.get("/auth/me", headers=headers)).json()["email"] == ada.email
    assert_problem(again, 400, "invalid_link")


async def test_asking_says_nothing_about_the_account(client: AsyncClient, ada: Account) -> None:
    known, unknown = [await client.post(PATH, json={"email": email}) for email in (ada.email, "eve@example.com")]

    assert known.status_code == unknown.status_code == 202
    assert known.json()["detail"] == unknown.json()["detail"]
    assert len(known.content) == len(unknown.content)
    assert_problem(await client.post(PATH, json={"email": "ada"}), 422, "invalid_email")


async def test_it_is_off_unless_it_is_switched_on(off: AsyncClient, ada: Account) -> None:
    assert_problem(await off.post(PATH, json={"email": ada.email}), 403, "sign_in_by_link_off")
    used = await off.post(f"{PATH}/use", json={"token": "x", "secret": "x"})
    assert_problem(used, 403, "sign_in_by_link_off")
    assert "/console/sign-in/link" not in (await off.get("/console/sign-in")).text
    assert "Nobody signs in by a mailed link here." in (await off.get("/console/sign-in/link")).text


async def test_a_browser_signs_in_by_the_link_that_it_asked_for(
    open_browser: OpenBrowser, ada: Account, auth: Auth, database: Database
) -> None:
    browser, another = open_browser(), open_browser()
    assert 'href="/console/sign-in/link"' in (await browser.get("/console/sign-in")).text
    assert (await browser.get("/console/sign-in/link")).status_code == 200
    assert (await browser.post("/console/sign-in/link", email="ada")).status_code == 422
    asked = await browser.post("/console/sign-in/link", email=ada.email)
    assert asked.headers["Location"] == f"{OPEN}?done=sign-in-link-sent"
    assert "a mail is on its way" in (await browser.get(asked.headers["Location"])).text
    link = f"https://localhost/#/sign-in?token={await mailed(auth, database, ada)}"

    for _ in range(2):  # programs that open links in mails
        assert (await another.get(OPEN)).status_code == 200
    elsewhere = await another.post(OPEN, link=link)
    begun = await browser.post(OPEN, link=link)

    assert (elsewhere.status_code, "in the same browser" in elsewhere.text) == (400, True)
    assert (begun.status_code, begun.headers["Location"]) == (303, "/console")
    assert ada.email in (await browser.get("/console/account")).text
    assert (await browser.post(OPEN, link=link)).status_code == 400


async def test_the_cookie_of_a_link_has_every_lock(browser: Browser, ada: Account) -> None:
    asked = await browser.post("/console/sign-in/link", email=ada.email)

    name, _, attributes = asked.headers["Set-Cookie"].partition("=")
    assert name == "__Host-sign-in-link"
    locks = {part.strip().lower() for part in attributes.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/", "max-age=900"} <= locks
    assert not any(lock.startswith("domain") for lock in locks)

"""Keys in the console: made, shown once, listed, revoked."""

import re

from httpx2 import Response
from sqlalchemy import update

from app_auth.testing import Account
from app_db import Database
from app_db.features.api_keys.models import ApiKey
from app_db.models import UserSession
from app_db.types import utcnow
from packages.api.tests.conftest import Browser

PAGE = "/console/account/keys"
KEY = re.compile(r"gw_[0-9a-f]{32}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")


async def make(browser: Browser) -> Response:
    return await browser.post(PAGE, name=" <b>ci</b> ", scopes="jobs:read", days="30")


async def test_a_key_is_made_shown_once_used_and_revoked(signed_in_browser: Browser) -> None:
    assert "You have none." in (await signed_in_browser.get(PAGE)).text
    assert f'href="{PAGE}"' in (await signed_in_browser.get("/console/account")).text

    made = await make(signed_in_browser)

    (key,) = KEY.findall(made.text)
    bearer = {"Authorization": f"Bearer {key}"}
    assert (await signed_in_browser.client.get("/jobs", headers=bearer)).status_code == 200
    listed = (await signed_in_browser.get(PAGE)).text
    assert KEY.search(listed) is None
    assert "&lt;b&gt;ci&lt;/b&gt;" in listed
    (revoke,) = re.findall(r'action="([^"]+/revoke)"', listed)
    done = await signed_in_browser.post(revoke)
    assert "The key is revoked" in (await signed_in_browser.get(done.headers["Location"])).text
    assert (await signed_in_browser.client.get("/jobs", headers=bearer)).status_code == 401


async def test_a_page_that_is_loaded_again_makes_no_second_key(signed_in_browser: Browser) -> None:
    await make(signed_in_browser)

    again = await make(signed_in_browser)

    assert (again.status_code, "already have a key with this name" in again.text) == (409, True)
    assert KEY.search(again.text) is None


async def test_a_form_that_is_refused_keeps_what_was_typed(signed_in_browser: Browser) -> None:
    nameless = await signed_in_browser.post(PAGE, name=" ", scopes="jobs:read", days="7")
    scopeless = await signed_in_browser.post(PAGE, name="nightly", days="7")
    eternal = await signed_in_browser.post(PAGE, name="nightly", scopes="jobs:read", days="999")

    assert [each.status_code for each in (nameless, scopeless, eternal)] == [422] * 3
    assert "A key has a name" in nameless.text
    assert "at least one scope" in scopeless.text
    assert 'value="nightly"' in eternal.text
    assert 'value="jobs:read" checked' in eternal.text


async def test_making_a_key_asks_for_the_password_again(signed_in_browser: Browser, database: Database) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow().replace(year=2020)))

    response = await make(signed_in_browser)

    assert response.headers["Location"].startswith("/console/confirm")


async def test_an_expired_key_is_told_from_others(signed_in_browser: Browser, ada: Account, database: Database) -> None:
    await make(signed_in_browser)
    async with database.unit_of_work() as session:
        await session.execute(update(ApiKey).values(expires_at=utcnow(), last_used_at=utcnow()))

    page = (await signed_in_browser.get(PAGE)).text

    assert ">expired</span>" in page
    assert "never" not in page

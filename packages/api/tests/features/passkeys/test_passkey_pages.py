"""Passkeys in the console: its forms send what the script has got from the browser."""

import html
import json
import re

import pytest

from app_auth.testing import Account
from app_db import Database
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import OUR_FORM, Browser, OpenBrowser
from packages.api.tests.console.test_sign_in import make_older
from packages.auth.tests.features.passkeys.authenticator import Authenticator, Json

LIST = "/console/account/passkeys"


def data_of(page: str, name: str) -> Json:
    """Return the JSON in an attribute of a page."""
    found = re.search(f'data-{name}="([^"]*)"', page)
    assert found, page
    read: Json = json.loads(html.unescape(found[1]))
    return read


async def add(browser: Browser, device: Authenticator, *, name: str = "Laptop") -> None:
    page = await browser.get(f"{LIST}/new")
    credential = json.dumps(device.create(data_of(page.text, "options")))
    added = await browser.post(LIST, name=name, credential=credential)
    assert (added.status_code, added.headers["Location"]) == (303, f"{LIST}?done=passkey-added"), added.text


async def id_in(browser: Browser) -> str:
    found = re.search(f"{LIST}/([0-9a-f-]+)/remove", (await browser.get(LIST)).text)
    assert found
    return found[1]


async def test_a_passkey_is_added_named_and_removed(signed_in_browser: Browser) -> None:
    await add(signed_in_browser, Authenticator(), name="<b>Laptop</b>")
    assert "&lt;b&gt;Laptop" in (await signed_in_browser.get(LIST)).text
    passkey_id = await id_in(signed_in_browser)

    renamed = await signed_in_browser.post(f"{LIST}/{passkey_id}/rename", name="Phone")
    listed = await signed_in_browser.get(renamed.headers["Location"])
    removed = await signed_in_browser.post(f"{LIST}/{passkey_id}/remove")
    empty = await signed_in_browser.get(removed.headers["Location"])

    assert "The passkey has another name." in listed.text
    assert ">Phone</span>" in listed.text
    assert "it opens nothing any more" in empty.text
    assert "You have none yet." in empty.text


async def test_a_passkey_signs_in_and_leads_to_the_page_that_was_asked_for(
    signed_in_browser: Browser, open_browser: OpenBrowser
) -> None:
    device, other = Authenticator(), open_browser()
    await add(signed_in_browser, device)
    asked = await other.client.post("/auth/passkeys/sign-in/options")

    entered = await other.post(
        "/console/passkeys/sign-in", credential=json.dumps(device.get(asked.json())), next="/console/export"
    )

    assert (entered.status_code, entered.headers["Location"]) == (303, "/console/export")
    assert (await other.get("/console/export")).status_code == 200


async def test_a_sign_in_by_passkey_ends_the_session_before_and_is_fresh(
    signed_in_browser: Browser, ada: Account, database: Database
) -> None:
    device = Authenticator()
    await add(signed_in_browser, device)
    await make_older(database, ada)
    assert (await signed_in_browser.get(f"{LIST}/new")).headers["Location"].startswith("/console/confirm")
    asked = await signed_in_browser.client.post("/auth/passkeys/sign-in/options")

    credential = json.dumps(device.get(asked.json()))
    await signed_in_browser.post("/console/passkeys/sign-in", credential=credential, next=f"{LIST}/new")

    assert (await signed_in_browser.get(f"{LIST}/new")).status_code == 200
    assert (await signed_in_browser.get("/console/account")).text.count(">this one<") == 1


@pytest.mark.parametrize("credential", ["", "{", "[]", '{"id": 1}', "\u0661"])
async def test_what_is_no_credential_is_told_on_the_page(signed_in_browser: Browser, credential: str) -> None:
    added = await signed_in_browser.post(LIST, name="Laptop", credential=credential)
    entered = await signed_in_browser.post("/console/passkeys/sign-in", credential=credential)

    assert (added.status_code, "could not be added" in added.text) == (400, True)
    assert (entered.status_code, "This passkey is not accepted" in entered.text) == (400, True)


async def test_what_is_refused_is_shown_beside_the_passkeys(signed_in_browser: Browser) -> None:
    await add(signed_in_browser, Authenticator())
    passkey_id = await id_in(signed_in_browser)

    refused = await signed_in_browser.post(f"{LIST}/{passkey_id}/rename", name=" ")

    assert refused.status_code == 422
    assert "needs a name" in refused.text
    assert ">Laptop</span>" in refused.text


async def test_removing_asks_for_the_password_again(
    signed_in_browser: Browser, ada: Account, database: Database
) -> None:
    await add(signed_in_browser, Authenticator())
    passkey_id = await id_in(signed_in_browser)
    await make_older(database, ada)
    headers = {**OUR_FORM, "Referer": f"https://localhost{LIST}"}

    asked = await signed_in_browser.post(f"{LIST}/{passkey_id}/remove", headers)

    assert asked.headers["Location"] == "/console/confirm?next=%2Fconsole%2Faccount%2Fpasskeys"
    assert "Use a passkey" in (await signed_in_browser.get(asked.headers["Location"])).text


async def test_the_page_tells_the_browser_which_passkeys_are_known(signed_in_browser: Browser, ada: Account) -> None:
    device = Authenticator()
    await add(signed_in_browser, device)
    options = data_of((await signed_in_browser.get(f"{LIST}/new")).text, "options")

    known = data_of((await signed_in_browser.get(LIST)).text, "passkeys")

    whose = {"rpId": "localhost", "userId": options["user"]["id"]}
    ids = [each["id"] for each in options["excludeCredentials"]]
    assert known["accepted"] == {**whose, "allAcceptedCredentialIds": ids}
    assert known["details"] == {**whose, "name": ada.email, "displayName": ada.email}


async def test_pages_of_passkeys_cost_two_queries(signed_in_browser: Browser, state: dict[str, Database]) -> None:
    for path in (LIST, f"{LIST}/new"):
        with assert_queries(state["database"], max=2):
            assert (await signed_in_browser.get(path)).status_code == 200

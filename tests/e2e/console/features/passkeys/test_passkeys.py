"""Passkeys in a real Chromium with its virtual authenticator, which belongs to one page."""

from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession, Page, expect

from app_db import Database
from tests.e2e.console.site import ADA, VIEWS, ConsoleSite, require_usable
from tests.e2e.processes import Api

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
async def local(console: ConsoleSite, api: Api, chromium: Browser, database: Database) -> ConsoleSite:
    """The console under a name: browsers make no passkeys for addresses."""
    return ConsoleSite(f"http://localhost:{api.port}", chromium)


async def give_device(page: Page, **different: Any) -> tuple[CDPSession, str]:
    """Let the page have an authenticator of its own; return how to steer it."""
    steering = await page.context.new_cdp_session(page)
    await steering.send("WebAuthn.enable")
    made = await steering.send("WebAuthn.addVirtualAuthenticator", {"options": {**DEVICE, **different}})
    return steering, made["authenticatorId"]


async def make_passkey(page: Page, *, name: str) -> None:
    await page.get_by_role("link", name="Passkeys").click()
    await page.get_by_role("link", name="Add a passkey").click()
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_role("status")).to_have_text("The passkey is added. From now on it signs you in.")


async def test_a_passkey_is_made_signs_in_is_renamed_and_removed(local: ConsoleSite) -> None:
    async with local.visit(email=ADA) as seen:
        page = seen.page
        steering, device = await give_device(page)
        await make_passkey(page, name="Laptop")
        row = page.get_by_role("row", name="Laptop")
        await expect(row.get_by_text("never")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()

        await page.get_by_role("button", name="Use a passkey").click()
        await page.wait_for_url("**/console/account")
        await page.get_by_role("link", name="Passkeys").click()
        await expect(row.get_by_text("never")).to_have_count(0)

        await page.get_by_text("Change Laptop").click()
        await page.get_by_label("New name of Laptop").fill("Phone")
        await page.get_by_role("button", name="Rename").click()
        await page.get_by_text("Change Phone").click()
        await page.get_by_role("button", name="Remove Phone").click()
        await expect(page.get_by_text("You have none yet.")).to_be_visible()
        kept = await steering.send("WebAuthn.getCredentials", {"authenticatorId": device})
        assert kept["credentials"] == []  # the browser was told which passkeys are accepted
        assert seen.faults == []


async def test_a_removed_passkey_and_a_user_who_is_not_verified_do_not_sign_in(local: ConsoleSite) -> None:
    async with local.visit(email=ADA) as seen:
        page = seen.page
        steering, device = await give_device(page)
        await make_passkey(page, name="Laptop")
        (passkey,) = (await steering.send("WebAuthn.getCredentials", {"authenticatorId": device}))["credentials"]
        await page.get_by_role("button", name="Sign out").click()

        await steering.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
        await page.get_by_role("button", name="Use a passkey").click()
        await expect(page.get_by_role("alert")).to_have_text("No passkey was chosen. You can try again.")

        await steering.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": True})
        await page.get_by_role("button", name="Use a passkey").click()
        await page.wait_for_url("**/console/account")
        await page.goto(f"{local.url}/account/passkeys")
        await page.get_by_text("Change Laptop").click()
        await page.get_by_role("button", name="Remove Laptop").click()
        await expect(page.get_by_text("You have none yet.")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await steering.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": passkey})
        await page.get_by_role("button", name="Use a passkey").click()
        await expect(page.get_by_role("alert").first).to_have_text("This passkey is not accepted.")
        assert [fault for fault in seen.faults if "400" not in fault] == []


async def test_one_device_has_one_passkey_of_an_account(local: ConsoleSite) -> None:
    async with local.visit(email=ADA) as seen:
        page = seen.page
        await give_device(page)
        await make_passkey(page, name="Laptop")
        await page.get_by_role("link", name="Add a passkey").click()
        await page.get_by_role("button", name="Make a passkey").click()

        await expect(page.get_by_role("alert")).to_have_text("This device has a passkey of this account already.")
        assert seen.faults == []


AS_PASSWORD_MANAGERS_DO = """
const create = navigator.credentials.create.bind(navigator.credentials);
navigator.credentials.create = async (options) => {
    const { id, rawId, type, response: { clientDataJSON, attestationObject } } = await create(options);
    const response = Object.create(AuthenticatorAttestationResponse.prototype, {
        clientDataJSON: { value: clientDataJSON }, attestationObject: { value: attestationObject },
    });
    return Object.create(PublicKeyCredential.prototype, {
        id: { value: id }, rawId: { value: rawId }, type: { value: type }, response: { value: response },
    });
};
"""


async def test_a_passkey_of_a_password_manager_is_made_although_its_methods_throw(local: ConsoleSite) -> None:
    """As reported of several: `toJSON` and `getTransports` are those of a prototype, and an illegal invocation."""
    async with local.visit(email=ADA) as seen:
        await give_device(seen.page)
        await seen.page.add_init_script(AS_PASSWORD_MANAGERS_DO)

        await make_passkey(seen.page, name="Vault")

        assert seen.faults == []


async def test_an_address_has_no_passkeys_and_says_so(console: ConsoleSite) -> None:
    async with console.visit("/sign-in") as seen:
        page = seen.page
        await give_device(page)
        await page.get_by_role("button", name="Use a passkey").click()

        await expect(page.get_by_role("alert")).to_contain_text("Passkeys do not work at 127.0.0.1")
        assert seen.faults == []


async def test_without_javascript_the_other_ways_in_remain(local: ConsoleSite) -> None:
    async with local.visit("/account/passkeys/new", email=ADA, java_script_enabled=False) as seen:
        await expect(seen.page.get_by_text("This needs JavaScript")).to_be_visible()
        await expect(seen.page.get_by_role("button", name="Make a passkey")).to_have_count(0)
        assert seen.faults == []


@pytest.mark.parametrize("options", VIEWS)
async def test_the_pages_of_passkeys_fit_and_can_be_used_by_everybody(
    local: ConsoleSite, options: dict[str, Any]
) -> None:
    async with local.visit(email=ADA, **options) as seen:
        page = seen.page
        await give_device(page)
        await make_passkey(page, name="L" * 100)
        for path in ("/account/passkeys", "/account/passkeys/new", "/account", "/sign-in", "/confirm"):
            await page.goto(f"{local.url}{path}")

            await require_usable(page)
        assert seen.faults == []

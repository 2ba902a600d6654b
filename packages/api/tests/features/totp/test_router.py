"""One-time codes over HTTP."""

from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from httpx2 import AsyncClient

from app_api.features.totp.settings import TotpSettings
from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import MakeAccount, SignIn
from app_db.testing.queries import assert_queries
from app_db.types import utcnow
from packages.api.tests.conftest import app_of

from .conftest import Guard, Guarded, challenge_for, sign_in_with_password


async def test_a_sign_in_with_the_password_alone_gets_a_challenge(client: AsyncClient, eve: Guarded) -> None:
    refused = await sign_in_with_password(client, eve.account)

    problem = assert_problem(refused, 403, "second_factor_required")
    assert problem["methods"] == ["totp"]
    assert 290 < problem["expires_at"] - utcnow().timestamp() <= 300
    assert "access_token" not in refused.text


@pytest.mark.parametrize("way", ["generator", "recovery"])
async def test_the_challenge_and_a_code_sign_in(client: AsyncClient, eve: Guarded, way: str) -> None:
    code = eve.code() if way == "generator" else eve.recovery[0]

    answer = {"challenge": await challenge_for(client, eve.account), "code": code}
    response = await client.post("/auth/challenge", json=answer)

    assert response.status_code == 200, response.text
    tokens = response.json()
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert me.json()["email"] == eve.account.email
    refreshed = await client.post("/auth/refresh-token", json={"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 200
    assert_problem(await client.post("/auth/challenge", json=answer), 400, "invalid_challenge")


async def test_a_wrong_code_is_a_problem_and_repeats_nothing(client: AsyncClient, eve: Guarded) -> None:
    challenge = await challenge_for(client, eve.account)

    response = await client.post("/auth/challenge", json={"challenge": challenge, "code": "314159"})

    problem = assert_problem(response, 400, "invalid_code")
    assert problem["error"] == "invalid_grant"
    assert "314159" not in response.text


async def test_a_session_without_a_second_factor_costs_no_query_more(
    client: AsyncClient, state: State, make_account: MakeAccount
) -> None:
    account = await make_account()

    # The credentials; the lock; the sessions beyond the cap; the session; the audit.
    with assert_queries(state["database"], max=5):
        assert (await sign_in_with_password(client, account)).status_code == 200


async def test_me_costs_one_query_with_a_second_factor_too(client: AsyncClient, state: State, eve: Guarded) -> None:
    with assert_queries(state["database"], max=1):
        await client.get("/auth/me", headers=eve.signed_in.headers)


async def test_the_state_says_since_when_and_how_many_recovery_codes_are_left(
    client: AsyncClient, eve: Guarded, signed_in: SignedIn
) -> None:
    challenge = await challenge_for(client, eve.account)
    await client.post("/auth/challenge", json={"challenge": challenge, "code": eve.recovery[0]})

    on = (await client.get("/auth/totp", headers=eve.signed_in.headers)).json()
    off = (await client.get("/auth/totp", headers=signed_in.headers)).json()

    assert on["recovery_codes"] == 9
    assert on["since"] is not None
    assert off == {"since": None, "recovery_codes": 0}


async def test_the_offer_has_a_picture_for_cameras(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/totp", headers=signed_in.headers)

    offer = response.json()
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    assert offer["uri"].startswith("otpauth://totp/")
    picture = ET.fromstring(offer["qr_code"])
    assert picture.tag.endswith("svg")
    assert "style" not in offer["qr_code"]


async def test_new_recovery_codes_are_ten(client: AsyncClient, eve: Guarded) -> None:
    response = await client.post("/auth/totp/recovery-codes", headers=eve.signed_in.headers)

    assert response.status_code == 201
    assert len({*response.json()["recovery_codes"]} - {*eve.recovery}) == 10


async def test_once_removed_a_password_is_enough(client: AsyncClient, eve: Guarded) -> None:
    response = await client.delete("/auth/totp", headers=eve.signed_in.headers)

    assert response.status_code == 204
    assert (await sign_in_with_password(client, eve.account)).status_code == 200
    assert_problem(await client.delete("/auth/totp", headers=eve.signed_in.headers), 409, "totp_off")


async def test_what_changes_it_needs_a_fresh_sign_in(
    client: AsyncClient, make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    headers = SignedIn(account, await sign_in(account, now=utcnow() - timedelta(minutes=6))).headers

    for method, path in (("POST", "/auth/totp"), ("DELETE", "/auth/totp"), ("POST", "/auth/totp/recovery-codes")):
        assert_problem(await client.request(method, path, headers=headers), 403, "reauthentication_required")


async def test_what_is_on_is_not_offered_again(client: AsyncClient, eve: Guarded) -> None:
    assert_problem(await client.post("/auth/totp", headers=eve.signed_in.headers), 409, "totp_on")


async def test_without_keys_it_cannot_be_turned_on_and_who_has_it_waits(
    client: AsyncClient, guard: Guard, api_settings: ApiSettings, signed_in: SignedIn
) -> None:
    eve = await guard()
    keyless = api_settings.model_copy(update={"totp": TotpSettings()})

    async with open_client(app_of(keyless)) as other:
        assert_problem(await other.post("/auth/totp", headers=signed_in.headers), 503, "totp_unavailable")
        answer = {"challenge": await challenge_for(other, eve.account), "code": eve.code()}
        assert_problem(await other.post("/auth/challenge", json=answer), 503, "totp_unavailable")

    assert (await client.post("/auth/challenge", json=answer)).status_code == 200

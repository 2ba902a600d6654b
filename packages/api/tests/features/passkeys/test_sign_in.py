"""Signing in by a passkey over HTTP: genuine responses, and those that are bent in one part."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import delete, func, text, update

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.auth import Auth
from app_auth.features.passkeys.challenges import LIFE, Challenges, Purpose
from app_db import Database
from app_db.features.passkeys.models import Passkey
from app_db.models import User
from app_db.repositories.users import UserRepository
from app_db.types import utcnow
from packages.api.tests.conftest import app_of, limited
from packages.api.tests.features.passkeys.conftest import Passkeys, events_of, notices_of
from packages.auth.tests.features.passkeys.authenticator import (
    BE,
    BS,
    ED,
    UP,
    UV,
    Algorithm,
    Authenticator,
    Credential,
    Json,
    encoded,
    new_key,
)


async def options(client: AsyncClient) -> Json:
    answer = await client.post("/auth/passkeys/sign-in/options")
    assert answer.status_code == 200, answer.text
    read: Json = answer.json()
    return read


async def send(client: AsyncClient, credential: Json) -> Response:
    return await client.post("/auth/passkeys/sign-in", json={"credential": credential})


async def sign_in(client: AsyncClient, device: Authenticator, **bent: Any) -> Response:
    return await send(client, device.get(await options(client), **bent))


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_a_passkey_signs_in(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, algorithm: Algorithm, database: Database
) -> None:
    device = Authenticator(algorithm)
    await passkeys.add(signed_in, device)

    tokens = await sign_in(client, device)

    assert tokens.status_code == 200, tokens.text
    headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    assert (await client.get("/auth/me", headers=headers)).json()["email"] == signed_in.account.email
    refreshed = await client.post("/auth/refresh-token", json={"refresh_token": tokens.json()["refresh_token"]})
    assert refreshed.status_code == 200
    (passkey,) = await passkeys.all(signed_in)
    assert passkey["last_used_at"] is not None
    assert await events_of(database, signed_in) == [("passkey_added", {"passkey": passkey["id"]})]


async def test_the_options_of_a_sign_in_name_nobody(client: AsyncClient) -> None:
    read = await options(client)

    assert read == {
        "challenge": read["challenge"],
        "timeout": 300_000,
        "rpId": "localhost",
        "allowCredentials": [],
        "userVerification": "required",
    }


WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
STRANGER = Credential(new_key("ES256"), b"s" * 32, b"s" * 32)
BENT = {
    "another origin": {"origin": "https://evil.example"},
    "another port": {"origin": "http://localhost:8001"},
    "another domain": {"rp_id": "evil.example"},
    "another ceremony": {"type": "webauthn.create"},
    "in a frame": {"cross_origin": True},
    "nobody there": {"flags": UV | BE | BS},
    "nobody verified": {"flags": UP | BE | BS},
    "no copies any more": {"flags": UP | UV},
    "copied, and no copies allowed": {"flags": UP | UV | BS},
    "extensions that are not there": {"flags": UP | UV | BE | BS | ED},
    "another key": {"signer": STRANGER},
    "no signature": {"signature": b""},
    "a signature that is none": {"signature": b"x" * 70},
    "an unknown passkey": {"shown_id": b"x" * 32},
    "no id": {"shown_id": b""},
    "another user": {"user_handle": b"x" * 32},
    "no user": {"user_handle": None},
    "another challenge": {"challenge": encoded(b"x" * 56)},
    "no challenge": {"challenge": ""},
    "short data": {"data": b"x" * 36},
    "no data": {"data": b""},
    "no JSON": {"client_data": b"{"},
    "JSON that is no object": {"client_data": b"7"},
    "deep JSON": {"client_data": b"[" * 20_000},
}


@pytest.mark.parametrize("bent", BENT.values(), ids=BENT.keys())
async def test_a_bent_sign_in_is_refused(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, bent: dict[str, Any]
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    problem = assert_problem(await sign_in(client, device, **bent), 400, "passkey_refused")

    assert problem["error"] == "invalid_grant"
    assert problem["detail"] == "This passkey is not accepted."
    assert (await sign_in(client, device)).status_code == 200


async def test_a_passkey_of_another_account_is_refused_with_the_id_of_this_one(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, operator: SignedIn
) -> None:
    theirs, own = Authenticator(), Authenticator()
    await passkeys.add(operator, theirs)
    await passkeys.add(signed_in, own)
    id_of_theirs, handle = theirs.credentials[0].id, theirs.credentials[0].user_handle

    for bent in ({"shown_id": id_of_theirs, "user_handle": handle}, {"user_handle": handle}):
        assert_problem(await sign_in(client, own, **bent), 400, "passkey_refused")


async def test_a_challenge_of_a_sign_in_is_taken_once(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    asked = await options(client)
    credential = device.get(asked)
    assert (await send(client, credential)).status_code == 200

    for again in (credential, device.get(asked)):
        assert_problem(await send(client, again), 400, "passkey_refused")


async def test_of_parallel_responses_to_one_challenge_one_signs_in(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    asked = await options(client)

    statuses = [each.status_code for each in await asyncio.gather(*(send(client, device.get(asked)) for _ in range(6)))]

    assert sorted(statuses) == [200] + [400] * 5


async def test_a_challenge_is_used_up_by_a_response_that_is_refused(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    asked = await options(client)
    await send(client, device.get(asked, signer=STRANGER))

    assert_problem(await send(client, device.get(asked)), 400, "passkey_refused")


async def test_a_challenge_for_one_thing_is_not_good_for_another(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    registration = await passkeys.options(signed_in)

    assert_problem(await send(client, device.get(registration)), 400, "passkey_refused")
    mixed = {**registration, "challenge": (await options(client))["challenge"]}
    assert_problem(await passkeys.finish(signed_in, device.create(mixed)), 400, "passkey_not_added")


async def test_an_old_challenge_signs_nobody_in(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, auth: Auth
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    old = Challenges(auth.settings).make(Purpose.SIGN_IN, now=utcnow() - LIFE)

    assert_problem(await send(client, device.get({"challenge": encoded(old)})), 400, "passkey_refused")


@pytest.mark.parametrize(("before", "after"), [(5, 5), (5, 4), (5, 0), (2**32 - 1, 0)])
async def test_a_counter_that_goes_back_is_refused_and_audited(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, database: Database, before: int, *, after: int
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    assert (await sign_in(client, device, counter=before)).status_code == 200

    for _ in range(2):
        assert_problem(await sign_in(client, device, counter=after), 400, "passkey_refused")

    events = await events_of(database, signed_in)
    assert events[1:] == [("sign_in_failed", {"because": "passkey_counter"})] * 2
    assert await notices_of(database, signed_in) == ["passkey_added", "passkey_copied"]


async def test_a_counter_that_goes_on_or_stays_zero_is_taken(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    counters = (0, 0, 1, 7, 2**32 - 1)

    assert [(await sign_in(client, device, counter=each)).status_code for each in counters] == [200] * 5


async def test_of_two_uses_with_one_counter_one_signs_in(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    both = await asyncio.gather(*(sign_in(client, device, counter=3) for _ in range(4)))

    assert sorted(each.status_code for each in both) == [200, 400, 400, 400]


async def test_a_removed_passkey_opens_nothing(client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn) -> None:
    device = Authenticator()
    passkey = await passkeys.add(signed_in, device)
    credential = device.get(await options(client))
    await client.delete(f"/auth/passkeys/{passkey['id']}", headers=signed_in.headers)

    assert_problem(await send(client, credential), 400, "passkey_refused")


async def test_a_passkey_that_is_removed_while_it_signs_in_is_no_copy(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, database: Database
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    async with database.unit_of_work() as session:
        await UserRepository(session).lock(signed_in.account.id)
        await session.execute(delete(Passkey))
        entering = asyncio.create_task(sign_in(client, device))
        async with database.unit_of_work(read_only=True) as watching:
            while not await watching.scalar(WAITING):
                pass

    assert_problem(await entering, 400, "passkey_refused")
    assert (await events_of(database, signed_in))[-1] == ("sign_in_failed", {"because": "passkey"})
    assert "passkey_copied" not in await notices_of(database, signed_in)


async def test_a_disabled_account_is_refused_like_an_unknown_passkey(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, database: Database
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    unknown = await sign_in(client, device, shown_id=b"x" * 32)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=func.now()))

    disabled = await sign_in(client, device)

    texts = [each.text.replace(each.headers["X-Request-ID"], "") for each in (unknown, disabled)]
    assert texts[0] == texts[1]
    assert (await events_of(database, signed_in))[-1] == ("sign_in_failed", {"because": "passkey"})


async def test_an_address_that_is_not_verified_keeps_its_passkey_out(
    passkeys: Passkeys, signed_in: SignedIn, api_settings: ApiSettings, database: Database
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_verified_at=None))
    strict = api_settings.auth.model_copy(update={"verification": True})

    async with open_client(app_of(api_settings.model_copy(update={"auth": strict}))) as client:
        assert_problem(await sign_in(client, device), 403, "email_not_verified")


async def test_a_passkey_that_is_refused_is_audited(
    client: AsyncClient, passkeys: Passkeys, signed_in: SignedIn, database: Database
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    await sign_in(client, device, signer=STRANGER)

    assert (await events_of(database, signed_in))[-1] == ("sign_in_failed", {"because": "passkey"})


async def test_sign_ins_by_passkeys_are_throttled(
    passkeys: Passkeys, signed_in: SignedIn, api_settings: ApiSettings
) -> None:
    device = Authenticator()
    await passkeys.add(signed_in, device)

    async with open_client(app_of(limited(api_settings, login_ip="2/5m"))) as client:
        responses = [await sign_in(client, device) for _ in range(3)]

    assert [each.status_code for each in responses] == [200, 200, 429]

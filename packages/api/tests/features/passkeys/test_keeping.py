"""The passkeys of an account: listed, named, removed, and never the last way in."""

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from app_api.features.passkeys.schemas import NewCredential
from app_api.features.passkeys.settings import PasskeySettings
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import SessionEnded
from app_auth.features.passkeys import keeping
from app_auth.features.passkeys.relying_party import RelyingParty
from app_db import Database
from app_db.features.passkeys.models import Passkey
from app_db.models import User
from app_db.repositories.user_sessions import UserSessionRepository
from packages.api.tests.conftest import app_of
from packages.api.tests.features.passkeys.conftest import MakeOlder, Passkeys
from packages.auth.tests.features.passkeys.authenticator import ORIGIN, Authenticator

PARTY = RelyingParty("localhost", (ORIGIN,), "Groundwork")


async def test_passkeys_are_listed_in_their_order_and_renamed(passkeys: Passkeys, signed_in: SignedIn) -> None:
    first, second = [await passkeys.add(signed_in, name=name) for name in ("Laptop", "Phone")]

    renamed = await passkeys.client.patch(
        f"/auth/passkeys/{first['id']}", json={"name": "Büro"}, headers=signed_in.headers
    )

    assert renamed.json() == {**first, "name": "Büro"}
    assert await passkeys.all(signed_in) == [renamed.json(), second]


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\u202eb", "\u200b"])
async def test_a_name_can_be_read(passkeys: Passkeys, signed_in: SignedIn, name: str) -> None:
    credential = Authenticator().create(await passkeys.options(signed_in))
    assert_problem(await passkeys.finish(signed_in, credential, name=name), 422, "invalid_passkey_name")
    passkey = await passkeys.add(signed_in)

    renamed = await passkeys.client.patch(
        f"/auth/passkeys/{passkey['id']}", json={"name": name}, headers=signed_in.headers
    )

    assert_problem(renamed, 422, "invalid_passkey_name")


async def test_the_passkey_of_another_is_not_found(passkeys: Passkeys, signed_in: SignedIn, operator: SignedIn) -> None:
    theirs = await passkeys.add(operator)

    for passkey_id in (theirs["id"], uuid4()):
        path = f"/auth/passkeys/{passkey_id}"
        renamed = await passkeys.client.patch(path, json={"name": "Mine"}, headers=signed_in.headers)
        removed = await passkeys.client.delete(path, headers=signed_in.headers)

        assert_problem(renamed, 404, "passkey_not_found")
        assert_problem(removed, 404, "passkey_not_found")
    assert await passkeys.all(operator) == [theirs]
    assert await passkeys.all(signed_in) == []


async def test_a_passkey_is_removed_only_after_a_fresh_sign_in(
    passkeys: Passkeys, signed_in: SignedIn, make_older: MakeOlder
) -> None:
    passkey = await passkeys.add(signed_in)
    await make_older(signed_in)

    refused = await passkeys.client.delete(f"/auth/passkeys/{passkey['id']}", headers=signed_in.headers)

    assert_problem(refused, 403, "reauthentication_required")
    assert await passkeys.all(signed_in) == [passkey]


async def lose_password(database: Database, user: SignedIn) -> None:
    """Let the account have a hash that no password matches."""
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == user.account.id).values(password_hash="!"))


async def test_the_last_way_in_is_not_removed(passkeys: Passkeys, signed_in: SignedIn, database: Database) -> None:
    first, second = await passkeys.add(signed_in), await passkeys.add(signed_in)
    await lose_password(database, signed_in)
    paths = [f"/auth/passkeys/{each['id']}" for each in (first, second)]

    removed = [await passkeys.client.delete(path, headers=signed_in.headers) for path in paths]

    assert removed[0].status_code == 204
    assert_problem(removed[1], 409, "last_way_in")
    assert await passkeys.all(signed_in) == [second]


async def test_of_the_last_two_that_are_removed_at_once_one_is_left(
    passkeys: Passkeys, signed_in: SignedIn, database: Database
) -> None:
    both = [await passkeys.add(signed_in) for _ in range(2)]
    await lose_password(database, signed_in)

    removed = await asyncio.gather(
        *(passkeys.client.delete(f"/auth/passkeys/{each['id']}", headers=signed_in.headers) for each in both)
    )

    assert sorted(each.status_code for each in removed) == [204, 409]
    assert len(await passkeys.all(signed_in)) == 1


async def test_passkeys_that_are_added_at_once_stay_within_the_limit(
    signed_in: SignedIn, api_settings: ApiSettings
) -> None:
    app = app_of(with_passkeys(api_settings, PasskeySettings(per_account=2)))
    async with open_client(app) as client:
        passkeys = Passkeys(client)
        asked = [await passkeys.options(signed_in) for _ in range(4)]

        added = await asyncio.gather(*(passkeys.finish(signed_in, Authenticator().create(each)) for each in asked))

        assert sorted(each.status_code for each in added) == [201, 201, 409, 409]
        more = await client.post("/auth/passkeys/options", headers=signed_in.headers)
        assert assert_problem(more, 409, "too_many_passkeys")["limit"] == 2


def with_passkeys(settings: ApiSettings, passkeys: PasskeySettings) -> ApiSettings:
    """Return settings with these of passkeys, as the application has them."""
    from app_api.feature_settings import ALL_SETTINGS  # noqa: PLC0415

    return ALL_SETTINGS.model_validate({**dict(settings), "passkeys": passkeys})


async def test_a_session_that_was_just_ended_adds_no_passkey(
    passkeys: Passkeys, signed_in: SignedIn, auth: Auth, database: Database
) -> None:
    """As if the request had been recognised a moment before the session was ended."""
    passkey = await passkeys.add(signed_in)
    created = Authenticator().create(await passkeys.options(signed_in))
    response = NewCredential.model_validate(created).to_response()
    holder = await sessions.authenticate(auth, database, token=signed_in.tokens.access_token)
    async with database.unit_of_work() as session:
        await UserSessionRepository(session).end_all(holder.user_id)

    with pytest.raises(SessionEnded):
        async with database.unit_of_work() as session:
            await keeping.finish(auth, session, holder, PARTY, response=response, name="Mine", limit=9, client=NOBODY)
    with pytest.raises(SessionEnded):
        async with database.unit_of_work() as session:
            await keeping.remove(auth, session, holder, UUID(passkey["id"]), client=NOBODY)


async def test_passkeys_go_with_their_account(passkeys: Passkeys, signed_in: SignedIn, database: Database) -> None:
    await passkeys.add(signed_in)

    deleted = await passkeys.client.delete("/auth/me", headers=signed_in.headers)

    assert deleted.status_code == 204
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(Passkey))).all() == []

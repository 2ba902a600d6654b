"""A key that is shown once is shown again to who repeats the request, and is in no table meanwhile."""

from httpx2 import AsyncClient
from sqlalchemy import func, select, update

from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.features.api_keys.models import ApiKey
from app_db.models import IdempotentRequest, UserSession
from app_db.types import utcnow

NEW = {"name": "ci", "scopes": ["jobs:read"]}


def with_key(signed_in: SignedIn) -> dict[str, str]:
    return {**signed_in.headers, "Idempotency-Key": "0d4a2a5e-first"}


async def test_a_repetition_makes_no_second_key(client: AsyncClient, signed_in: SignedIn, database: Database) -> None:
    first = await client.post("/auth/keys", json=NEW, headers=with_key(signed_in))
    again = await client.post("/auth/keys", json=NEW, headers=with_key(signed_in))

    assert (first.status_code, again.content) == (201, first.content)
    async with database.unit_of_work(read_only=True) as session:
        assert (await session.scalars(select(func.count()).select_from(ApiKey))).one() == 1


async def test_a_key_that_is_shown_once_is_not_stored_for_its_repetition(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    created = await client.post("/auth/keys", json=NEW, headers=with_key(signed_in))

    async with database.unit_of_work(read_only=True) as session:
        (row,) = await session.scalars(select(IdempotentRequest))
    assert created.json()["key"].encode() not in row.answer
    assert row.user_id == signed_in.account.id


async def test_a_key_is_shown_again_to_a_fresh_sign_in_only(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    await client.post("/auth/keys", json=NEW, headers=with_key(signed_in))
    async with database.unit_of_work() as session:
        await session.execute(update(UserSession).values(created_at=utcnow().replace(year=2020)))

    again = await client.post("/auth/keys", json=NEW, headers=with_key(signed_in))

    assert_problem(again, 403, "reauthentication_required")

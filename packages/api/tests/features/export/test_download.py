"""Only the owner of an export can fetch it."""

from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from sqlalchemy import text

from app_api.features.export.files import parts_of
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.export.payloads import AccountExport
from app_db.features.export.repository import ExportRepository
from app_db.types import new_id

PIECES = (b'{"account": {}, "jobs": [', b"1, 2", b"]}")


@pytest_asyncio.fixture(loop_scope="session")
async def other(make_account: MakeAccount, sign_in: SignIn) -> SignedIn:
    account = await make_account()
    return SignedIn(account, await sign_in(account))


@pytest_asyncio.fixture(loop_scope="session")
async def export_id(client: AsyncClient, signed_in: SignedIn, database: Database) -> UUID:
    """A finished export of the user, as its job leaves it."""
    accepted = await client.post("/auth/me/export", headers=signed_in.headers)
    job_id = UUID(accepted.json()["job_id"])
    async with database.unit_of_work() as session:
        for number, content in enumerate(PIECES):
            await ExportRepository(session).add(job_id, number, user_id=signed_in.account.id, content=content)
        await session.execute(
            text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now() WHERE id = :id"),
            {"id": job_id},
        )
    return job_id


async def test_the_owner_fetches_an_export_as_a_file(client: AsyncClient, signed_in: SignedIn, export_id: UUID) -> None:
    response = await client.get(f"/auth/me/exports/{export_id}", headers=signed_in.headers)

    assert (response.status_code, response.content) == (200, b"".join(PIECES))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["content-disposition"] == 'attachment; filename="export.json"'
    assert response.headers["cache-control"] == "no-store"


async def test_the_export_of_another_is_not_found(
    client: AsyncClient, other: SignedIn, operator: SignedIn, export_id: UUID
) -> None:
    for somebody in (other, operator):
        response = await client.get(f"/auth/me/exports/{export_id}", headers=somebody.headers)
        assert_problem(response, 404, "export_not_found")
    assert_problem(await client.get(f"/auth/me/exports/{export_id}"), 401, "not_authenticated")


async def test_an_export_that_is_open_is_not_found(client: AsyncClient, signed_in: SignedIn) -> None:
    accepted = await client.post("/auth/me/export", headers=signed_in.headers)

    response = await client.get(f"/auth/me/exports/{accepted.json()['job_id']}", headers=signed_in.headers)

    assert_problem(response, 404, "export_not_found")


async def test_an_export_that_is_replaced_while_it_is_fetched_ends_short(
    signed_in: SignedIn, export_id: UUID, database: Database
) -> None:
    parts = parts_of(database, export_id, user_id=signed_in.account.id, count=len(PIECES))
    first = await anext(parts)
    async with database.unit_of_work() as session:
        await ExportRepository(session).keep_only(new_id(), user_id=signed_in.account.id, kind=AccountExport.kind)

    assert first == PIECES[0]
    with pytest.raises(StopAsyncIteration):
        await anext(parts)


async def test_asking_again_for_an_export_that_is_open_finds_it(client: AsyncClient, signed_in: SignedIn) -> None:
    answers = [await client.post("/auth/me/export", headers=signed_in.headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["job_id"] for answer in answers}) == 1

"""Batches and chains over HTTP."""

from uuid import UUID

import pytest_asyncio
from httpx2 import AsyncClient
from sqlalchemy import select, text

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.models import AuditEvent
from app_db.testing.queries import assert_queries
from app_db.types import new_id

END_ONE = text("""
    UPDATE jobs SET state = :state, claim_at = NULL, finished_at = now()
    WHERE id = (SELECT id FROM jobs WHERE batch_id = :id AND finished_at IS NULL ORDER BY id LIMIT 1)
""")


@pytest_asyncio.fixture(loop_scope="session")
async def batch_id(signed_in: SignedIn, database: Database) -> UUID:
    """A batch of the user with three jobs."""
    async with database.unit_of_work() as session:
        return await enqueue_batch(session, [PruneSessions()] * 3, owner_id=signed_in.account.id)


async def end_one(database: Database, batch_id: UUID, state: str) -> None:
    async with database.unit_of_work() as session:
        await session.execute(END_ONE, {"id": batch_id, "state": state})


async def test_what_nobody_has_added_up_yet_is_shown(
    client: AsyncClient, signed_in: SignedIn, batch_id: UUID, database: Database
) -> None:
    await end_one(database, batch_id, "completed")
    await end_one(database, batch_id, "discarded")

    shown = (await client.get(f"/jobs/batches/{batch_id}", headers=signed_in.headers)).json()

    assert shown["id"] == str(batch_id)
    assert (shown["state"], shown["is_chain"], shown["total"]) == ("running", False, 3)
    assert (shown["completed"], shown["discarded"], shown["cancelled"]) == (1, 1, 0)
    assert shown["then_id"] is shown["on_failure_id"] is shown["ended_at"] is None


async def test_a_batch_costs_two_queries(
    client: AsyncClient, signed_in: SignedIn, batch_id: UUID, state: State
) -> None:
    with assert_queries(state["database"], max=2):
        await client.get(f"/jobs/batches/{batch_id}", headers=signed_in.headers)


async def test_batches_are_listed_newest_first(
    client: AsyncClient, signed_in: SignedIn, batch_id: UUID, database: Database
) -> None:
    async with database.unit_of_work() as session:
        chain_id = await enqueue_chain(session, PruneSessions(), PruneSessions(), owner_id=signed_in.account.id)

    first = (await client.get("/jobs/batches?limit=1", headers=signed_in.headers)).json()
    second = (await client.get(f"/jobs/batches?limit=1&after={first['next']}", headers=signed_in.headers)).json()

    assert [each["id"] for each in first["items"]] == [str(chain_id)]
    assert [each["id"] for each in second["items"]] == [str(batch_id)]
    assert second["next"] is None


async def test_the_batches_of_everybody_are_for_operators(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, batch_id: UUID
) -> None:
    refused = await client.get("/jobs/batches?all=true", headers=signed_in.headers)
    shown = await client.get("/jobs/batches?all=true", headers=operator.headers)

    assert_problem(refused, 403, "operator_required")
    assert [each["id"] for each in shown.json()["items"]] == [str(batch_id)]
    assert (await client.get("/jobs/batches", headers=operator.headers)).json()["items"] == []


async def test_the_batch_of_another_is_not_found(
    client: AsyncClient, batch_id: UUID, make_account: MakeAccount, sign_in: SignIn
) -> None:
    bob = SignedIn(account := await make_account(), await sign_in(account))

    for method, path in (("GET", ""), ("GET", "/jobs"), ("POST", "/cancel")):
        for found_by_nobody in (batch_id, new_id()):
            response = await client.request(method, f"/jobs/batches/{found_by_nobody}{path}", headers=bob.headers)
            assert_problem(response, 404, "not_found")


async def test_the_jobs_of_a_batch_are_listed_by_state(
    client: AsyncClient, signed_in: SignedIn, batch_id: UUID, database: Database
) -> None:
    await end_one(database, batch_id, "discarded")

    every = (await client.get(f"/jobs/batches/{batch_id}/jobs", headers=signed_in.headers)).json()["items"]
    failed = (await client.get(f"/jobs/batches/{batch_id}/jobs?state=discarded", headers=signed_in.headers)).json()

    assert [each["batch_id"] for each in every] == [str(batch_id)] * 3
    assert [each["state"] for each in failed["items"]] == ["discarded"]


async def test_an_owner_cancels_a_batch_as_a_whole(
    client: AsyncClient, signed_in: SignedIn, batch_id: UUID, database: Database
) -> None:
    await end_one(database, batch_id, "completed")

    for _ in range(2):
        shown = (await client.post(f"/jobs/batches/{batch_id}/cancel", headers=signed_in.headers)).json()
        assert (shown["state"], shown["completed"], shown["cancelled"]) == ("cancelled", 1, 2)


async def test_who_retries_a_batch_is_audited(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, batch_id: UUID, database: Database
) -> None:
    await end_one(database, batch_id, "discarded")
    refused = await client.post(f"/jobs/batches/{batch_id}/retry", headers=signed_in.headers)

    done = await client.post(f"/jobs/batches/{batch_id}/retry", headers=operator.headers)
    unknown = await client.post(f"/jobs/batches/{new_id()}/retry", headers=operator.headers)

    assert_problem(refused, 403, "operator_required")
    assert_problem(unknown, 404, "not_found")
    assert done.json() == {"count": 1, "partial": False}
    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "jobs_acted_on"))
    assert row.actor_id == operator.account.id
    assert row.details.items() >= {"action": "retry", "count": 1, "batch": str(batch_id)}.items()

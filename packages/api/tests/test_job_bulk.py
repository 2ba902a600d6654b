"""Acting on all jobs that match, and deleting, over HTTP."""

from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Response
from sqlalchemy import func, select, text, update

from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.features.jobs.payloads import ActOnJobs
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import bulk
from app_db.jobs.outbox import enqueue
from app_db.models import AuditEvent, Job, JobState
from app_db.testing.jobs import assert_enqueued, refute_enqueued

KIND = PruneSessions.kind


@pytest_asyncio.fixture(loop_scope="session")
async def ended(database: Database) -> UUID:
    """A job that was discarded."""
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, PruneSessions())
        ended = {"state": JobState.DISCARDED, "claim_at": None, "finished_at": func.now()}
        await session.execute(update(Job).where(Job.id == job_id).values(ended))
    return job_id


async def age_sign_ins(database: Database) -> None:
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))


async def audited(database: Database, event: str) -> list[AuditEvent]:
    async with database.unit_of_work(read_only=True) as session:
        return list(await session.scalars(select(AuditEvent).where(AuditEvent.event == event)))


async def start(client: AsyncClient, operator: SignedIn, action: str, **chosen: Any) -> Response:
    body = {"filter": chosen, "action": action}
    return await client.post("/jobs/bulk/start", json=body, headers=operator.headers)


async def test_who_starts_to_act_on_all_that_match_is_audited(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    first, second = [await start(client, operator, "retry", kind=KIND, state="discarded") for _ in range(2)]

    job = await assert_enqueued(database, ActOnJobs, action="retry", job_kind=KIND, state="discarded")
    assert first.status_code == 202
    assert first.json() == second.json() == {"job_id": str(job.id)}
    assert (job.queue, job.owner_id) == (bulk.QUEUE, operator.account.id)
    row, _ = await audited(database, "jobs_bulk_started")
    assert row.actor_id == operator.account.id
    assert row.details == {"action": "retry", "job": str(job.id), "kind": KIND, "state": "discarded"}
    shown = (await client.get(f"/jobs/{job.id}", headers=operator.headers)).json()
    assert shown["state"] == "available"


async def test_an_action_on_every_job_is_not_started(
    client: AsyncClient, operator: SignedIn, database: Database
) -> None:
    assert_problem(await start(client, operator, "cancel"), 422, "filter_too_wide")

    await refute_enqueued(database, ActOnJobs)


async def test_deleting_jobs_needs_a_fresh_sign_in(
    client: AsyncClient, operator: SignedIn, database: Database, ended: UUID
) -> None:
    await age_sign_ins(database)
    body = {"filter": {"kind": KIND}, "action": "delete"}

    refused = [
        await client.post("/jobs/bulk", json=body, headers=operator.headers),
        await start(client, operator, "delete", kind=KIND),
        await client.delete(f"/jobs/{ended}", headers=operator.headers),
    ]

    for response in refused:
        assert_problem(response, 403, "reauthentication_required")
    assert (await client.get(f"/jobs/{ended}", headers=operator.headers)).status_code == 200
    assert (await start(client, operator, "cancel", kind=KIND)).status_code == 202


@pytest.mark.parametrize("chosen", [{"kind": "jobs.bulk"}, {"state": "completed"}])
async def test_work_on_many_jobs_is_begun_anew_by_a_fresh_sign_in(
    client: AsyncClient, operator: SignedIn, database: Database, chosen: dict[str, str]
) -> None:
    job_id = (await start(client, operator, "cancel", kind=KIND)).json()["job_id"]
    over = {"state": JobState.COMPLETED, "claim_at": None, "finished_at": func.now()}
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == UUID(job_id)).values(over))
    await age_sign_ins(database)
    body = {"filter": {"state": "completed"} | chosen, "action": "retry"}

    refused = [
        await client.post(f"/jobs/{job_id}/retry", headers=operator.headers),
        await client.post("/jobs/bulk", json=body, headers=operator.headers),
        await client.post("/jobs/bulk/start", json=body, headers=operator.headers),
    ]
    others = await client.post("/jobs/bulk", json=body | {"filter": {"kind": KIND}}, headers=operator.headers)

    for response in refused:
        assert_problem(response, 403, "reauthentication_required")
    assert others.status_code == 200


async def test_who_deletes_a_job_is_audited(
    client: AsyncClient, operator: SignedIn, database: Database, ended: UUID
) -> None:
    deleted = await client.delete(f"/jobs/{ended}", headers=operator.headers)
    again = await client.delete(f"/jobs/{ended}", headers=operator.headers)

    assert deleted.status_code == 204
    assert_problem(again, 404, "not_found")
    [row] = await audited(database, "jobs_acted_on")
    assert row.actor_id == operator.account.id
    assert row.details == {"action": "delete", "count": 1, "job": str(ended), "kind": KIND}


async def test_a_job_that_waits_is_not_deleted(client: AsyncClient, operator: SignedIn, database: Database) -> None:
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, PruneSessions())

    assert_problem(await client.delete(f"/jobs/{job_id}", headers=operator.headers), 409, "job_is_open")


@pytest.mark.usefixtures("ended")
async def test_many_are_deleted_until_none_is_left(client: AsyncClient, operator: SignedIn) -> None:
    body = {"filter": {"kind": KIND}, "action": "delete"}

    counts = [(await client.post("/jobs/bulk", json=body, headers=operator.headers)).json() for _ in range(2)]

    assert counts == [{"count": 1, "partial": False}, {"count": 0, "partial": False}]

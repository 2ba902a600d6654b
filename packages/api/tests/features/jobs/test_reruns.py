"""`POST /jobs/{job_id}/rerun`: a new job like another one."""

from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import delete, func, select, update

from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.jobs.outbox import enqueue
from app_db.models import AuditEvent, Job, JobState
from app_db.testing.jobs import line_of
from app_db.types import new_id


async def add_discarded(database: Database, owner_id: UUID, **columns: Any) -> UUID:
    """Return a job of the user's that was discarded."""
    async with database.unit_of_work() as session:
        terms: dict[str, Any] = {"queue": "slow", "priority": 7, "max_attempts": 3}
        job_id = await enqueue(session, WelcomeEmail(user_id=owner_id), owner_id=owner_id, **terms)
        ended = {"state": JobState.DISCARDED, "claim_at": None, "finished_at": func.now(), **columns}
        await session.execute(update(Job).where(Job.id == job_id).values(ended))
    return job_id


async def rerun(client: AsyncClient, operator: SignedIn, job_id: UUID, **body: Any) -> Response:
    return await client.post(f"/jobs/{job_id}/rerun", json=body, headers=operator.headers)


async def job_of(database: Database, job_id: str) -> Job:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(Job).where(Job.id == UUID(job_id)))).one()


async def internals_of(client: AsyncClient, operator: SignedIn, job_id: object) -> Any:
    return (await client.get(f"/jobs/{job_id}", headers=operator.headers)).json()["internals"]


async def test_a_rerun_has_the_payload_and_the_terms_of_the_first_job(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    first = await add_discarded(database, signed_in.account.id)

    response = await rerun(client, operator, first)

    assert response.status_code == 201
    new = await job_of(database, response.json()["job_id"])
    assert new.payload == {"user_id": str(signed_in.account.id)}
    assert (new.queue, new.priority, new.max_attempts, new.owner_id, new.state, new.origin_id) == (
        "slow", 7, 3, signed_in.account.id, JobState.AVAILABLE, first,
    ), line_of(new)  # fmt: skip
    assert (await job_of(database, str(first))).state is JobState.DISCARDED


async def test_a_rerun_takes_another_payload_and_no_owner(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    first, other = await add_discarded(database, signed_in.account.id), str(new_id())

    response = await rerun(client, operator, first, payload={"user_id": other}, keeps_owner=False)

    new = await job_of(database, response.json()["job_id"])
    assert (new.payload, new.owner_id) == ({"user_id": other}, None)


async def test_a_payload_that_its_class_refuses_is_a_problem_of_each_field(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    first = await add_discarded(database, signed_in.account.id)

    refused = await rerun(client, operator, first, payload={"user_id": "marker-7", "a/b~c": 1})

    problem = assert_problem(refused, 422, "validation_failed")
    assert {(each["pointer"], each["code"]) for each in problem["errors"]} == {
        ("#/payload/user_id", "uuid_parsing"), ("#/payload/a~1b~0c", "extra_forbidden"),
    }  # fmt: skip
    assert "marker-7" not in refused.text


async def test_the_first_job_and_its_reruns_name_each_other(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    first = await add_discarded(database, signed_in.account.id)
    older, newer = [(await rerun(client, operator, first)).json()["job_id"] for _ in range(2)]

    shown, made = await internals_of(client, operator, first), await internals_of(client, operator, newer)

    assert (shown["origin_id"], shown["origin"]) == (None, None)
    assert [(each["id"], each["state"]) for each in shown["reruns"]] == [(newer, "available"), (older, "available")]
    assert (made["origin_id"], made["origin"]["state"], made["reruns"]) == (str(first), "discarded", [])
    async with database.unit_of_work() as session:
        await session.execute(delete(Job).where(Job.id == first))
    left = await internals_of(client, operator, newer)
    assert (left["origin_id"], left["origin"]) == (str(first), None)


async def test_the_owner_does_not_see_the_links(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    new = (await rerun(client, operator, await add_discarded(database, signed_in.account.id))).json()["job_id"]

    response = await client.get(f"/jobs/{new}", headers=signed_in.headers)

    assert response.json()["internals"] is None


async def test_who_runs_a_job_again_is_audited(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    first = await add_discarded(database, signed_in.account.id)

    new = (await rerun(client, operator, first)).json()["job_id"]

    async with database.unit_of_work(read_only=True) as session:
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "job_rerun"))).one()
    assert row.actor_id == operator.account.id
    assert row.details == {"job": new, "origin": str(first), "kind": WelcomeEmail.kind}


@pytest.mark.parametrize(
    ("columns", "code"),
    [({"kind": "test.gone"}, "unknown_kind"), ({"payload_version": 9}, "payload_outdated")],
)
async def test_a_job_that_this_release_does_not_know_is_not_run_again(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database, columns: dict[str, Any], code: str
) -> None:
    first = await add_discarded(database, signed_in.account.id, **columns)

    assert_problem(await rerun(client, operator, first), 422, code)


async def test_a_job_that_is_not_there_is_not_run_again(client: AsyncClient, operator: SignedIn) -> None:
    assert_problem(await rerun(client, operator, new_id()), 404, "not_found")

"""GET /jobs, GET /jobs/{id} and POST /jobs/{id}/cancel."""

from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from sqlalchemy import func, update

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobError, JobState
from app_db.repositories.jobs import JobRepository
from app_db.testing.queries import assert_queries
from app_db.types import new_id


@pytest_asyncio.fixture(loop_scope="session")
async def job_ids(signed_in: SignedIn, database: Database) -> list[UUID]:
    """Five jobs of the user, newest first; with the welcome mail they have six."""
    async with database.unit_of_work() as session:
        return [await enqueue(session, PruneSessions(), owner_id=signed_in.account.id) for _ in range(5)][::-1]


async def test_a_job_is_shown_with_its_progress_and_result(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID]
) -> None:
    response = await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)

    job = response.json()
    assert job["id"] == str(job_ids[0])
    assert job["state"] == "available"
    assert set(job) == {
        "id",
        "kind",
        "queue",
        "state",
        "owner_id",
        "attempt",
        "created_at",
        "run_at",
        "started_at",
        "finished_at",
        "batch_id",
        "progress",
        "result",
        "cancel_requested",
        "errors",
        "internals",
    }


async def test_a_job_costs_four_queries(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], state: State
) -> None:
    with assert_queries(state["database"], max=4):
        await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)


async def test_the_job_of_another_is_not_found(
    client: AsyncClient, job_ids: list[UUID], make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    other = SignedIn(account, await sign_in(account))

    another = await client.get(f"/jobs/{job_ids[0]}", headers=other.headers)
    missing = await client.get(f"/jobs/{new_id()}", headers=other.headers)

    assert assert_problem(another, 404, "not_found")["detail"] == assert_problem(missing, 404, "not_found")["detail"]


async def test_jobs_are_listed_in_pages_from_the_newest(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID]
) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    page: dict[str, Any] = {}
    for _ in range(3):
        page = (await client.get("/jobs", params={"limit": "2"} | after, headers=signed_in.headers)).json()
        seen += [job["id"] for job in page["items"]]
        after = {"after": page["next"]}

    assert seen[:5] == [str(job_id) for job_id in job_ids]
    assert len(seen) == 6
    assert page["next"] is None


async def test_a_job_that_comes_between_two_pages_shifts_nothing(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], database: Database
) -> None:
    first = (await client.get("/jobs?limit=2", headers=signed_in.headers)).json()
    async with database.unit_of_work() as session:
        await enqueue(session, PruneSessions(), owner_id=signed_in.account.id)

    second = (await client.get(f"/jobs?limit=2&after={first['next']}", headers=signed_in.headers)).json()

    assert [job["id"] for job in second["items"]] == [str(job_id) for job_id in job_ids[2:4]]


async def test_the_list_holds_only_the_callers_jobs(
    client: AsyncClient, job_ids: list[UUID], make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    other = SignedIn(account, await sign_in(account))

    page = (await client.get("/jobs", headers=other.headers)).json()

    assert [job["kind"] for job in page["items"]] == ["email.welcome"]


async def test_a_page_of_jobs_costs_two_queries(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], state: State
) -> None:
    with assert_queries(state["database"], max=2):
        await client.get("/jobs?limit=2", headers=signed_in.headers)


@pytest.mark.parametrize("path", ["/jobs", "/jobs/01a206e8-b163-760e-b415-9ddc1344d69c"])
async def test_jobs_need_a_token(client: AsyncClient, path: str) -> None:
    assert_problem(await client.get(path), 401, "not_authenticated")


@pytest.mark.parametrize("limit", ["0", "-1", "101", "1e3", "9999999999", "9" * 5000, "x", "", "1.5", "NaN"])
async def test_a_limit_out_of_range_is_invalid(client: AsyncClient, signed_in: SignedIn, limit: str) -> None:
    response = await client.get("/jobs", params={"limit": limit}, headers=signed_in.headers)

    problem = assert_problem(response, 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == ["query/limit"]


@pytest.mark.parametrize("limit", ["1", "100"])
async def test_a_limit_within_range_is_valid(client: AsyncClient, signed_in: SignedIn, limit: str) -> None:
    response = await client.get("/jobs", params={"limit": limit}, headers=signed_in.headers)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("cursor", "code"),
    [
        ("", "invalid_cursor"),
        ("x", "invalid_cursor"),
        ("A" * 21, "invalid_cursor"),
        ("A" * 21 + "B", "invalid_cursor"),
        ("A" * 22 + "==", "invalid_cursor"),
        ("A" * 64, "invalid_cursor"),
        ("é" * 22, "invalid_cursor"),
        ("A" * 65, "validation_failed"),
    ],
)
async def test_a_cursor_that_was_not_given_out_is_invalid(
    client: AsyncClient, signed_in: SignedIn, cursor: str, code: str
) -> None:
    response = await client.get("/jobs", params={"after": cursor}, headers=signed_in.headers)

    assert_problem(response, 422, code)


@pytest.mark.parametrize(
    "job_id",
    ["1", "-1", "1.0", "1_0", "%20 1", "%D9%A1", "9223372036854775808", "9" * 5000, "01a206e8-b163-760e-b415-ZZZ"],
)
async def test_a_job_id_that_is_none_is_invalid(client: AsyncClient, signed_in: SignedIn, job_id: str) -> None:
    response = await client.get(f"/jobs/{job_id}", headers=signed_in.headers)

    assert_problem(response, 422, "validation_failed")
    assert "ZZZ" not in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"kind": "sessions.prune"}, 5),
        ({"kind": "email.welcome"}, 1),
        ({"state": "available"}, 6),
        ({"state": "completed"}, 0),
        ({"queue": "default", "kind": "sessions.prune", "state": "available"}, 5),
        ({"queue": "none"}, 0),
        ({"all": "false"}, 6),
    ],
)
async def test_a_list_holds_what_is_asked_for(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], query: dict[str, str], count: int
) -> None:
    page = (await client.get("/jobs", params=query, headers=signed_in.headers)).json()

    assert len(page["items"]) == count


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"state": "gone"}, "query/state"),
        ({"state": ""}, "query/state"),
        ({"kind": "x" * 201}, "query/kind"),
        ({"queue": "x" * 201}, "query/queue"),
        ({"all": "perhaps"}, "query/all"),
    ],
)
async def test_a_list_of_what_cannot_be_is_invalid(
    client: AsyncClient, signed_in: SignedIn, query: dict[str, str], pointer: str
) -> None:
    response = await client.get("/jobs", params=query, headers=signed_in.headers)

    problem = assert_problem(response, 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_the_jobs_of_everybody_are_for_operators(client: AsyncClient, signed_in: SignedIn) -> None:
    assert_problem(await client.get("/jobs?all=true", headers=signed_in.headers), 403, "operator_required")


async def test_an_owner_cancels_their_job_and_may_repeat_it(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID]
) -> None:
    path = f"/jobs/{job_ids[0]}/cancel"

    responses = [await client.post(path, headers=signed_in.headers) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert [response.json()["state"] for response in responses] == ["cancelled", "cancelled"]
    assert (await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)).json() == responses[1].json()


async def test_a_job_that_runs_shows_that_it_was_asked_to_end(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], database: Database
) -> None:
    await set_state(database, job_ids[0], JobState.EXECUTING)
    before = await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)

    response = await client.post(f"/jobs/{job_ids[0]}/cancel", headers=signed_in.headers)

    assert response.status_code == 200
    assert [shown.json()["cancel_requested"] for shown in (before, response)] == [False, True]


async def test_a_job_that_ended_before_it_could_be_cancelled_is_asked_for_nothing(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], database: Database
) -> None:
    await set_state(database, job_ids[0], JobState.EXECUTING)
    await client.post(f"/jobs/{job_ids[0]}/cancel", headers=signed_in.headers)
    await set_state(database, job_ids[0], JobState.COMPLETED)

    response = await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)

    assert response.json()["cancel_requested"] is False


async def test_a_job_that_is_over_cannot_be_cancelled(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], database: Database
) -> None:
    await set_state(database, job_ids[0], JobState.COMPLETED)

    response = await client.post(f"/jobs/{job_ids[0]}/cancel", headers=signed_in.headers)

    assert_problem(response, 409, "job_is_final")


@pytest.mark.parametrize("before", [JobState.EXECUTING, JobState.COMPLETED])
async def test_the_job_of_another_cannot_be_cancelled(
    client: AsyncClient, signed_in: SignedIn, make_account: MakeAccount, database: Database, before: JobState
) -> None:
    other = await make_account()
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, PruneSessions(), owner_id=other.id)
    await set_state(database, job_id, before)

    response = await client.post(f"/jobs/{job_id}/cancel", headers=signed_in.headers)

    assert_problem(response, 404, "not_found")
    async with database.unit_of_work() as session:
        assert not await JobRepository(session).is_asked_to_end(job_id)


async def test_an_owner_sees_the_errors_of_their_job_and_no_code_of_ours(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID], database: Database
) -> None:
    await add_error(database, job_ids[0])

    job = (await client.get(f"/jobs/{job_ids[0]}", headers=signed_in.headers)).json()

    (error,) = job["errors"]
    assert (error["attempt"], error["error"], error["trace"]) == (1, "boom", None)
    assert job["internals"] is None


async def test_a_list_of_jobs_is_free_of_their_results(
    client: AsyncClient, signed_in: SignedIn, job_ids: list[UUID]
) -> None:
    page = (await client.get("/jobs", headers=signed_in.headers)).json()

    assert not {"result", "payload"} & set(page["items"][0])


async def set_state(database: Database, job_id: UUID, state: JobState) -> None:
    """Set the state of the job, and the times that the ledger would set with it."""
    final = state is JobState.COMPLETED
    values = {"state": state, "claim_at": None if final else func.now(), "finished_at": func.now() if final else None}
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(values))


async def add_error(database: Database, job_id: UUID) -> None:
    async with database.unit_of_work() as session:
        session.add(JobError(job_id=job_id, attempt=1, error="boom", trace="secret.py, line 7"))

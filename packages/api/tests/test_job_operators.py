"""The routes of operators under /jobs."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Response
from sqlalchemy import func, insert, update

from app_api.features.jobs import service
from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import counting
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobError, JobState, JobWorker
from app_db.testing.queries import assert_queries
from app_db.types import new_id

NOBODY = "01a206e8-b163-760e-b415-9ddc1344d69c"


@pytest_asyncio.fixture(loop_scope="session")
async def discarded(signed_in: SignedIn, database: Database) -> UUID:
    """A job of a user that was discarded after its only attempt."""
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, PruneSessions(), queue="slow", owner_id=signed_in.account.id, max_attempts=1)
        ended = {"state": JobState.DISCARDED, "claim_at": None, "finished_at": func.now(), "attempt": 1}
        await session.execute(update(Job).where(Job.id == job_id).values(ended))
        session.add(JobError(job_id=job_id, attempt=1, error="boom", trace="secret.py, line 7"))
    return job_id


async def bulk(client: AsyncClient, operator: SignedIn, action: Any, **job_filter: Any) -> Response:
    return await client.post("/jobs/bulk", json={"filter": job_filter, "action": action}, headers=operator.headers)


# --- who may -------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/jobs/queues"),
    ("GET", "/jobs/workers"),
    ("GET", "/jobs/stats"),
    ("GET", "/jobs/crons"),
    ("POST", "/jobs/crons"),
    ("PUT", "/jobs/crons/reports.nightly"),
    ("DELETE", "/jobs/crons/reports.nightly"),
    ("POST", "/jobs/crons/reports.nightly/pause"),
    ("POST", "/jobs/crons/reports.nightly/resume"),
    ("POST", "/jobs/crons/sessions.prune/run"),
    ("POST", "/jobs/bulk"),
    ("POST", "/jobs/bulk/start"),
    ("DELETE", f"/jobs/{NOBODY}"),
    ("POST", "/jobs/queues/default/pause"),
    ("POST", "/jobs/queues/default/resume"),
    ("POST", f"/jobs/{NOBODY}/retry"),
    ("POST", f"/jobs/{NOBODY}/discard"),
    ("POST", f"/jobs/{NOBODY}/rerun"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_what_is_for_operators_is_refused_to_others(
    client: AsyncClient, signed_in: SignedIn, method: str, path: str
) -> None:
    body = {"filter": {"kind": "sessions.prune"}, "action": "cancel"} if "/bulk" in path else None

    refused = await client.request(method, path, json=body, headers=signed_in.headers)
    unknown = await client.request(method, path, json=body)

    assert_problem(refused, 403, "operator_required")
    assert_problem(unknown, 401, "not_authenticated")


@pytest.mark.parametrize("path", ["/jobs/queues", "/jobs/workers", "/jobs/stats"])
async def test_the_paths_of_operators_are_no_job_ids(client: AsyncClient, operator: SignedIn, path: str) -> None:
    assert (await client.get(path, headers=operator.headers)).status_code == 200


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_an_operator_lists_the_jobs_of_everybody(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, discarded: UUID
) -> None:
    page = (await client.get("/jobs?all=true", headers=operator.headers)).json()
    own = (await client.get("/jobs", headers=operator.headers)).json()

    owners = {job["owner_id"] for job in page["items"]}
    assert owners == {str(signed_in.account.id), str(operator.account.id)}
    assert {job["owner_id"] for job in own["items"]} == {str(operator.account.id)}


async def test_an_operator_filters_the_jobs_of_everybody(
    client: AsyncClient, operator: SignedIn, discarded: UUID
) -> None:
    page = (await client.get("/jobs?all=true&state=discarded&queue=slow", headers=operator.headers)).json()

    assert [job["id"] for job in page["items"]] == [str(discarded)]


async def test_an_operator_sees_what_the_attempts_of_a_job_have_committed(
    client: AsyncClient, operator: SignedIn, discarded: UUID, database: Database
) -> None:
    async with database.sessions.begin() as session:
        steps = [{"name": "charge", "result": {"receipt": "ch_1"}}, {"name": "ship", "result": None}]
        await session.execute(update(Job).where(Job.id == discarded).values(steps=steps, cursor=7))

    job = (await client.get(f"/jobs/{discarded}", headers=operator.headers)).json()

    assert (job["internals"]["steps"], job["internals"]["cursor"]) == (steps, 7)


async def test_an_operator_sees_all_there_is_about_a_job(
    client: AsyncClient, operator: SignedIn, discarded: UUID
) -> None:
    job = (await client.get(f"/jobs/{discarded}", headers=operator.headers)).json()

    (error,) = job["errors"]
    assert (error["error"], error["trace"]) == ("boom", "secret.py, line 7")
    assert job["internals"] == {
        "payload": {},
        "payload_version": 1,
        "priority": 2,
        "max_attempts": 1,
        "redeliveries": 0,
        "crashes": 0,
        "worker_id": None,
        "request_id": None,
        "steps": None,
        "cursor": None,
        "origin_id": None,
        "origin": None,
        "reruns": [],
    }


async def test_an_operator_cancels_the_job_of_another(
    client: AsyncClient, signed_in: SignedIn, operator: SignedIn, database: Database
) -> None:
    async with database.unit_of_work() as session:
        job_id = await enqueue(session, PruneSessions(), owner_id=signed_in.account.id)

    response = await client.post(f"/jobs/{job_id}/cancel", headers=operator.headers)

    assert response.json()["state"] == "cancelled"


async def test_an_operator_runs_a_discarded_job_once_more(
    client: AsyncClient, operator: SignedIn, discarded: UUID
) -> None:
    response = await client.post(f"/jobs/{discarded}/retry", headers=operator.headers)

    job = (await client.get(f"/jobs/{discarded}", headers=operator.headers)).json()
    assert response.json() == job
    assert (job["state"], job["finished_at"], job["internals"]["max_attempts"]) == ("available", None, 2)


async def test_an_operator_gives_up_a_job_that_waits(client: AsyncClient, operator: SignedIn, discarded: UUID) -> None:
    await client.post(f"/jobs/{discarded}/retry", headers=operator.headers)

    response = await client.post(f"/jobs/{discarded}/discard", headers=operator.headers)

    assert response.json()["state"] == "discarded"


@pytest.mark.parametrize("action", ["cancel", "retry", "discard"])
async def test_an_operator_is_told_that_a_job_does_not_exist(
    client: AsyncClient, operator: SignedIn, action: str
) -> None:
    assert_problem(await client.post(f"/jobs/{NOBODY}/{action}", headers=operator.headers), 404, "not_found")


async def test_a_job_that_runs_is_neither_retried_nor_given_up(
    client: AsyncClient, operator: SignedIn, discarded: UUID, database: Database
) -> None:
    running = {"state": JobState.EXECUTING, "claim_at": func.now(), "finished_at": None}
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == discarded).values(running))

    responses = [
        await client.post(f"/jobs/{discarded}/{action}", headers=operator.headers) for action in ("retry", "discard")
    ]

    for response in responses:
        assert_problem(response, 409, "job_is_running")


async def test_a_job_whose_like_is_waiting_is_not_retried(
    client: AsyncClient, operator: SignedIn, discarded: UUID, database: Database
) -> None:
    async with database.unit_of_work() as session:
        other = await enqueue(session, PruneSessions())
        unique = {"unique_key": "k", "unique_states": ["available"]}
        await session.execute(update(Job).where(Job.id.in_([discarded, other])).values(unique))

    response = await client.post(f"/jobs/{discarded}/retry", headers=operator.headers)

    assert_problem(response, 409, "job_duplicate")


# --- many ----------------------------------------------------------------------------------------------------------


async def test_many_jobs_are_acted_on_until_none_is_left(
    client: AsyncClient, operator: SignedIn, discarded: UUID
) -> None:
    counts = [(await bulk(client, operator, "retry", state="discarded")).json() for _ in range(2)]

    assert counts == [{"count": 1, "partial": False}, {"count": 0, "partial": False}]
    assert (await client.get(f"/jobs/{discarded}", headers=operator.headers)).json()["state"] == "available"


async def test_many_jobs_say_that_more_may_match(
    client: AsyncClient, operator: SignedIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (service, counting):
        monkeypatch.setattr(module, "MOST_LOOKED_AT", 1)
    async with database.unit_of_work() as session:
        jobs = [await enqueue(session, PruneSessions(), queue="slow") for _ in range(2)]
        await session.execute(update(Job).where(Job.id == jobs[-1]).values(kind="seldom", priority=3))

    kinds = ("seldom", "sessions.prune", "seldom", "seldom")
    found = [(await bulk(client, operator, "cancel", kind=kind, queue="slow")).json() for kind in kinds]

    assert [each["count"] for each in found] == [0, 1, 1, 0]
    assert [each["partial"] for each in found] == [True, True, False, False]


async def test_as_many_jobs_as_a_request_acts_on_may_not_be_all(
    client: AsyncClient, operator: SignedIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 1)
    async with database.unit_of_work() as session:
        await enqueue(session, PruneSessions())

    found = [(await bulk(client, operator, "cancel", kind="sessions.prune")).json() for _ in range(2)]

    assert found == [{"count": 1, "partial": True}, {"count": 0, "partial": False}]


async def test_an_action_on_every_job_is_refused(client: AsyncClient, operator: SignedIn) -> None:
    assert_problem(await bulk(client, operator, "discard"), 422, "filter_too_wide")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"action": "cancel"}, "#/filter"),
        ({"filter": {"kind": "x"}}, "#/action"),
        ({"filter": {"kind": "x"}, "action": "erase"}, "#/action"),
        ({"filter": {"state": "gone"}, "action": "cancel"}, "#/filter/state"),
        ({"filter": {"kind": "x" * 201}, "action": "cancel"}, "#/filter/kind"),
        ({"filter": {"owner": "x"}, "action": "cancel"}, "#/filter/owner"),
        ({"filter": {"kind": "x"}, "action": "cancel", "limit": 1}, "#/limit"),
    ],
)
async def test_an_action_that_cannot_be_is_invalid(
    client: AsyncClient, operator: SignedIn, body: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(
        await client.post("/jobs/bulk", json=body, headers=operator.headers), 422, "validation_failed"
    )

    assert [error["pointer"] for error in problem["errors"]] == [pointer]


# --- queues, workers, figures --------------------------------------------------------------------------------------


async def test_a_queue_is_paused_and_resumed(client: AsyncClient, operator: SignedIn) -> None:
    paused, statuses = [], []
    for action in ("pause", "pause", "resume", "resume"):
        response = await client.post(f"/jobs/queues/default/{action}", headers=operator.headers)
        statuses.append(response.status_code)
        (queue,) = (await client.get("/jobs/queues", headers=operator.headers)).json()["items"]
        paused.append(queue["paused_at"] is not None)

    assert statuses == [204] * 4
    assert paused == [True, True, False, False]


@pytest.mark.parametrize("name", ["mails/urgent", "a b", "100%", "\N{SNOWMAN}", "pause", "x/pause", "..", "q" * 200])
async def test_every_name_that_a_queue_may_have_can_be_said_in_a_path(
    client: AsyncClient, operator: SignedIn, database: Database, name: str
) -> None:
    """Writing and reading follow one rule for names: before, a queue with a slash in its name was never found."""
    async with database.unit_of_work() as session:
        await enqueue(session, PruneSessions(), queue=name)

    spelled = quote(name, safe="").replace(".", "%2E")
    response = await client.post(f"/jobs/queues/{spelled}/pause", headers=operator.headers)

    assert response.status_code == 204
    queues = (await client.get("/jobs/queues", headers=operator.headers)).json()["items"]
    assert [queue["name"] for queue in queues if queue["paused_at"]] == [name]


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_a_queue_that_nobody_uses_is_neither_paused_nor_resumed(
    client: AsyncClient, operator: SignedIn, action: str
) -> None:
    response = await client.post(f"/jobs/queues/mial/{action}", headers=operator.headers)

    assert_problem(response, 404, "queue_not_found")
    assert [
        queue["name"] for queue in (await client.get("/jobs/queues", headers=operator.headers)).json()["items"]
    ] == ["default"]


async def test_the_queues_show_what_is_open_in_them(client: AsyncClient, operator: SignedIn) -> None:
    (queue,) = (await client.get("/jobs/queues", headers=operator.headers)).json()["items"]

    assert queue.pop("oldest_due_age") >= 0
    assert queue == {
        "name": "default",
        "paused_at": None,
        "max_running": None,
        "workers": 0,
        "counts": {"available": 1},
        "at_least": False,
        "paused_by": None,
    }


async def test_the_workers_show_who_is_silent(client: AsyncClient, operator: SignedIn, database: Database) -> None:
    columns = {"host": "host", "pid": 7, "queues": ["default"], "concurrency": 10}
    ages = [timedelta(minutes=1), timedelta(0)]
    async with database.unit_of_work() as session:
        for age in ages:
            times = {"started_at": func.now() - age, "beat_at": func.now() - age}
            await session.execute(insert(JobWorker).values(id=new_id(), **columns, **times))

    workers = (await client.get("/jobs/workers", headers=operator.headers)).json()["items"]

    assert [worker["is_alive"] for worker in workers] == [False, True]
    assert workers[0]["beat_age"] >= 60
    assert workers[0].items() >= columns.items()


async def test_the_figures_show_open_discarded_and_ended_jobs(
    client: AsyncClient, operator: SignedIn, discarded: UUID
) -> None:
    stats = (await client.get("/jobs/stats", headers=operator.headers)).json()

    assert stats == {
        "jobs": [
            {"queue": "default", "kind": "email.welcome", "state": "available", "count": 2},
            {"queue": "slow", "kind": "sessions.prune", "state": "discarded", "count": 1},
        ],
        "finished": [{"kind": "sessions.prune", "state": "discarded", "count": 1, "mean_run_time": None}],
        "at_least": False,
    }


@pytest.mark.parametrize(("path", "queries"), [("/jobs/queues", 2), ("/jobs/workers", 2), ("/jobs/stats", 3)])
async def test_a_look_of_an_operator_costs_few_queries(
    client: AsyncClient, operator: SignedIn, state: State, path: str, queries: int
) -> None:
    with assert_queries(state["database"], max=queries):
        await client.get(path, headers=operator.headers)

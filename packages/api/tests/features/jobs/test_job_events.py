"""GET /jobs/{id}/events: what a client is sent, until when, and what it costs."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from fastapi.sse import ServerSentEvent
from httpx2 import AsyncClient, Response
from sqlalchemy import delete, update

from app_api import streams
from app_api.features.jobs.streams import MOST_PER_ACCOUNT, JobStream, JobStreams, Snapshot
from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, client_of, run_lifespan
from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.features.api_keys.models import ApiKey
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobState, User
from app_db.repositories.jobs import JobRepository
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import app_of


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: Any  # Any: JSON
    id: str | None


def events_of(response: Response) -> list[Event]:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in response.text.strip().split("\n\n")]
    return [Event(one["event"], json.loads(one["data"]), one.get("id")) for one in blocks if "event" in one]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("it did not happen")


@dataclass(frozen=True, slots=True)
class Following:
    """A client that follows a job, of which the streams of the process know."""

    client: AsyncClient
    streams: JobStreams
    job_id: UUID
    headers: dict[str, str]

    async def start(self, **headers: str) -> asyncio.Task[Response]:
        before = len(self.streams._streams)
        url = f"/jobs/{self.job_id}/events"
        task = asyncio.create_task(self.client.get(url, headers=self.headers | headers))
        await until(lambda: len(self.streams._streams) > before or task.done())
        return task

    async def wait_for(self, condition: Callable[[JobStream], bool]) -> None:
        await until(lambda: any(condition(stream) for stream in self.streams._streams))


@pytest_asyncio.fixture(loop_scope="session")
async def job_id(database: Database, signed_in: SignedIn) -> UUID:
    async with database.unit_of_work() as session:
        return await enqueue(session, PruneSessions(), owner_id=signed_in.account.id)


@pytest.fixture
def job_streams(state: State) -> JobStreams:
    streams: JobStreams = state["resources"][JobStreams]
    return streams


@pytest.fixture
def following(client: AsyncClient, job_streams: JobStreams, job_id: UUID, signed_in: SignedIn) -> Following:
    return Following(client, job_streams, job_id, signed_in.headers)


type SetJob = Callable[..., Awaitable[None]]


@pytest.fixture
def set_job(database: Database, job_id: UUID) -> SetJob:
    async def set_job(**columns: object) -> None:
        async with database.unit_of_work() as session:
            await session.execute(update(Job).where(Job.id == job_id).values(**columns))

    return set_job


def has_sent(columns: Mapping[str, object]) -> Callable[[JobStream], bool]:
    def is_sent(stream: JobStream) -> bool:
        line = stream.sent and stream.sent.line
        return all(getattr(line, name, None) == value for name, value in columns.items())

    return is_sent


async def ended(task: asyncio.Task[Response]) -> list[Event]:
    return events_of(await asyncio.wait_for(task, 10))


async def test_a_job_is_followed_to_its_end(
    following: Following, set_job: SetJob, client: AsyncClient, signed_in: SignedIn
) -> None:
    task = await following.start()
    await following.wait_for(lambda stream: stream.sent is not None)
    changes: list[dict[str, object]] = [
        {"state": JobState.EXECUTING, "attempt": 1},
        {"progress": {"done": 1}},
        {"progress": {"done": 2}},
    ]
    for columns in changes:
        await set_job(**columns)
        await following.wait_for(has_sent(columns))
    await set_job(state=JobState.COMPLETED, finished_at=utcnow(), claim_at=None, progress={"done": 3})

    events = await ended(task)

    assert [event.name for event in events] == ["state", "state", "progress", "progress", "end"]
    assert [event.data["progress"] for event in events] == [None, None, {"done": 1}, {"done": 2}, {"done": 3}]
    assert len({event.id for event in events}) == 5
    listed = (await client.get("/jobs?state=completed", headers=signed_in.headers)).json()["items"]
    assert events[-1].data in listed


async def test_a_client_that_comes_back_gets_the_present_state_at_once(following: Following, set_job: SetJob) -> None:
    await set_job(state=JobState.COMPLETED, finished_at=utcnow(), claim_at=None)
    [first] = await ended(await following.start())

    assert first.name == "end"
    assert await ended(await following.start(**{"Last-Event-ID": "another"})) == [first]
    again = await (await following.start(**{"Last-Event-ID": first.id or ""}))
    assert (again.status_code, again.content) == (204, b"")


async def test_nobody_follows_the_job_of_another(
    client: AsyncClient, job_id: UUID, make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    other = SignedIn(account, await sign_in(account))

    assert_problem(await client.get(f"/jobs/{job_id}/events", headers=other.headers), 404, "not_found")
    assert_problem(await client.get(f"/jobs/{job_id}/events"), 401, "not_authenticated")


async def test_an_operator_follows_any_job(
    client: AsyncClient, job_streams: JobStreams, job_id: UUID, operator: SignedIn, set_job: SetJob
) -> None:
    task = await Following(client, job_streams, job_id, operator.headers).start()
    await set_job(state=JobState.CANCELLED, finished_at=utcnow(), claim_at=None)

    assert (await ended(task))[-1].data["state"] == "cancelled"


async def test_a_stream_of_a_session_that_has_ended_says_so(
    following: Following, auth: Auth, database: Database, signed_in: SignedIn
) -> None:
    task = await following.start()
    principal = await sessions.authenticate(auth, database, token=signed_in.tokens.access_token)
    async with database.unit_of_work() as session:
        await sessions.revoke_all(session, principal, client=NOBODY)

    last = (await ended(task))[-1]

    assert (last.name, last.id, last.data["status"], last.data["code"]) == ("error", None, 401, "invalid_token")


async def test_a_stream_of_an_account_that_is_disabled_ends(
    following: Following, database: Database, signed_in: SignedIn
) -> None:
    task = await following.start()
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == signed_in.account.id).values(disabled_at=utcnow()))

    assert (await ended(task))[-1].data["code"] == "invalid_token"


async def test_a_machine_follows_jobs_until_its_key_is_revoked(
    client: AsyncClient, job_streams: JobStreams, job_id: UUID, signed_in: SignedIn, database: Database
) -> None:
    body = {"name": "ci", "scopes": ["jobs:read"], "days": 1}
    made = (await client.post("/auth/keys", json=body, headers=signed_in.headers)).json()
    following = Following(client, job_streams, job_id, {"Authorization": f"Bearer {made['key']}"})
    task = await following.start()
    await asyncio.sleep(2 * streams.POLL)
    assert not task.done()
    async with database.unit_of_work() as session:
        await session.execute(delete(ApiKey))

    assert [(event.name, event.data.get("code")) for event in await ended(task)] == [
        ("state", None),
        ("error", "invalid_token"),
    ]


async def test_a_stream_ends_when_the_process_is_to_stop(following: Following, state: State) -> None:
    task = await following.start()
    await following.wait_for(lambda stream: stream.sent is not None)
    state["stopping"].set()

    last = (await ended(task))[-1]

    assert (last.name, last.data["status"], last.data["code"]) == ("error", 503, "stopping")
    assert_problem(await (await following.start()), 503, "overloaded")


async def test_a_stream_ends_with_the_row_of_its_job(following: Following, database: Database, job_id: UUID) -> None:
    task = await following.start()
    await following.wait_for(lambda stream: stream.sent is not None)
    async with database.unit_of_work() as session:
        await session.execute(delete(Job).where(Job.id == job_id))

    last = (await ended(task))[-1]

    assert (last.name, last.data["status"], last.data["code"]) == ("error", 404, "not_found")


async def test_an_account_follows_so_many_jobs_and_no_more(following: Following) -> None:
    tasks = [await following.start() for _ in range(MOST_PER_ACCOUNT)]

    refused = await (await following.start())

    assert assert_problem(refused, 429, "too_many_streams")["retry_after"] == 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not following.streams.is_polling)
    assert not following.streams._known


async def test_a_process_takes_so_many_streams_and_no_more(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 1)
    task = await following.start()

    assert_problem(await (await following.start()), 503, "overloaded")
    task.cancel()


async def test_many_streams_cost_two_queries_a_second_and_none_costs_none(following: Following, state: State) -> None:
    tasks = [await following.start() for _ in range(5)]
    await asyncio.sleep(streams.POLL)
    with assert_queries(state["database"], max=100) as beside_streams:
        await asyncio.sleep(1.5 * streams.POLL)
    for task in tasks:
        task.cancel()
    await until(lambda: not following.streams.is_polling)

    with assert_queries(state["database"], max=100) as without:
        await asyncio.sleep(1.5 * streams.POLL)

    # The process looks at the connections of its role meanwhile, whoever follows what.
    assert 2 <= len([statement for statement in beside_streams if "pg_" not in statement]) <= 4
    assert [statement for statement in without if "pg_" not in statement] == []


async def test_a_slow_client_is_sent_the_last_state_only(
    job_streams: JobStreams, database: Database, auth: Auth, signed_in: SignedIn, job_id: UUID, set_job: SetJob
) -> None:
    principal = await sessions.authenticate(auth, database, token=signed_in.tokens.access_token)
    stream = JobStream(principal, job_id=job_id)
    for done in range(3):
        await set_job(progress={"done": done})
        async with database.unit_of_work(read_only=True) as session:
            stream.put(Snapshot.of((await JobRepository(session).watched([job_id]))[job_id]))

    event = stream.take()

    assert event is not None
    assert json.loads(event.raw_data or "")["progress"] == {"done": 2}
    assert stream.take() is None


async def fail() -> ServerSentEvent:
    raise RuntimeError("a fault of ours")


class Faulty(JobStreams):
    async def events(self, database: Database, stream: JobStream) -> AsyncGenerator[ServerSentEvent]:
        yield await fail()


async def test_a_fault_is_an_event(client: AsyncClient, state: State, job_id: UUID, signed_in: SignedIn) -> None:
    opened = state["resources"]
    state["resources"] = {**opened, JobStreams: Faulty()}

    [event] = events_of(await client.get(f"/jobs/{job_id}/events", headers=signed_in.headers))

    state["resources"] = opened
    assert (event.name, event.data["status"], event.data["code"]) == ("error", 500, "internal_error")
    assert "a fault" not in event.data["detail"]


async def test_a_stream_takes_no_place_of_a_request(
    api_settings: ApiSettings, signed_in: SignedIn, job_id: UUID, set_job: SetJob
) -> None:
    http = api_settings.http.model_copy(update={"max_requests": 1})
    app = app_of(api_settings.model_copy(update={"http": http}))
    async with run_lifespan(app) as state, client_of(app, state) as client:
        following = Following(client, state["resources"][JobStreams], job_id, signed_in.headers)
        tasks = [await following.start() for _ in range(2)]

        assert (await client.get("/auth/me", headers=signed_in.headers)).status_code == 200

        await set_job(state=JobState.COMPLETED, finished_at=utcnow(), claim_at=None)
        assert [(await ended(task))[-1].name for task in tasks] == ["end", "end"]


async def test_a_head_of_a_stream_ends_at_once(client: AsyncClient, signed_in: SignedIn, job_id: UUID) -> None:
    answer = await asyncio.wait_for(client.head(f"/jobs/{job_id}/events", headers=signed_in.headers), 10)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")


async def test_a_silent_stream_has_a_heartbeat(
    following: Following, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    task = await following.start()
    await asyncio.sleep(0.5)
    state["stopping"].set()

    assert "\n\n: ping\n\n" in (await task).text


async def test_what_is_no_id_of_a_job_is_refused(client: AsyncClient, signed_in: SignedIn) -> None:
    assert_problem(await client.get("/jobs/x/events", headers=signed_in.headers), 422, "validation_failed")
    missing = await client.get(f"/jobs/{new_id()}/events", headers=signed_in.headers)
    assert_problem(missing, 404, "not_found")

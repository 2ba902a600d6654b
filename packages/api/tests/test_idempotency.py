"""Requests with an Idempotency-Key: done once, answered as often as they are repeated."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi import Response as Answer
from httpx2 import AsyncClient, Response
from pydantic import BaseModel
from sqlalchemy import func, select, update

from app_api.dependencies import DatabaseDep, PrincipalDep, SessionDep
from app_api.idempotency import IdempotentDep, claim_of, keep_answers, read_key
from app_api.lifespan import State
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.testing import PASSWORD, MakeAccount, SignIn
from app_db import Database
from app_db.errors import NotFound
from app_db.features.accounts.payloads import OneTimeEmail
from app_db.jobs.outbox import enqueue
from app_db.models import IdempotentRequest, Job, User
from app_db.repositories.idempotency import IdempotencyRepository
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from app_runtime.discovery import FeatureError
from packages.api.tests.conftest import app_of

pytestmark = pytest.mark.usefixtures("app")

NEW = {"name": "Rex"}
STRANGER = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


class PetCreate(BaseModel):
    """A pet, which is a job here: any row will do."""

    name: str


def pets() -> APIRouter:
    router = APIRouter(prefix="/pets")

    @router.post("", status_code=201)
    async def create_pet(
        body: PetCreate, principal: PrincipalDep, session: SessionDep, response: Answer, _: IdempotentDep
    ) -> dict[str, str]:
        await session.release()  # for a call of another service, perhaps
        job_id = await enqueue(session, OneTimeEmail(token_id=new_id()))
        if body.name == "nobody":
            raise NotFound
        response.headers["Location"] = f"/pets/{job_id}"
        return {"name": body.name, "id": str(job_id)}

    @router.post("/lost", status_code=202)
    async def find_pet(principal: PrincipalDep, session: SessionDep, _: IdempotentDep) -> str:
        return str(await enqueue(session, OneTimeEmail(token_id=new_id())))

    nested = APIRouter()
    nested.include_router(router)
    return nested


PATIENT = {
    "pool_timeout": timedelta(seconds=20), "connect_timeout": timedelta(seconds=20),
    "command_timeout": timedelta(seconds=60), "statement_timeout": timedelta(seconds=50),
    "request_timeout": timedelta(seconds=90),
}  # fmt: skip
"""Timeouts of the database with which a busy machine refuses nothing (ADR-0010)."""


def zoo(api_settings: ApiSettings) -> FastAPI:
    app, router = app_of(api_settings), pets()
    keep_answers([router])
    app.include_router(router)
    return app


@pytest.fixture
def app(api_settings: ApiSettings) -> FastAPI:
    """An application with routes of a team's own."""
    return zoo(api_settings)


def with_key(signed_in: SignedIn, key: str = "0d4a2a5e-first") -> dict[str, str]:
    return {**signed_in.headers, "Idempotency-Key": key}


def seen(response: Response) -> tuple[int, bytes, dict[str, str]]:
    """Return all that a client sees but the id of the request and the mark of a repetition."""
    varying = {"x-request-id", "idempotency-replayed"}
    return (
        response.status_code,
        response.content,
        {name: value for name, value in response.headers.items() if name not in varying},
    )


async def pets_in(database: Database) -> int:
    async with database.unit_of_work(read_only=True) as session:
        mine = select(func.count()).select_from(Job).where(Job.kind == OneTimeEmail.kind)
        return (await session.scalars(mine)).one()


async def count(database: Database, entity: type[Any]) -> int:  # Any: a model
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(func.count()).select_from(entity))).one()


async def test_a_repetition_gets_the_first_answer_byte_for_byte(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    first = await client.post("/pets", json=NEW, headers=with_key(signed_in))
    again = await client.post("/pets", json=NEW, headers=with_key(signed_in, '"0d4a2a5e-first"'))

    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert seen(again) == seen(first)
    assert await pets_in(database) == 1


async def test_the_headers_that_matter_are_repeated(client: AsyncClient, signed_in: SignedIn) -> None:
    first = await client.post("/pets", json=NEW, headers=with_key(signed_in))
    again = await client.post("/pets", json=NEW, headers=with_key(signed_in))

    assert again.headers["Location"] == first.headers["Location"] == f"/pets/{first.json()['id']}"
    assert seen(again) == seen(first)


async def test_a_key_is_good_for_one_request(client: AsyncClient, signed_in: SignedIn) -> None:
    await client.post("/pets", json=NEW, headers=with_key(signed_in))

    body = await client.post("/pets", json={**NEW, "name": "cd"}, headers=with_key(signed_in))
    path = await client.post("/pets/lost", headers=with_key(signed_in))
    spelling = await client.post("/pets", content=b'{"name": "Rex"}',
                                 headers={**with_key(signed_in), "Content-Type": "application/json"})  # fmt: skip

    for response in (body, path, spelling):
        assert_problem(response, 422, "idempotency_key_reused")


async def test_accounts_do_not_share_their_keys(
    client: AsyncClient, signed_in: SignedIn, make_account: MakeAccount, sign_in: SignIn
) -> None:
    ben = await make_account()
    theirs = SignedIn(ben, await sign_in(ben))
    first = await client.post("/pets", json=NEW, headers=with_key(signed_in))

    other = await client.post("/pets", json=NEW, headers=with_key(theirs))

    assert other.status_code == 201
    assert other.json()["id"] != first.json()["id"]


async def test_a_request_that_was_refused_leaves_nothing(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    for body, status in (({"name": "nobody"}, 404), ({"name": 7}, 422)):
        assert (await client.post("/pets", json=body, headers=with_key(signed_in))).status_code == status
    assert await pets_in(database) == 0
    assert await count(database, IdempotentRequest) == 0

    assert (await client.post("/pets", json=NEW, headers=with_key(signed_in))).status_code == 201


async def test_without_a_key_nothing_is_kept(client: AsyncClient, signed_in: SignedIn, database: Database) -> None:
    assert (await client.post("/pets", json=NEW, headers=signed_in.headers)).status_code == 201

    assert await count(database, IdempotentRequest) == 0


async def test_a_request_under_way_is_told_to_come_back(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    async with database.sessions() as session:
        await IdempotencyRepository(session).claim(claim_of(signed_in.account.id, "0d4a2a5e-first"))
        during = await client.post("/pets", json=NEW, headers=with_key(signed_in))
        await session.rollback()

    assert_problem(during, 409, "request_under_way")
    assert during.headers["Retry-After"] == "1"
    assert (await client.post("/pets", json=NEW, headers=with_key(signed_in))).status_code == 201


async def test_parallel_requests_at_two_processes_do_the_work_once(
    api_settings: ApiSettings, signed_in: SignedIn, database: Database
) -> None:
    patient = api_settings.model_copy(update={"database": api_settings.database.model_copy(update=PATIENT)})
    async with open_client(zoo(patient)) as one, open_client(zoo(patient)) as twin:
        asked = [each.post("/pets", json=NEW, headers=with_key(signed_in)) for each in (one, twin) * 8]
        responses = await asyncio.gather(*asked)

    assert await pets_in(database) == 1
    assert {response.status_code for response in responses} <= {201, 409}
    done = [response for response in responses if response.status_code == 201]
    assert len({response.content for response in done}) == 1
    assert sum("Idempotency-Replayed" not in response.headers for response in done) == 1
    assert all(response.json()["code"] == "request_under_way" for response in responses if response not in done)


async def test_an_answer_whose_key_was_retired_is_lost(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    await client.post("/pets", json=NEW, headers=with_key(signed_in))
    async with database.unit_of_work() as session:
        await session.execute(update(IdempotentRequest).values(key_id="retired"))

    again = await client.post("/pets", json=NEW, headers=with_key(signed_in))

    assert_problem(again, 409, "answer_lost")


async def test_a_request_with_a_key_costs_two_queries_more(
    client: AsyncClient, signed_in: SignedIn, state: State
) -> None:
    with assert_queries(state["database"], max=4):
        await client.post("/pets/lost", headers=with_key(signed_in))
    with assert_queries(state["database"], max=3):
        await client.post("/pets/lost", headers=with_key(signed_in))


async def test_a_registration_that_is_repeated_makes_one_account_and_one_mail(
    client: AsyncClient, database: Database
) -> None:
    ada = {"email": "ada@example.test", "password": PASSWORD}

    responses = await asyncio.gather(*(client.post("/auth/register", json=ada, headers=STRANGER) for _ in range(6)))
    again = await client.post("/auth/register", json=ada, headers=STRANGER)

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert {response.status_code for response in responses} <= {201, 409}
    codes = {response.json()["code"] for response in responses if response.status_code == 409}
    assert codes <= {"request_under_way"}
    assert (await count(database, User), await count(database, Job)) == (1, 1)
    other = await client.post("/auth/register", json={**ada, "email": "ben@example.test"}, headers=STRANGER)
    assert_problem(other, 422, "idempotency_key_reused")


async def test_the_key_of_a_stranger_has_to_be_long(client: AsyncClient, database: Database) -> None:
    ada = {"email": "ada@example.test", "password": PASSWORD}

    response = await client.post("/auth/register", json=ada, headers={"Idempotency-Key": "1"})

    assert_problem(response, 400, "invalid_idempotency_key")
    assert await count(database, User) == 0


@pytest.mark.parametrize(
    "lines",
    [
        [""], ["  "], ['"'], ['""'], ['"a'], ['a"b'], ['"a";p=1'], ["a b"], ["a,b"], ["a;b"], ["é"], ['"é"'],
        ["a" * 256], ['"a\\b"'], ["one", "two"], ["one", "one"],
    ],
)  # fmt: skip
async def test_what_is_no_key_is_refused(client: AsyncClient, signed_in: SignedIn, lines: list[str]) -> None:
    headers = [(b"Idempotency-Key", line.encode()) for line in lines]
    authorization = (b"Authorization", signed_in.headers["Authorization"].encode())

    response = await client.post("/pets", json=NEW, headers=[*headers, authorization])

    assert_problem(response, 400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        (' "a \\"b\\" \\\\" ', 'a "b" \\'),
        ("a" * 255, "a" * 255),
        ("abc:/+=_~", "abc:/+=_~"),
    ],
)
def test_a_key_is_quoted_or_bare(line: str, key: str) -> None:
    assert read_key([line], is_stranger=False) == key


async def test_a_claim_that_another_has_taken_during_a_release_is_answered(
    api_settings: ApiSettings, signed_in: SignedIn, database: Database
) -> None:
    app, router = app_of(api_settings), APIRouter()
    reached, go_on = asyncio.Event(), asyncio.Event()

    @router.post("/slow")
    async def slow(principal: PrincipalDep, session: SessionDep, _: IdempotentDep) -> str:
        await session.release()
        if not reached.is_set():
            reached.set()
            await go_on.wait()
        return str(await enqueue(session, OneTimeEmail(token_id=new_id())))

    keep_answers([router])
    app.include_router(router)
    async with open_client(app) as client:
        overtaken = asyncio.create_task(client.post("/slow", headers=with_key(signed_in)))
        await reached.wait()
        first = await client.post("/slow", headers=with_key(signed_in))
        go_on.set()
        late = await overtaken

    assert late.headers["Idempotency-Replayed"] == "true"
    assert late.content == first.content
    assert await pets_in(database) == 1


def test_a_route_that_would_not_keep_its_promise_is_refused() -> None:
    async def too_early(_: IdempotentDep, principal: PrincipalDep, session: SessionDep) -> None: ...
    async def no_session(principal: PrincipalDep, _: IdempotentDep) -> None: ...
    async def beside(session: SessionDep, database: DatabaseDep, _: IdempotentDep) -> None: ...

    for endpoint, because in (
        (too_early, "last parameter of too_early"),
        (no_session, "no_session has to do its work in the session"),
        (beside, "beside has to do its work in the session"),
    ):
        router = APIRouter()
        router.post("/pets")(endpoint)
        with pytest.raises(FeatureError, match=because):
            keep_answers([router])

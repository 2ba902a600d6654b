"""POST /auth/register."""

import asyncio

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app_api.lifespan import State
from app_api.testing import assert_problem
from app_auth.testing import PASSWORD
from app_db import Session
from app_db.models import Job, User
from app_db.testing.queries import assert_queries

ADA = {"email": "Ada@Example.test", "password": PASSWORD}


async def test_registering_answers_with_the_account(client: AsyncClient, session: Session) -> None:
    response = await client.post("/auth/register", json=ADA)

    user = (await session.scalars(select(User))).one()
    assert response.status_code == 201
    assert response.json() == {"user_id": str(user.id), "email": "Ada@Example.test"}


async def test_registering_costs_three_queries(client: AsyncClient, state: State) -> None:
    with assert_queries(state["database"], max=3):
        await client.post("/auth/register", json=ADA)


async def test_registering_enqueues_the_welcome_mail_of_this_request(client: AsyncClient, session: Session) -> None:
    response = await client.post("/auth/register", json=ADA, headers={"X-Request-ID": "from-the-client"})

    job = (await session.scalars(select(Job))).one()
    assert job.kind == "email.welcome"
    assert job.payload == {"user_id": response.json()["user_id"]}
    assert job.request_id == "from-the-client"


@pytest.mark.parametrize("spelling", ["Ada@Example.test", "ada@example.TEST"])
async def test_an_address_in_use_cannot_be_registered(client: AsyncClient, spelling: str) -> None:
    await client.post("/auth/register", json=ADA)

    response = await client.post("/auth/register", json=ADA | {"email": spelling})

    assert assert_problem(response, 409, "email_unavailable")["detail"] == "Cannot use this email address"


async def test_parallel_registrations_of_one_address_make_one_account(client: AsyncClient, session: Session) -> None:
    responses = await asyncio.gather(*(client.post("/auth/register", json=ADA) for _ in range(10)))

    assert sorted(response.status_code for response in responses) == [201] + [409] * 9
    assert len((await session.scalars(select(User))).all()) == 1


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"email": "not an address"}, "invalid_email"),
        ({"email": f"{'a' * 250}@example.test"}, "invalid_email"),
        ({"email": "a" * 321}, "validation_failed"),
        ({"password": ""}, "password_too_short"),
        ({"password": "x" * 14}, "password_too_short"),
        ({"password": "x" * 257}, "password_too_long"),
        ({"password": "x" * 1025}, "validation_failed"),
        ({"role": "operator"}, "validation_failed"),
        ({"is_superuser": True}, "validation_failed"),
        ({"id": "01a206e8-b163-760e-b415-9ddc1344d69c"}, "validation_failed"),
        ({"password_hash": "x"}, "validation_failed"),
    ],
)
async def test_an_unacceptable_account_is_not_created(
    client: AsyncClient, session: Session, changed: dict[str, object], code: str
) -> None:
    response = await client.post("/auth/register", json=ADA | changed)

    assert_problem(response, 422, code)
    assert (await session.scalars(select(User))).all() == []


@pytest.mark.parametrize("length", [15, 72, 73, 200, 256])
async def test_a_password_counts_to_its_last_character(client: AsyncClient, length: int) -> None:
    password = ("correct horse battery 42 " * 11)[:length]
    await client.post("/auth/register", json=ADA | {"password": password})

    whole = await client.post("/auth/access-token", data={"username": ADA["email"], "password": password})
    cut = await client.post("/auth/access-token", data={"username": ADA["email"], "password": password[:-1]})

    assert (whole.status_code, cut.status_code) == (200, 400)


async def test_a_password_may_hold_a_character_beyond_the_basic_plane(client: AsyncClient) -> None:
    response = await client.post(
        "/auth/register",
        content=rb'{"email": "ada@example.test", "password": "correct horse \ud83d\ude00"}',
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code == 201

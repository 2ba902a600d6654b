"""POST /auth/me/export, which makes a job."""

from fastapi import FastAPI
from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db.testing.queries import assert_queries
from packages.api.tests.test_response_fields import check


async def test_an_export_is_accepted_as_a_job(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.post("/auth/me/export", headers=signed_in.headers)

    assert response.status_code == 202
    assert response.headers["Location"] == f"/jobs/{response.json()['job_id']}"
    job = await client.get(response.headers["Location"], headers=signed_in.headers)
    assert job.status_code == 200
    assert job.json()["kind"] == "account.export"


async def test_an_export_costs_three_queries(client: AsyncClient, signed_in: SignedIn, state: State) -> None:
    with assert_queries(state["database"], max=3):
        await client.post("/auth/me/export", headers=signed_in.headers)


async def test_an_export_needs_a_token(client: AsyncClient) -> None:
    assert_problem(await client.post("/auth/me/export"), 401, "not_authenticated")


async def test_the_answer_carries_what_the_document_says(
    app: FastAPI, client: AsyncClient, signed_in: SignedIn
) -> None:
    response = await client.post("/auth/me/export", headers=signed_in.headers)

    check(app.openapi(), response)

"""A query parameter that a route does not have, or that is given twice, is refused by name.

Reported of others: a misspelt filter that is ignored lists everything (FastAPI discussion #4886: extra query parameters
are ignored by default), and of a repeated one some servers take the first and some the last.
"""

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import FastAPI, Query
from fastapi.routing import APIRoute
from httpx2 import AsyncClient
from pydantic import BaseModel, Field

from app_api.app import ROUTERS
from app_api.testing import SignedIn, assert_problem
from app_db.testing.queries import assert_queries

SOME_ID = "019a0000-0000-7000-8000-000000000001"


def operations() -> Iterator[tuple[str, str]]:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = route.path.replace("{job_id}", SOME_ID).replace("{session_id}", SOME_ID)
            yield from ((method, path.replace("{name}", "default")) for method in sorted(route.methods or ()))


@pytest.mark.parametrize(("method", "path"), [*operations()], ids=str)
async def test_a_query_parameter_that_is_not_known_is_refused(
    client: AsyncClient, operator: SignedIn, method: str, path: str
) -> None:
    response = await client.request(method, f"{path}?stat=available", headers=operator.headers)

    [error] = assert_problem(response, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["code"]) == ("query/stat", "unknown_parameter")


async def test_who_misspells_a_filter_is_told_the_names_that_there_are(
    client: AsyncClient, signed_in: SignedIn
) -> None:
    response = await client.get("/jobs?Kind=x", headers=signed_in.headers)

    [error] = assert_problem(response, 422, "validation_failed")["errors"]
    assert error["detail"] == (
        "There is no parameter of this name here; there are: after, all, kind, limit, queue, state."
    )


async def test_where_there_are_none_it_says_so(client: AsyncClient, signed_in: SignedIn) -> None:
    response = await client.get("/auth/me?verbose", headers=signed_in.headers)

    [error] = assert_problem(response, 422, "validation_failed")["errors"]
    assert error["detail"] == "There is no parameter of this name here; there are none."


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=5&limit=5", "limit=1&%6cimit=2", "limit&limit="])
async def test_a_parameter_that_is_given_twice_is_refused(client: AsyncClient, signed_in: SignedIn, query: str) -> None:
    response = await client.get(f"/jobs?{query}", headers=signed_in.headers)

    [error] = assert_problem(response, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["code"]) == ("query/limit", "repeated_parameter")


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("", []),
        ("limit=1&state=available&all=false", []),
        ("&&", []),
        ("=", ["query/"]),
        ("a/b~c=1", ["query/a~1b~0c"]),
        ("limit[]=1", ["query/limit[]"]),
        ("limit=1;state=available", ["query/limit"]),  # the value is no number, says the route itself
        ("x=1&x=2&y", ["query/x", "query/y"]),
        ("%C3%A9=1", ["query/é"]),
        (f"{'n' * 5000}=1", [f"query/{'n' * 100}"]),
        ("&".join(f"n{number}" for number in range(100)), [f"query/n{number}" for number in range(20)]),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_each_name_is_told_up_to_a_bound(
    client: AsyncClient, signed_in: SignedIn, query: str, pointers: list[str]
) -> None:
    response = await client.get(f"/jobs?{query}", headers=signed_in.headers)

    assert response.status_code == (422 if pointers else 200)
    assert [error["pointer"] for error in response.json().get("errors", [])] == pointers


@pytest.mark.parametrize("query", ["kind=%ff", "%ff=1", "kind=%C3%28", "kind=caf%E9&limit=1", "kind=%ED%A0%80"])
async def test_a_query_that_is_no_utf_8_is_refused(client: AsyncClient, signed_in: SignedIn, query: str) -> None:
    """RFC 3986, 2.5. Readers keep, drop or replace such bytes: the filter would be another (falconry/falcon #1685)."""
    response = await client.get(f"/jobs?{query}", headers=signed_in.headers)

    assert_problem(response, 422, "invalid_text")


async def test_a_head_is_refused_like_its_get(client: AsyncClient, signed_in: SignedIn) -> None:
    assert (await client.head("/auth/me?x=1", headers=signed_in.headers)).status_code == 422


async def test_who_is_not_signed_in_is_told_that_first(client: AsyncClient) -> None:
    """RFC 6750, 2.3: a token in the query is not looked at."""
    assert_problem(await client.get("/auth/me?access_token=x"), 401, "not_authenticated")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere?x=1", 404), ("PUT", "/auth/me?x=1", 405)])
async def test_what_is_not_there_is_said_to_be_not_there(
    client: AsyncClient, method: str, path: str, status: int
) -> None:
    assert (await client.request(method, path)).status_code == status


async def test_what_is_refused_costs_no_query(client: AsyncClient, state: dict[str, object]) -> None:
    body = {"email": "ada@example.test", "password": "correct horse battery 42"}
    with assert_queries(state["database"], max=0):  # type: ignore[arg-type]  # a State
        assert (await client.post("/auth/register?role=operator", json=body)).status_code == 422


class Filter(BaseModel):
    """A query as a model."""

    colour: str = ""
    tags: Annotated[list[str], Field(alias="tag")] = []


@pytest.fixture
def app_with_lists(app: FastAPI) -> FastAPI:
    """An application with parameters of all kinds."""

    @app.get("/lists")
    async def lists(
        ids: Annotated[list[int] | None, Query()] = None,
        names: Annotated[set[str], Query(alias="name")] = set(),  # noqa: B006  # FastAPI copies it
        note: str | None = None,
    ) -> int:
        return len(ids or []) + len(names)

    @app.get("/model")
    async def model(query: Annotated[Filter, Query()]) -> int:
        return len(query.tags)

    return app


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/lists?ids=1&ids=2&name=a&name=b&note=x", 200),
        ("/lists?note=x&note=y", 422),
        ("/lists?names=a", 422),
        ("/model?tag=a&tag=b&colour=red", 200),
        ("/model?colour=red&colour=blue", 422),
        ("/model?tags=a", 422),
    ],
)
async def test_a_list_may_be_given_as_often_as_it_has_entries(
    app_with_lists: FastAPI, client: AsyncClient, target: str, status: int
) -> None:
    assert (await client.get(target)).status_code == status

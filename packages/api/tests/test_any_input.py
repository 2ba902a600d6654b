"""Whatever is sent, the answer is never a fault of ours."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app_api.testing import SignedIn

POST_ROUTES = (
    "/auth/register",
    "/auth/access-token",
    "/auth/refresh-token",
    "/auth/reset-password",
    "/auth/me/export",
    "/auth/logout",
    "/jobs/01a206e8-b163-760e-b415-9ddc1344d69c/cancel",
)
MEDIA_TYPES = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/plain",
    "",
)
NAMES = ("email", "password", "current_password", "username", "refresh_token", "grant_type", "scope")

# The same examples in every run: a test that fails is one that failed before.
many = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(), max_size=20)  # surrogates and NUL included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.emails()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)
bodies = values | st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=5)


@pytest.mark.parametrize("path", POST_ROUTES)
@many
@given(body=bodies)
async def test_no_json_is_a_fault_of_ours(client: AsyncClient, signed_in: SignedIn, path: str, body: Any) -> None:
    headers = signed_in.headers | {"Content-Type": "application/json"}

    response = await client.post(path, content=json.dumps(body).encode(), headers=headers)

    assert response.status_code < 500


@pytest.mark.parametrize("path", POST_ROUTES)
@many
@given(body=st.binary(max_size=200), media_type=st.sampled_from(MEDIA_TYPES))
async def test_no_bytes_are_a_fault_of_ours(
    client: AsyncClient, signed_in: SignedIn, path: str, body: bytes, media_type: str
) -> None:
    headers = signed_in.headers | {"Content-Type": media_type}

    response = await client.post(path, content=body, headers=headers)

    assert response.status_code < 500


@many
@given(form=st.dictionaries(st.sampled_from(NAMES) | texts, texts, max_size=5))
async def test_no_form_is_a_fault_of_ours(client: AsyncClient, form: dict[str, str]) -> None:
    body = "&".join(f"{quote(name, errors='replace')}={quote(text, errors='replace')}" for name, text in form.items())

    response = await client.post(
        "/auth/access-token", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )

    assert response.status_code < 500


@many
@given(
    body=st.fixed_dictionaries(
        {"action": st.sampled_from(["cancel", "retry", "discard"]) | values},
        optional={
            "filter": st.dictionaries(
                st.sampled_from(("state", "kind", "queue")) | texts,
                st.sampled_from(("discarded", "completed", "executing", "available")) | values,
            )
        },
    )
)
async def test_no_bulk_action_is_a_fault_of_ours(client: AsyncClient, operator: SignedIn, body: Any) -> None:
    headers = operator.headers | {"Content-Type": "application/json"}

    response = await client.post("/jobs/bulk", content=json.dumps(body).encode(), headers=headers)

    assert response.status_code < 500


@many
@given(
    query=st.dictionaries(st.sampled_from(["state", "kind", "queue", "all", "after"]), st.binary(max_size=300)),
    queue=st.binary(max_size=300),
)
async def test_no_look_of_an_operator_is_a_fault_of_ours(
    client: AsyncClient, operator: SignedIn, query: dict[str, bytes], queue: bytes
) -> None:
    target = "&".join(f"{name}={quote(text)}" for name, text in query.items())

    page = await client.get(f"/jobs?{target}", headers=operator.headers)
    pause = await client.post(f"/jobs/queues/{quote(queue, safe='')}/pause", headers=operator.headers)

    assert page.status_code < 500
    assert pause.status_code < 500


@many
@given(job_id=st.binary(max_size=40), after=st.binary(max_size=70), limit=st.binary(max_size=20) | st.integers())
async def test_no_target_is_a_fault_of_ours(
    client: AsyncClient, signed_in: SignedIn, job_id: bytes, after: bytes, limit: bytes | int
) -> None:
    number = str(limit) if isinstance(limit, int) else quote(limit)

    one = await client.get(f"/jobs/{quote(job_id, safe='')}", headers=signed_in.headers)
    page = await client.get(f"/jobs?after={quote(after)}&limit={number}", headers=signed_in.headers)

    assert one.status_code < 500
    assert page.status_code < 500


@many
@given(token=st.binary(max_size=200))
async def test_no_authorization_is_a_fault_of_ours(client: AsyncClient, token: bytes) -> None:
    response = await client.get("/auth/me", headers=[(b"Authorization", b"Bearer " + token)])

    assert response.status_code == 401

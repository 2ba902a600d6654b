"""Errors say what to do, and have members for values that a program can use (RFC 9457, 3.2)."""

from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from pydantic import SecretStr

from app_api.features.accounts.schemas import PasswordChange, PasswordReset, PasswordUpdate, UserCreate
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, client_of, open_client, run_lifespan
from app_auth.limits import ThrottleSettings
from app_auth.testing import SignIn
from app_db.types import utcnow
from packages.api.tests.conftest import app_of

ADA = {"email": "ada@example.test", "password": "correct horse battery 42"}


@pytest.mark.parametrize(
    ("password", "code", "member", "sentence"),
    [
        ("short", "password_too_short", ("min_length", 15), "it needs at least 15 characters"),
        ("long" * 100, "password_too_long", ("max_length", 256), "it may have at most 256 characters"),
    ],
    ids=["short", "long"],
)
async def test_a_password_of_the_wrong_length_is_told_the_right_one(
    client: AsyncClient, password: str, code: str, member: tuple[str, int], sentence: str
) -> None:
    problem = assert_problem(await client.post("/auth/register", json=ADA | {"password": password}), 422, code)

    assert problem[member[0]] == member[1]
    assert sentence in problem["detail"]


async def test_the_length_that_is_told_is_the_one_that_is_set(api_settings: ApiSettings) -> None:
    auth = api_settings.auth.model_copy(update={"password_min_length": 20})

    async with open_client(app_of(api_settings.model_copy(update={"auth": auth}))) as client:
        response = await client.post("/auth/register", json=ADA | {"password": "x7-K!m2 Qz9_pLvv"})

    assert assert_problem(response, 422, "password_too_short")["min_length"] == 20


async def test_json_at_the_sign_in_is_told_that_a_form_is_asked_for(client: AsyncClient) -> None:
    """RFC 6749, 4.3.2: the parameters are a form."""
    response = await client.post("/auth/access-token", json={"username": "ada@example.test", "password": "x"})

    detail = assert_problem(response, 415, "unsupported_media_type")["detail"]
    assert "Send a form (Content-Type: application/x-www-form-urlencoded)" in detail


async def test_a_form_where_json_is_taken_is_told_so(client: AsyncClient) -> None:
    response = await client.post("/auth/register", data=ADA)

    detail = assert_problem(response, 415, "unsupported_media_type")["detail"]
    assert detail == "Send JSON (Content-Type: application/json): nothing else is taken here."


async def test_a_body_that_is_too_large_is_told_how_large_it_may_be(client: AsyncClient) -> None:
    response = await client.post("/auth/register", json=ADA | {"email": "x" * 70_000})

    assert assert_problem(response, 413, "payload_too_large")["max_bytes"] == 64 * 1024


async def test_an_old_sign_in_is_told_how_old_it_may_be(
    client: AsyncClient, signed_in: SignedIn, sign_in: SignIn
) -> None:
    old = await sign_in(signed_in.account, now=utcnow() - timedelta(minutes=6))

    response = await client.delete("/auth/me", headers={"Authorization": f"Bearer {old.access_token}"})

    problem = assert_problem(response, 403, "reauthentication_required")
    assert problem["max_age"] == 300
    assert "not older than 300 seconds" in problem["detail"]


async def test_who_is_throttled_has_the_seconds_in_the_document_too(api_settings: ApiSettings) -> None:
    limited = api_settings.model_copy(update={"throttle": ThrottleSettings(register_ip="1/h")})
    app = app_of(limited)

    async with run_lifespan(app) as state, client_of(app, state) as client:
        await client.post("/auth/register", json=ADA)
        response = await client.post("/auth/register", json=ADA)

    problem = assert_problem(response, 429, "too_many_requests")
    assert problem["retry_after"] == int(response.headers["Retry-After"])


@pytest.mark.parametrize("length", [15, 30])
def test_the_description_says_how_long_a_new_password_is(api_settings: ApiSettings, length: int) -> None:
    auth = api_settings.auth.model_copy(update={"password_min_length": length})
    app: FastAPI = app_of(api_settings.model_copy(update={"auth": auth}))

    schemas = app.openapi()["components"]["schemas"]

    lengths = {
        (model.__name__, name): schemas[model.__name__]["properties"][name].get("minLength")
        for model in (UserCreate, PasswordChange, PasswordReset, PasswordUpdate)
        for name, field in model.model_fields.items()
        if field.annotation is SecretStr
    }
    assert lengths == {
        ("UserCreate", "password"): length,
        ("PasswordChange", "current_password"): None,
        ("PasswordChange", "new_password"): length,
        ("PasswordReset", "new_password"): length,
        ("PasswordUpdate", "password"): length,
        ("PasswordUpdate", "current_password"): None,
    }
    assert "x-new-password" not in str(app.openapi())

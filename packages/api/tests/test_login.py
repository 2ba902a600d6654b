"""POST /auth/access-token: the form of a first-party login."""

import time

import pytest
from httpx2 import AsyncClient

from app_api.lifespan import State
from app_api.testing import assert_problem
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, MakeAccount
from app_db.testing.queries import assert_queries


async def test_a_login_answers_with_tokens_that_work(client: AsyncClient, make_account: MakeAccount) -> None:
    account = await make_account()

    response = await client.post("/auth/access-token", data={"username": account.email, "password": PASSWORD})

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    tokens = response.json()
    assert set(tokens) == {
        "token_type",
        "access_token",
        "expires_at",
        "refresh_token",
        "refresh_token_expires_at",
    }
    assert tokens["token_type"] == "Bearer"
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert me.json()["user_id"] == str(account.id)


async def test_the_times_of_expiry_are_epoch_seconds(
    client: AsyncClient, make_account: MakeAccount, auth_settings: AuthSettings
) -> None:
    account = await make_account()
    before = int(time.time())

    tokens = (await client.post("/auth/access-token", data={"username": account.email, "password": PASSWORD})).json()

    after = int(time.time())
    access, refresh = (int(ttl.total_seconds()) for ttl in (auth_settings.access_ttl, auth_settings.refresh_idle))
    assert before + access <= tokens["expires_at"] <= after + access
    assert before + refresh <= tokens["refresh_token_expires_at"] <= after + refresh


async def test_a_login_costs_five_queries(client: AsyncClient, make_account: MakeAccount, state: State) -> None:
    account = await make_account()

    with assert_queries(state["database"], max=5):  # to find, lock, make room, and write the session and the audit
        await client.post("/auth/access-token", data={"username": account.email, "password": PASSWORD})


async def test_a_wrong_password_and_an_unknown_address_get_equal_answers(
    client: AsyncClient, make_account: MakeAccount
) -> None:
    account = await make_account()
    same = {"X-Request-ID": "same"}

    wrong = await client.post("/auth/access-token", data={"username": account.email, "password": "wrong"}, headers=same)
    unknown = await client.post(
        "/auth/access-token", data={"username": "nobody@example.test", "password": "wrong"}, headers=same
    )
    nonsense = await client.post(
        "/auth/access-token", data={"username": "no address", "password": "wrong"}, headers=same
    )

    problem = assert_problem(wrong, 400, "invalid_grant")
    assert problem["detail"] == "Incorrect email or password"
    assert problem["error"] == "invalid_grant"
    assert wrong.content == unknown.content == nonsense.content
    assert wrong.headers == unknown.headers == nonsense.headers


@pytest.mark.parametrize("whose", ["known", "unknown"])
@pytest.mark.parametrize(("length", "status"), [(73, 400), (1024, 400), (1025, 422)])
async def test_a_long_password_is_refused_alike_whoever_it_is_for(
    client: AsyncClient, make_account: MakeAccount, whose: str, length: int, status: int
) -> None:
    username = (await make_account()).email if whose == "known" else "nobody@example.test"

    response = await client.post("/auth/access-token", data={"username": username, "password": "x" * length})

    assert response.status_code == status


async def test_the_oauth_fields_of_the_form_are_accepted(client: AsyncClient, make_account: MakeAccount) -> None:
    account = await make_account()
    oauth = {"grant_type": "password", "scope": "", "client_id": "web", "client_secret": "s"}

    response = await client.post("/auth/access-token", data={"username": account.email, "password": PASSWORD} | oauth)

    assert response.status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"username": "a@example.test"},
        {"password": PASSWORD},
        {"username": "", "password": PASSWORD},
        {"grant_type": "password", "colour": "red"},
    ],
)
async def test_a_token_request_that_lacks_a_parameter_is_an_invalid_request(
    client: AsyncClient, form: dict[str, str]
) -> None:
    response = await client.post("/auth/access-token", data=form)

    assert assert_problem(response, 400, "invalid_request")["error"] == "invalid_request"


async def test_another_grant_type_is_unsupported(client: AsyncClient) -> None:
    form = {"username": "a@example.test", "password": PASSWORD, "grant_type": "client_credentials"}

    response = await client.post("/auth/access-token", data=form)

    assert assert_problem(response, 400, "unsupported_grant_type")["error"] == "unsupported_grant_type"


@pytest.mark.parametrize(
    "form",
    [
        {"username": "a@example.test", "password": PASSWORD, "is_superuser": "true"},
        {"username": "a" * 321, "password": PASSWORD},
    ],
)
async def test_an_unknown_or_boundless_form_is_refused(client: AsyncClient, form: dict[str, str]) -> None:
    response = await client.post("/auth/access-token", data=form)

    assert_problem(response, 422, "validation_failed")

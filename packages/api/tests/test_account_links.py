"""POST /auth/email/verify, …/resend, /auth/password/forgot, /reset and /change, and registering with verification."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Response
from sqlalchemy import select, update

from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.auth import Auth
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, Account, MakeAccount
from app_db import Database, Session
from app_db.models import Job, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.types import utcnow
from packages.api.tests.conftest import app_of

ADA = {"email": "Ada@Example.test", "password": PASSWORD}
NEW = "another horse battery 43"


def with_auth(settings: ApiSettings, **changed: object) -> ApiSettings:
    return settings.model_copy(update={"auth": settings.auth.model_copy(update=changed)})


@pytest_asyncio.fixture(loop_scope="session")
async def verifying(api_settings: ApiSettings, database: Database) -> AsyncIterator[AsyncClient]:
    """A client of an application that wants addresses to be verified."""
    async with open_client(app_of(with_auth(api_settings, verification=True))) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account(email="ada@example.test")


async def link(auth: Auth, database: Database, purpose: TokenPurpose) -> str:
    """Return the token that the worker would mail to the only user."""
    async with database.unit_of_work() as session:
        user = (await session.scalars(select(User))).one()
        row = auth.one_time_tokens.issue(user, purpose, now=utcnow())
        await OneTimeTokenRepository(session).replace(row)
        return auth.one_time_tokens.derive(row)


def looks(response: Response) -> tuple[int, bytes, set[str]]:
    return response.status_code, response.content, {*response.headers} - {"date"}


async def login(client: AsyncClient, password: str = PASSWORD) -> Response:
    return await client.post("/auth/access-token", data={"username": ADA["email"], "password": password})


async def test_a_registration_looks_the_same_for_a_known_address(verifying: AsyncClient, session: Session) -> None:
    new = await verifying.post("/auth/register", json=ADA)
    known = await verifying.post("/auth/register", json=ADA | {"email": "ada@example.TEST"})

    assert new.status_code == 202
    assert looks(known) == looks(new)
    assert len((await session.scalars(select(User))).all()) == 1


async def test_parallel_registrations_all_look_the_same(verifying: AsyncClient, session: Session) -> None:
    responses = await asyncio.gather(*(verifying.post("/auth/register", json=ADA) for _ in range(10)))

    kinds = sorted(await session.scalars(select(Job.kind)))
    assert len({(response.status_code, response.content) for response in responses}) == 1
    assert kinds == ["account.link"]


async def test_a_verified_address_may_sign_in(verifying: AsyncClient, auth: Auth, database: Database) -> None:
    await verifying.post("/auth/register", json=ADA)
    before, wrong = await login(verifying), await login(verifying, "some other password")
    token = await link(auth, database, TokenPurpose.VERIFY_EMAIL)

    body = {"token": token, "password": PASSWORD}
    verified = await verifying.post("/auth/email/verify", json=body)
    again = await verifying.post("/auth/email/verify", json=body)

    assert_problem(before, 403, "email_not_verified")
    assert_problem(wrong, 400, "invalid_grant")
    assert verified.status_code == again.status_code == 204  # the page says that it is done
    assert (await login(verifying)).status_code == 200


async def test_the_password_counts_that_comes_with_the_link(
    verifying: AsyncClient, auth: Auth, database: Database
) -> None:
    await verifying.post("/auth/register", json=ADA)
    token = await link(auth, database, TokenPurpose.VERIFY_EMAIL)

    weak = await verifying.post("/auth/email/verify", json={"token": token, "password": "passwordpassword"})
    verified = await verifying.post("/auth/email/verify", json={"token": token, "password": NEW})
    again = await verifying.post("/auth/email/verify", json={"token": token, "password": PASSWORD})

    assert_problem(weak, 422, "password_too_common")
    assert verified.status_code == 204
    assert_problem(again, 400, "invalid_grant")
    assert [(await login(verifying, password)).status_code for password in (PASSWORD, NEW)] == [400, 200]


async def test_nobody_can_register_where_registration_is_closed(api_settings: ApiSettings, database: Database) -> None:
    async with open_client(app_of(with_auth(api_settings, registration="closed"))) as client:
        response = await client.post("/auth/register", json=ADA)

    assert_problem(response, 403, "registration_closed")


@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/email/verify/resend"])
async def test_asking_for_a_link_looks_the_same_for_every_address(client: AsyncClient, ada: Account, path: str) -> None:
    known = await client.post(path, json={"email": ada.email})
    unknown = await client.post(path, json={"email": "eve@example.test"})

    assert known.status_code == 202
    assert looks(unknown) == looks(known)


@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/email/verify/resend"])
async def test_what_is_no_address_gets_no_link(client: AsyncClient, path: str) -> None:
    assert_problem(await client.post(path, json={"email": "ada"}), 422, "invalid_email")


async def test_a_reset_sets_the_password_and_signs_nobody_in(
    client: AsyncClient, signed_in: SignedIn, auth: Auth, database: Database
) -> None:
    token = await link(auth, database, TokenPurpose.RESET_PASSWORD)

    response = await client.post("/auth/password/reset", json={"token": token, "new_password": NEW})

    assert (response.status_code, response.content) == (204, b"")
    assert_problem(await client.get("/auth/me", headers=signed_in.headers), 401, "invalid_token")
    form = {"username": signed_in.account.email, "password": NEW}
    assert (await client.post("/auth/access-token", data=form)).status_code == 200


async def test_parallel_resets_with_one_link_succeed_once(
    client: AsyncClient, ada: Account, auth: Auth, database: Database
) -> None:
    body = {"token": await link(auth, database, TokenPurpose.RESET_PASSWORD), "new_password": NEW}

    responses = await asyncio.gather(*(client.post("/auth/password/reset", json=body) for _ in range(10)))

    assert sorted(response.status_code for response in responses) == [204] + [400] * 9


async def test_a_reset_refuses_what_is_easy_to_guess(
    client: AsyncClient, ada: Account, auth: Auth, database: Database
) -> None:
    token = await link(auth, database, TokenPurpose.RESET_PASSWORD)

    weak = await client.post("/auth/password/reset", json={"token": token, "new_password": "passwordpassword"})
    good = await client.post("/auth/password/reset", json={"token": token, "new_password": NEW})

    assert_problem(weak, 422, "password_too_common")
    assert good.status_code == 204


@pytest.mark.parametrize("token", ["", "x", "0" * 32 + "." + "A" * 43])
@pytest.mark.parametrize("path", ["/auth/email/verify", "/auth/password/reset"])
async def test_what_is_no_token_of_ours_is_an_invalid_link(client: AsyncClient, path: str, token: str) -> None:
    body = {"token": token, "new_password" if path.endswith("reset") else "password": NEW}

    assert_problem(await client.post(path, json=body), 400, "invalid_link")


async def test_a_password_is_changed_under_its_own_path(client: AsyncClient, signed_in: SignedIn) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW}

    response = await client.post("/auth/password/change", json=body, headers=signed_in.headers)

    assert (response.status_code, response.content) == (204, b"")
    assert (await client.get("/auth/me", headers=signed_in.headers)).status_code == 200


async def test_the_same_password_again_is_no_change(client: AsyncClient, signed_in: SignedIn) -> None:
    body = {"current_password": PASSWORD, "new_password": PASSWORD}

    response = await client.post("/auth/password/change", json=body, headers=signed_in.headers)

    assert_problem(response, 422, "password_unchanged")


async def test_a_disabled_account_looks_like_a_wrong_password(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(disabled_at=utcnow()))

    form = {"username": signed_in.account.email, "password": PASSWORD}
    disabled = await client.post("/auth/access-token", data=form)
    unknown = await client.post("/auth/access-token", data=form | {"username": "eve@example.test"})

    assert {**assert_problem(disabled, 400, "invalid_grant"), "request_id": ""} == {**unknown.json(), "request_id": ""}


@pytest.mark.parametrize("username", ["ada@example.test", "eve@example.test"])
async def test_a_password_of_too_many_bytes_is_refused_for_anyone(
    client: AsyncClient, ada: Account, username: str
) -> None:
    response = await client.post("/auth/access-token", data={"username": username, "password": "\u00e9" * 513})

    assert_problem(response, 422, "password_too_long")


@pytest.mark.parametrize(("env", "verification"), [("development", False), ("test", True), ("production", True)])
def test_only_in_development_accounts_work_without_a_mail(
    api_settings: ApiSettings, auth_settings: AuthSettings, env: str, verification: bool
) -> None:
    rings = {name: getattr(auth_settings, name) for name in ("keys", "refresh_keys", "token_keys", "peppers")}
    given = {"env": env, "database": api_settings.database, "redis": api_settings.redis}

    default = ApiSettings.model_validate(given | {"auth": rings})
    named = ApiSettings.model_validate(given | {"auth": rings | {"verification": "on"}})

    assert (default.auth.verification, named.auth.verification) == (verification, True)

"""The application with keys for one-time codes, and accounts that ask for them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from pyotp import TOTP

from app_api.feature_settings import ALL_SETTINGS
from app_api.settings import ApiSettings
from app_api.testing import SignedIn
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_auth.testing import Account, MakeAccount, SignIn, new_key
from app_db.settings import DatabaseSettings
from app_db.types import utcnow
from packages.api.tests.conftest import app_of


@pytest.fixture(scope="session")
def api_settings(
    database_settings: DatabaseSettings,
    valkey_url: str,
    auth_settings: AuthSettings,
    throttle_settings: ThrottleSettings,
) -> ApiSettings:
    return ALL_SETTINGS.model_validate(
        {
            "env": "test",
            "database": database_settings,
            "redis": {"url": valkey_url},
            "auth": auth_settings,
            "throttle": throttle_settings,
            "totp": {"keys": (new_key("totp"),)},
        }
    )


@pytest.fixture(scope="session")
def shared_app(api_settings: ApiSettings) -> FastAPI:
    return app_of(api_settings)


@dataclass(slots=True)
class Guarded:
    """An account that asks for codes, with the session that turned them on."""

    signed_in: SignedIn
    generator: TOTP
    recovery: list[str]

    @property
    def account(self) -> Account:
        return self.signed_in.account

    def code(self, *, steps: int = 1) -> str:
        """Return what a fast generator shows, because the code of this step has confirmed it."""
        return self.generator.at(utcnow(), counter_offset=steps)


type Guard = Callable[[], Awaitable[Guarded]]


@pytest_asyncio.fixture(loop_scope="session")
async def guard(client: AsyncClient, make_account: MakeAccount, sign_in: SignIn) -> Guard:
    """Return a function that makes an account and turns codes on over HTTP."""

    async def guard() -> Guarded:
        account = await make_account()
        user = SignedIn(account, await sign_in(account))
        offer = (await client.post("/auth/totp", headers=user.headers)).json()
        made = Guarded(user, TOTP(offer["secret"]), [])
        shown = await client.post("/auth/totp/confirm", headers=user.headers, json={"code": made.code(steps=0)})
        assert shown.status_code == 200, shown.text
        made.recovery = shown.json()["recovery_codes"]
        return made

    return guard


@pytest_asyncio.fixture(loop_scope="session")
async def eve(guard: Guard) -> Guarded:
    return await guard()


async def sign_in_with_password(client: AsyncClient, account: Account) -> Response:
    form = {"username": account.email, "password": account.password}
    return await client.post("/auth/access-token", data=form)


async def challenge_for(client: AsyncClient, account: Account) -> str:
    """Sign in with the password, and return the challenge."""
    refused = await sign_in_with_password(client, account)
    assert refused.status_code == 403, refused.text
    return str(refused.json()["challenge"])

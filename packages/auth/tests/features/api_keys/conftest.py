"""A person who has signed in, and what makes keys for them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import pytest_asyncio

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.features.api_keys import service
from app_auth.features.api_keys.service import NewKey
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Database

type MakeKey = Callable[..., Awaitable[NewKey]]

KNOWN = ("jobs:read", "jobs:write")


@pytest_asyncio.fixture(loop_scope="session")
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account()


@pytest_asyncio.fixture(loop_scope="session")
async def principal(ada: Account, sign_in: SignIn, auth: Auth, database: Database) -> Principal:
    """Ada, who has just signed in."""
    return await sessions.authenticate(auth, database, token=(await sign_in(ada)).access_token)


@pytest.fixture
def make_key(auth: Auth, database: Database, principal: Principal) -> MakeKey:
    """Return a function that makes a key of Ada's, and commits it."""

    async def make(
        name: str = "ci", *, scopes: tuple[str, ...] = ("jobs:read",), life: timedelta = service.LIFE, auth: Auth = auth
    ) -> NewKey:
        async with database.unit_of_work() as session:
            return await service.create_key(
                auth, session, principal, name=name, scopes=scopes, known=KNOWN, life=life, client=NOBODY
            )

    return make

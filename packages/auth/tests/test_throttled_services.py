"""Each service that a stranger can call asks the throttle first: here one call is allowed, successful or not."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from app_auth import accounts, links, sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import InvalidCredentials, InvalidLink, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import PASSWORD, MakeAccount, SignIn
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.types import utcnow

type Recognise = Callable[..., Awaitable[Principal]]
type Call = Callable[[Auth, Session], Awaitable[object]]

ADA = "ada@example.test"


@pytest.fixture
def strict(auth: Auth) -> Auth:
    """Return an Auth that allows each thing once."""
    settings = ThrottleSettings(**dict.fromkeys(ThrottleSettings.model_fields, "1/h"))
    return replace(auth, throttle=Throttle(settings, secret=b"of this test"))


async def is_throttled(auth: Auth, database: Database, call: Call) -> bool:
    """Whether the throttle refuses the call."""
    try:
        with suppress(InvalidLink, InvalidCredentials):
            async with database.unit_of_work() as session:
                await call(auth, session)
    except Throttled:
        return True
    return False


async def test_registrations_are_throttled(strict: Auth, database: Database) -> None:
    async def register(auth: Auth, session: Session) -> object:
        return await accounts.register(auth, session, email=ADA, password=PASSWORD, client=NOBODY)

    assert not await is_throttled(strict, database, register)
    assert await is_throttled(strict, database, register)


async def test_requests_for_a_verification_mail_are_throttled(strict: Auth, database: Database) -> None:
    async def request(auth: Auth, session: Session) -> None:
        await links.request_verification(auth, session, email=ADA, client=NOBODY)

    assert not await is_throttled(strict, database, request)
    assert await is_throttled(strict, database, request)


async def test_verifications_are_throttled(strict: Auth, database: Database) -> None:
    async def verify(auth: Auth, session: Session) -> None:
        await links.verify_email(auth, session, token="made up", password=PASSWORD, client=NOBODY, now=utcnow())

    assert not await is_throttled(strict, database, verify)
    assert await is_throttled(strict, database, verify)


async def test_requests_for_a_reset_are_throttled(strict: Auth, database: Database) -> None:
    async def forget(auth: Auth, session: Session) -> None:
        await links.forgot_password(auth, session, email=ADA, client=NOBODY)

    assert not await is_throttled(strict, database, forget)
    assert await is_throttled(strict, database, forget)


async def test_resets_are_throttled(strict: Auth, database: Database) -> None:
    async def reset(auth: Auth, session: Session) -> None:
        await links.reset_password(auth, session, token="made up", new_password=PASSWORD, client=NOBODY, now=utcnow())

    assert not await is_throttled(strict, database, reset)
    assert await is_throttled(strict, database, reset)


async def test_guesses_at_the_current_password_are_guesses_at_the_login(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    account = await make_account()
    principal = await recognise((await sign_in(account)).access_token)
    strict = replace(auth, throttle=Throttle(ThrottleSettings(login_account="1/h"), secret=b"of this test"))

    async def guess(auth: Auth, session: Session) -> None:
        new = "another horse battery 43"
        await accounts.change_password(
            auth, session, principal, current_password="a guess", new_password=new, client=NOBODY
        )

    async def login(auth: Auth, session: Session) -> object:
        email, password = account.email, account.password
        return await sessions.sign_in(auth, session, email=email, password=password, client=NOBODY, now=utcnow())

    assert not await is_throttled(strict, database, guess)
    assert await is_throttled(strict, database, login)

"""Accounts with a generator."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from pyotp import TOTP
from sqlalchemy import select

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import NOBODY
from app_auth.features.totp import codes, service
from app_auth.features.totp.vault import Vault
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn, new_key
from app_db import Database
from app_db.errors import AppError
from app_db.features.totp.repository import TotpRepository
from app_db.models import AuditEvent, UserSession
from app_db.types import utcnow


@dataclass(slots=True)
class Guarded:
    """An account that asks for codes, its generator, and the recovery codes."""

    account: Account
    secret: bytes
    recovery: list[str]
    principal: Principal
    first: str = ""
    """The code that confirmed it."""

    def code(self, now: datetime | None = None, *, steps: int = 0) -> str:
        """Return what the generator shows at a time; without one, what a fast one does, as this step's is used up."""
        steps += now is None
        return TOTP(codes.text_of(self.secret)).generate_otp(codes.step_at(now or utcnow()) + steps)


type Guard = Callable[[], Awaitable[Guarded]]
type AskedFor = Callable[[Account], Awaitable[SecondFactorRequired]]
type Answer = Callable[..., Coroutine[None, None, UserSession]]


@pytest.fixture(scope="session")
def vault() -> Vault:
    return Vault((new_key(),))


@pytest.fixture
def as_principal(auth: Auth, database: Database, sign_in: SignIn) -> Callable[[Account], Awaitable[Principal]]:
    """Return a function that signs an account in and returns it as a request has it."""

    async def as_principal(account: Account) -> Principal:
        tokens = await sign_in(account)
        return await sessions.authenticate(auth, database, token=tokens.access_token)

    return as_principal


@pytest.fixture
def guard(
    auth: Auth,
    vault: Vault,
    database: Database,
    make_account: MakeAccount,
    as_principal: Callable[[Account], Awaitable[Principal]],
) -> Guard:
    """Return a function that makes an account and turns codes on."""

    async def guard() -> Guarded:
        account = await make_account()
        principal = await as_principal(account)
        async with database.unit_of_work() as session:
            await service.enrol(auth, vault, session, principal)
        async with database.unit_of_work() as session:
            row = await TotpRepository(session).secret_of(account.id)
            assert row is not None
            made = Guarded(account, vault.open(row), [], principal)
        made.first = made.code(utcnow())
        async with database.unit_of_work() as session:
            made.recovery = await service.confirm(auth, vault, session, principal, code=made.first, client=NOBODY)
        return made

    return guard


@pytest.fixture
async def ada(guard: Guard) -> Guarded:
    return await guard()


async def stored(database: Database, error: AppError) -> None:
    """Write the aftermath of an error, as the edge does after the rollback."""
    async with database.unit_of_work() as session:
        await error.aftermath(session)


@pytest.fixture
def asked_for(auth: Auth, database: Database) -> AskedFor:
    """Return a function that signs in with the password, and returns the challenge."""

    async def asked_for(account: Account) -> SecondFactorRequired:
        with pytest.raises(SecondFactorRequired) as caught:
            async with database.unit_of_work() as session:
                await sessions.sign_in(auth, session, email=account.email, password=account.password, client=NOBODY)
        await stored(database, caught.value)
        return caught.value

    return asked_for


@pytest.fixture
def answer(auth: Auth, vault: Vault, database: Database) -> Answer:
    """Return a function that answers a challenge as a request does."""

    async def answer(
        challenge: str, code: str, *, now: datetime | None = None, vault: Vault = vault, auth: Auth = auth
    ) -> UserSession:
        try:
            async with database.unit_of_work() as session:
                return await service.answer(
                    auth, vault, session, challenge=challenge, code=code, client=NOBODY, now=now
                )
        except AppError as error:
            await stored(database, error)
            raise

    return answer


def aged(principal: Principal) -> Principal:
    """Return the principal as a request has it six minutes after the sign-in."""
    return Principal(
        principal.user_id, principal.email, principal.role, principal.session_id, utcnow() - timedelta(minutes=6)
    )


async def events_of(database: Database, account: Account) -> list[str]:
    async with database.unit_of_work() as session:
        rows = select(AuditEvent.event).where(AuditEvent.user_id == account.id).order_by(AuditEvent.id)
        return list(await session.scalars(rows))

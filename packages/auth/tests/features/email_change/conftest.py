"""Fixtures that change the address of an account, and give the tokens that the worker would mail."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import pytest
from sqlalchemy import select

from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.features.email_change import service, undoing
from app_auth.features.email_change.tokens import confirming
from app_auth.features.email_change.tokens import undoing as undo_token_of
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_auth.testing import Account, MakeAccount, SignIn
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.email_change.models import EmailChange, FormerEmail
from app_db.models import User

OLD, NEW, NEWER = "ada@example.test", "lovelace@example.test", "augusta@example.test"

type Recognise = Callable[..., Awaitable[Principal]]


@pytest.fixture
def auth(auth_settings: AuthSettings, auth: Auth) -> Iterator[Auth]:
    """As in production: an address has to be verified."""
    with open_auth(auth_settings.model_copy(update={"verification": True}), throttle=auth.throttle) as verifying:
        yield verifying


@pytest.fixture
async def ada(make_account: MakeAccount) -> Account:
    """An account with a proven address."""
    return await make_account(email=OLD)


@dataclass(frozen=True, slots=True)
class Mover:
    """Ada, as she changes her address in one session."""

    auth: Auth
    database: Database
    account: Account
    principal: Principal
    tokens: IssuedTokens

    async def ask(self, email: str = NEW) -> str:
        """Ask for a change; return the token that is mailed to the new address."""
        async with self.database.unit_of_work() as session:
            await service.request(self.auth, session, self.principal, email=email, client=NOBODY)
        async with self.database.unit_of_work() as session:
            of_account = select(EmailChange).where(EmailChange.user_id == self.account.id)
            return confirming(self.auth.one_time_tokens, (await session.scalars(of_account)).one())

    async def confirm(self, token: str, *, password: str | None = None, now: datetime | None = None) -> None:
        """Confirm a change, in the session or with a password."""
        how = {"principal": self.principal} if password is None else {"password": password}
        async with self.database.unit_of_work() as session:
            await service.confirm(self.auth, session, token=token, client=NOBODY, now=now, **how)

    async def change(self, email: str = NEW) -> str:
        """Change the address; return the token that is mailed to the one before."""
        before = await self.email()
        await self.confirm(await self.ask(email))
        # The service reads the address of the principal as the database knows it.
        object.__setattr__(self, "principal", replace(self.principal, email=email))
        return await self.undo_token(before)

    async def undo_token(self, before: str) -> str:
        """Return the token that brings this address back."""
        async with self.database.unit_of_work() as session:
            former = select(FormerEmail).where(FormerEmail.email == before, FormerEmail.user_id == self.account.id)
            rows = (await session.scalars(former.order_by(FormerEmail.created_at))).all()
            return undo_token_of(self.auth.one_time_tokens, rows[-1])

    async def undo(self, token: str, *, now: datetime | None = None) -> None:
        """Undo a change."""
        async with self.database.unit_of_work() as session:
            await undoing.undo(self.auth, session, token=token, client=NOBODY, now=now)

    async def email(self) -> str:
        """Return the address that the account has."""
        async with self.database.unit_of_work() as session:
            return (await session.scalars(select(User.email).where(User.id == self.account.id))).one()

    def throttled(self, throttle: Throttle) -> "Mover":
        """Return the same with another throttle."""
        return replace(self, auth=replace(self.auth, throttle=throttle))


@pytest.fixture
async def mover(auth: Auth, database: Database, ada: Account, sign_in: SignIn, recognise: Recognise) -> Mover:
    """Ada in a fresh session."""
    tokens = await sign_in(ada)
    return Mover(auth, database, ada, await recognise(tokens.access_token), tokens)

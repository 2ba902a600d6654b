"""Steps of tests about passkeys: what a browser asks for and sends, over HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import func, select, update

from app_api.testing import SignedIn
from app_db import Database
from app_db.features.accounts.payloads import SecurityNotice
from app_db.models import AuditEvent, Job, UserSession
from packages.auth.tests.features.passkeys.authenticator import Authenticator, Json


@dataclass(frozen=True, slots=True)
class Passkeys:
    """The routes of passkeys."""

    client: AsyncClient

    async def options(self, user: SignedIn) -> Json:
        """Return the options of a registration."""
        response = await self.client.post("/auth/passkeys/options", headers=user.headers)
        assert response.status_code == 200, response.text
        options: Json = response.json()
        return options

    async def finish(self, user: SignedIn, credential: Json, *, name: str = "Laptop") -> Response:
        """Send what the browser has made."""
        body = {"name": name, "credential": credential}
        return await self.client.post("/auth/passkeys", json=body, headers=user.headers)

    async def add(self, user: SignedIn, device: Authenticator | None = None, *, name: str = "Laptop") -> Json:
        """Add a passkey, and return how it is listed."""
        device = device or Authenticator()
        added = await self.finish(user, device.create(await self.options(user)), name=name)
        assert added.status_code == 201, added.text
        listed: Json = added.json()
        return listed

    async def all(self, user: SignedIn) -> list[Json]:
        """Return the passkeys of a user."""
        items: list[Json] = (await self.client.get("/auth/passkeys", headers=user.headers)).json()["items"]
        return items


@pytest.fixture
def passkeys(client: AsyncClient) -> Passkeys:
    """The routes of passkeys."""
    return Passkeys(client)


type MakeOlder = Callable[[SignedIn], Awaitable[None]]


@pytest.fixture
def make_older(database: Database) -> MakeOlder:
    """Return a function that lets a user have signed in six minutes ago."""

    async def make_older(user: SignedIn) -> None:
        own = UserSession.user_id == user.account.id
        async with database.unit_of_work() as session:
            await session.execute(update(UserSession).where(own).values(created_at=func.now() - timedelta(minutes=6)))

    return make_older


async def events_of(database: Database, user: SignedIn) -> list[tuple[str, Json]]:
    """Return the events about passkeys and failed sign-ins of a user, oldest first, with their details."""
    mine = select(AuditEvent).where(AuditEvent.user_id == user.account.id).order_by(AuditEvent.id)
    async with database.unit_of_work(read_only=True) as session:
        found = [(event.event, event.details) for event in await session.scalars(mine)]
    return [event for event in found if event[0].startswith(("passkey", "sign_in_failed"))]


async def notices_of(database: Database, user: SignedIn) -> list[str]:
    """Return what the user is told by mail about passkeys, oldest first."""
    mine = select(Job).where(Job.kind == SecurityNotice.kind, Job.owner_id == user.account.id).order_by(Job.id)
    async with database.unit_of_work(read_only=True) as session:
        return [str(job.payload["what"]) for job in await session.scalars(mine)]

"""Asking for an export: one at a time, not too often, and behind mails.

As in the project's own report: 1,500 requests of one account kept another's mail waiting for 2 min 31 s.
"""

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import select

from app_api.features.export import service
from app_api.features.export.errors import ExportNotFound
from app_auth.auth import Auth
from app_auth.errors import Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import MakeAccount
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.export.payloads import AccountExport
from app_db.jobs.outbox import enqueue
from app_db.models import Job, Role
from app_db.types import new_id, utcnow


@pytest_asyncio.fixture(loop_scope="session")
async def principal(make_account: MakeAccount) -> Principal:
    account = await make_account()
    return Principal(account.id, account.email, Role.USER, new_id(), utcnow())


async def test_an_export_is_a_job_of_the_user(auth: Auth, database: Database, principal: Principal) -> None:
    async with database.unit_of_work() as session:
        job_id = await service.request_export(auth, session, principal)

    async with database.unit_of_work() as session:
        job = (await session.scalars(select(Job).where(Job.id == job_id))).one()
    assert (job.kind, job.owner_id) == ("account.export", principal.user_id)
    assert job.payload == {"user_id": str(principal.user_id)}


async def test_a_user_has_one_export_at_a_time(auth: Auth, database: Database, principal: Principal) -> None:
    async def ask() -> object:
        async with database.unit_of_work() as session:
            return await service.request_export(auth, session, principal)

    assert len(set(await asyncio.gather(*(ask() for _ in range(5))))) == 1


async def test_users_do_not_share_their_exports(
    auth: Auth, database: Database, principal: Principal, make_account: MakeAccount
) -> None:
    other = await make_account()
    async with database.unit_of_work() as session:
        own = await service.request_export(auth, session, principal)
        theirs = await service.request_export(
            auth, session, Principal(other.id, other.email, Role.USER, new_id(), utcnow())
        )

    assert own != theirs


async def test_exports_are_throttled(auth: Auth, database: Database, principal: Principal) -> None:
    strict = replace(auth, throttle=Throttle(ThrottleSettings(), secret=b"of this test"))
    async with database.unit_of_work() as session:
        for _ in range(10):
            await service.request_export(strict, session, principal)

        with pytest.raises(Throttled):
            await service.request_export(strict, session, principal)


async def test_a_mail_overtakes_an_export(auth: Auth, database: Database, principal: Principal) -> None:
    async with database.unit_of_work() as session:
        export_id = await service.request_export(auth, session, principal)
        mail_id = await enqueue(session, WelcomeEmail(user_id=principal.user_id))
    async with database.unit_of_work() as session:
        in_order = select(Job.id).where(Job.id.in_([export_id, mail_id])).order_by(Job.priority, Job.claim_at)
        assert list(await session.scalars(in_order)) == [mail_id, export_id]


async def test_an_export_that_is_not_finished_is_not_found(
    auth: Auth, database: Database, principal: Principal
) -> None:
    async with database.unit_of_work() as session:
        job_id = await service.request_export(auth, session, principal)

        with pytest.raises(ExportNotFound):
            await service.sizes_of(session, principal, job_id, kind=AccountExport.kind)

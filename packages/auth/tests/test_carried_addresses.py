"""Registration refuses an address to which our own mail server cannot send."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from app_auth import accounts
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import AddressNotCarried
from app_auth.testing import PASSWORD
from app_db import Database, Session
from app_db.models import JobWorker, User
from app_db.types import new_id

type Register = Callable[[str], Awaitable[None]]


@pytest.fixture(params=[True, False], ids=["with verification", "without"])
def register(auth: Auth, database: Database, request: pytest.FixtureRequest) -> Register:
    """Return a function that registers an account."""
    settings = auth.settings.model_copy(update={"verification": request.param})

    async def register(email: str) -> None:
        async with database.unit_of_work() as session:
            who = replace(auth, settings=settings)
            await accounts.register(who, session, email=email, password=PASSWORD, client=NOBODY)

    return register


async def stored_addresses(session: Session) -> list[str]:
    return list(await session.scalars(select(User.email)))


def a_worker(*, smtputf8: bool | None) -> JobWorker:
    return JobWorker(id=new_id(), host="h", pid=1, queues=[], concurrency=1, smtputf8=smtputf8)


async def test_an_address_that_no_mail_server_of_ours_carries_is_told_so(register: Register, session: Session) -> None:
    """RFC 6531, 3.2: without SMTPUTF8 no mail can be sent to a local part beyond ASCII."""
    session.add(a_worker(smtputf8=False))
    await session.commit()

    with pytest.raises(AddressNotCarried):
        await register("jörg@example.test")
    await register("jorg@bücher.example")

    assert await stored_addresses(session) == ["jorg@bücher.example"]


@pytest.mark.parametrize("smtputf8", [True, None])
async def test_it_is_taken_where_one_carries_it_or_nobody_knows(
    register: Register, session: Session, smtputf8: bool | None
) -> None:
    session.add_all([a_worker(smtputf8=smtputf8)])
    await session.commit()

    await register("jörg@example.test")

    assert await stored_addresses(session) == ["jörg@example.test"]

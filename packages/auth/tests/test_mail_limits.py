"""Strangers cannot flood an address with mail, and do not learn of the limit."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from app_auth import accounts, links
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.limits import ThrottleSettings
from app_auth.testing import PASSWORD, MakeAccount
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.models import AuditEvent, Job

type Ask = Callable[[str], Awaitable[None]]

ADA, EVE = "ada@example.test", "eve@example.test"


@pytest.fixture
def limited(auth: Auth) -> Auth:
    """Return an Auth with the default limit of mails to an address."""
    settings = ThrottleSettings(forgot_ip="10000/s")
    return replace(auth, throttle=Throttle(settings, secret=b"of this test"))


@pytest.fixture
def forgot(limited: Auth, database: Database) -> Ask:
    async def forgot(email: str) -> None:
        async with database.unit_of_work() as session:
            await links.forgot_password(limited, session, email=email, client=NOBODY)

    return forgot


@pytest.fixture
def resend(limited: Auth, database: Database) -> Ask:
    async def resend(email: str) -> None:
        async with database.unit_of_work() as session:
            await links.request_verification(limited, session, email=email, client=NOBODY)

    return resend


async def links_to_send(session: Session) -> int:
    return await session.scalar(select(func.count()).select_from(Job).where(Job.kind == "account.link")) or 0


async def test_nobody_is_flooded_with_links(forgot: Ask, make_account: MakeAccount, session: Session) -> None:
    await make_account(email=ADA)

    for spelling in (ADA, "Ada@Example.Test", ADA, ADA, "ADA@example.test"):
        await forgot(spelling)

    assert await links_to_send(session) == 3


@pytest.fixture
def register(limited: Auth, database: Database) -> Ask:
    verifying = replace(limited, settings=limited.settings.model_copy(update={"verification": True}))

    async def register(email: str) -> None:
        async with database.unit_of_work() as session:
            await accounts.register(verifying, session, email=email, password=PASSWORD, client=NOBODY)

    return register


async def test_the_mail_of_a_registration_is_one_of_the_three(register: Ask, resend: Ask, session: Session) -> None:
    """OWASP, Forgot Password Cheat Sheet: nobody's mailbox is flooded."""
    await register(ADA)
    for _ in range(4):
        await resend(ADA)

    assert await links_to_send(session) == 3


async def test_a_registration_that_is_not_the_first_counts_as_well(
    register: Ask, resend: Ask, make_account: MakeAccount, session: Session
) -> None:
    await make_account(email=ADA)
    for _ in range(3):
        await register(ADA)
    await resend(ADA)

    assert await links_to_send(session) == 0


async def test_nobody_keeps_the_mail_of_a_registration_back_by_asking_for_links_before(
    register: Ask, resend: Ask, session: Session
) -> None:
    for _ in range(4):
        await resend(ADA)
    before = await links_to_send(session)

    await register(ADA)

    assert await links_to_send(session) == before + 1


async def test_an_address_without_an_account_is_limited_alike(forgot: Ask, session: Session) -> None:
    for _ in range(5):
        await forgot(EVE)

    assert await links_to_send(session) == 3


async def test_each_address_and_each_kind_of_mail_has_its_own_limit(forgot: Ask, resend: Ask, session: Session) -> None:
    for _ in range(4):
        await forgot(ADA)
    await resend(ADA)
    await forgot(EVE)

    assert await links_to_send(session) == 5


async def test_what_is_asked_for_too_often_is_still_on_record(forgot: Ask, session: Session) -> None:
    for _ in range(4):
        await forgot(ADA)

    requests = await session.scalars(select(AuditEvent).where(AuditEvent.event == "password_reset_requested"))
    assert len(requests.all()) == 4


async def test_a_mail_that_could_not_be_asked_for_is_not_counted(limited: Auth) -> None:
    for _ in range(3):
        with pytest.raises(OSError, match="no database"):
            async with limited.throttle.mail("reset", ADA) as may_be_sent:
                raise OSError("no database")

    async with limited.throttle.mail("reset", ADA) as may_be_sent:
        assert may_be_sent

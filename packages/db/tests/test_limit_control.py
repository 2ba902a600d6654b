"""Limits while jobs wait: set, lifted, reset, declared by another release."""

import pytest

from app_db import Session
from app_db.errors import NotFound
from app_db.jobs import admission, limit_control
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload

from .ledger_steps import take
from .limited_jobs import add, admitted, end, run

pytestmark = pytest.mark.usefixtures("declared_limits")


async def test_a_limit_that_is_raised_lets_waiting_jobs_in_at_once(session: Session) -> None:
    await add(session, *["ann"] * 5)
    await admitted(session)
    await limit_control.set_limit(session, "test", running=4, rate=None, by="shell")
    await session.commit()

    assert len(await admitted(session)) == 2


async def test_a_limit_that_is_lowered_holds_for_what_comes(session: Session) -> None:
    await add(session, *["ann"] * 5)
    one, _ = await admitted(session)
    await limit_control.set_limit(session, "test", running=1, rate=None, by="shell")
    await session.commit()
    await run(session, one)
    await end(session, one)

    assert await admitted(session) == []


async def test_a_limit_that_is_lifted_lets_everything_in_and_a_reset_brings_it_back(session: Session) -> None:
    await add(session, *["ann"] * 5)
    await limit_control.set_limit(session, "test", running=None, rate=None, by="shell")
    await session.commit()
    assert len(await admitted(session)) == 5
    await add(session, "ann")
    await limit_control.reset_limit(session, "test")
    await session.commit()

    assert await admitted(session) == []
    (row, *_) = await limit_control.limits(session)
    assert (row.name, row.per, row.running, row.rate, row.set_at, row.keys) == ("test", "clinic", 2, None, None, 1)


async def test_a_limit_that_the_code_no_longer_has_lets_waiting_jobs_in(session: Session) -> None:
    await add(session, *["ann"] * 5)
    await admitted(session)

    class Unlimited(JobPayload):
        kind = "test"

    await limit_control.declare(session, [Unlimited])
    await session.commit()

    assert len(await admitted(session)) == 3


async def test_a_kind_that_no_worker_has_declared_waits_and_costs_claims_nothing(session: Session) -> None:
    class Undeclared(JobPayload, limit=Limit(running=1)):
        kind = "test.undeclared"

    await enqueue(session, Undeclared())
    await session.commit()

    claim = await take(session)

    assert (claim.deliveries, claim.may_admit) == ((), False)
    assert await admission.admit(session, queue="default") == 0


async def test_only_a_limit_that_is_declared_can_be_changed(session: Session) -> None:
    with pytest.raises(NotFound):
        await limit_control.set_limit(session, "nothing", running=1, rate=None, by=None)

    with pytest.raises(NotFound):
        await limit_control.reset_limit(session, "nothing")

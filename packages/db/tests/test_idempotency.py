"""Claims of Idempotency-Keys: of any number of transactions one carries a request out, and nobody waits for it."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app_db import Database, Session
from app_db.models import IdempotentRequest, User
from app_db.repositories.idempotency import KEPT, Claim, IdempotencyRepository, KeptAnswer, RequestUnderWay
from app_db.testing.plugin import MakeUser
from app_db.types import new_id

ANSWER = b"a sealed answer"


def a_claim() -> Claim:
    key = new_id()
    return Claim(key, key.int % 2**63, None)


async def carry_out(database: Database, claim: Claim) -> None:
    async with database.unit_of_work() as session:
        requests = IdempotencyRepository(session)
        await requests.claim(claim)
        await asyncio.sleep(0.01)
        user_id = new_id()
        session.add(User(id=user_id, email="a@b.test", email_canonical=user_id.hex, password_hash="-"))
        await requests.keep(claim, ANSWER, key_id="1")


async def users_in(database: Database) -> int:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(func.count()).select_from(User))).one()


async def test_a_request_is_carried_out_once_and_found_afterwards(database: Database) -> None:
    claim = a_claim()
    await carry_out(database, claim)

    with pytest.raises(KeptAnswer) as kept:
        await carry_out(database, claim)

    assert (kept.value.answer, kept.value.key_id) == (ANSWER, "1")
    assert await users_in(database) == 1


async def test_of_parallel_requests_one_does_the_work_and_nobody_waits(database: Database) -> None:
    claim = a_claim()

    results = await asyncio.gather(*(carry_out(database, claim) for _ in range(8)), return_exceptions=True)

    assert results.count(None) == 1
    assert {type(each) for each in results if each is not None} <= {RequestUnderWay, KeptAnswer}
    assert await users_in(database) == 1


async def test_a_request_that_was_rolled_back_leaves_nothing(database: Database) -> None:
    claim = a_claim()
    async with database.sessions() as session:
        await IdempotencyRepository(session).claim(claim)
        await session.rollback()

    await carry_out(database, claim)


async def test_a_claim_outlives_the_release_of_its_connection(database: Database, session: Session) -> None:
    claim = a_claim()
    await IdempotencyRepository(session).claim(claim)
    await session.release()
    await carry_out(database, claim)

    with pytest.raises(KeptAnswer):
        await session.execute(text("SELECT 1"))


async def test_an_answer_that_has_expired_is_not_given_again(
    database: Database, session: Session, make_user: MakeUser
) -> None:
    claim, ada = a_claim(), await make_user()
    await carry_out(database, claim)
    await session.execute(update(IdempotentRequest).values(expires_at=func.now(), created_at=func.now() - KEPT))
    await session.commit()

    async with database.unit_of_work() as later:
        requests = IdempotencyRepository(later)
        await requests.claim(Claim(claim.id, claim.lock, ada.id))
        await requests.keep(claim, b"another", key_id="2")

    (row,) = await session.scalars(select(IdempotentRequest))
    assert (row.answer, row.key_id, row.user_id) == (b"another", "2", ada.id)
    assert row.expires_at - row.created_at == KEPT


async def test_expired_answers_are_deleted_and_those_of_a_deleted_account(
    database: Database, session: Session, make_user: MakeUser
) -> None:
    ada = await make_user()
    for user_id, ago in ((ada.id, 0), (None, 25), (None, 0)):
        row = IdempotentRequest(id=new_id(), user_id=user_id, answer=ANSWER, key_id="1")
        row.expires_at = func.now() + KEPT - timedelta(hours=ago)
        session.add(row)
    await session.commit()

    assert await IdempotencyRepository(session).delete_expired() == 1
    await session.delete(ada)
    await session.commit()

    assert (await session.scalars(select(func.count()).select_from(IdempotentRequest))).one() == 1

"""The effects of a commit of jobs, none of which come before it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import async_sessionmaker

from app_db import Database, Session
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.after_commit import count_after_commit, notify_after_commit
from app_db.jobs.outbox import enqueue
from app_db.types import new_id


async def test_committed_jobs_are_counted_by_kind(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue(session, PruneSessions())
    await enqueue(session, PruneSessions())
    await enqueue(session, WelcomeEmail(user_id=new_id()))

    await session.commit()

    assert database.enqueued - before == {"sessions.prune": 2, "email.welcome": 1}


async def test_jobs_count_only_once_they_are_committed(database: Database, session: Session) -> None:
    before = database.enqueued.copy()

    await enqueue(session, PruneSessions())

    assert database.enqueued == before


async def test_a_job_counts_for_one_commit_only(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue(session, PruneSessions())
    await session.commit()
    await session.execute(text("SELECT 1"))

    await session.commit()

    assert (database.enqueued - before).total() == 1


async def test_jobs_that_are_rolled_back_do_not_count(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue(session, PruneSessions())
    await session.rollback()
    await enqueue(session, WelcomeEmail(user_id=new_id()))

    await session.commit()

    assert database.enqueued - before == {"email.welcome": 1}


async def test_jobs_of_a_session_that_was_closed_do_not_count(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue(session, PruneSessions())
    await session.close()

    with pytest.raises(InvalidRequestError, match="permanently closed"):  # so nothing can commit it any more
        await session.execute(text("SELECT 1"))

    assert database.enqueued == before


async def test_jobs_of_a_savepoint_count_with_the_transaction(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    async with session.begin_nested():
        await enqueue(session, PruneSessions())
        async with session.begin_nested():
            await enqueue(session, PruneSessions())
    while_it_may_still_be_rolled_back = database.enqueued - before

    await session.commit()

    assert not while_it_may_still_be_rolled_back
    assert database.enqueued - before == {"sessions.prune": 2}


async def test_jobs_of_a_savepoint_that_is_rolled_back_do_not_count(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue(session, PruneSessions())
    savepoint = await session.begin_nested()
    async with session.begin_nested():
        await enqueue(session, PruneSessions())
    await enqueue(session, PruneSessions())
    await savepoint.rollback()

    await session.commit()

    assert database.enqueued - before == {"sessions.prune": 1}


async def test_a_notification_counts_no_jobs(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    notify_after_commit(session)

    await session.commit()

    assert database.enqueued == before


async def test_a_session_that_belongs_to_no_process_can_count(database: Database) -> None:
    before = database.enqueued.copy()
    async with async_sessionmaker(database.engine)() as session:
        count_after_commit(session, ["sessions.prune"])

        await session.commit()

    assert database.enqueued == before

"""Accounts that never verified their address go, and no others."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database
from app_db.features.accounts.payloads import AccountErasure, WelcomeEmail
from app_db.features.retention.payloads import PruneAccounts
from app_db.features.retention.settings import RetentionSettings
from app_db.jobs.outbox import enqueue
from app_db.models import AuditEvent, Job, Role, User
from app_db.repositories.unverified import LOOKED_AT, UnverifiedAccounts
from app_db.types import first_id_at, new_id, utcnow
from app_runtime.resources import Opened
from app_worker.features.retention.handlers import prune_accounts
from app_worker.resources import supplied

from .conftest import Jobs, MakeRunner

KEEP, OLD = timedelta(days=30), timedelta(days=31)


async def add(database: Database, *, count: int = 1, age: timedelta = OLD, **columns: Any) -> list[UUID]:
    """Add accounts that were made some time ago."""
    made = utcnow() - age
    ids = [UUID(int=first_id_at(made).int | new_id().int & 2**64 - 1) for _ in range(count)]
    one = {"password_hash": "-", "created_at": made, "role": Role.USER} | columns
    async with database.sessions.begin() as session:
        await session.execute(insert(User), [
            {"id": user_id, "email": f"{user_id}@x.test", "email_canonical": f"{user_id}@x.test", **one}
            for user_id in ids
        ])  # fmt: skip
    return ids


async def prune(jobs: Jobs, make_runner: MakeRunner, keep: timedelta | None = KEEP) -> Mapping[str, int]:
    resources: Opened = {RetentionSettings: RetentionSettings(unverified=keep)}
    delivery = await jobs.deliver(PruneAccounts())
    await make_runner(*supplied([prune_accounts], resources)).run(delivery)
    result = (await jobs.get(delivery)).result
    assert isinstance(result, dict)
    return result


async def accounts(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM users"))


async def test_accounts_that_never_verified_go_in_batches_and_on_record(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    ids = await add(database, count=LOOKED_AT + 1)

    assert await prune(jobs, make_runner) == {"pruned": LOOKED_AT + 1}

    assert await accounts(jobs) == 0
    async with database.read_sessions() as session:
        events = (await session.scalars(select(AuditEvent))).all()
        erased = (await session.scalars(select(Job.payload).where(Job.kind == AccountErasure.kind))).all()
    assert {(event.event, event.user_id) for event in events} == {("account_deleted", user_id) for user_id in ids}
    assert {event.details["because"] for event in events} == {"never_verified"}
    assert {payload["user_id"] for payload in erased} == {str(user_id) for user_id in ids}


async def test_without_the_setting_all_accounts_stay(jobs: Jobs, make_runner: MakeRunner, database: Database) -> None:
    await add(database)

    assert await prune(jobs, make_runner, keep=None) == {"pruned": 0}
    assert await accounts(jobs) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"email_verified_at": utcnow()},
        {"age": timedelta(days=29)},
        {"role": Role.OPERATOR},
        {"disabled_at": utcnow()},
        {"signed_in_at": utcnow() - OLD},
    ],
    ids=["it has verified", "it is young", "it operates", "an operator has disabled it", "somebody has signed in"],
)
async def test_an_account_stays_if(
    jobs: Jobs, make_runner: MakeRunner, database: Database, columns: dict[str, Any]
) -> None:
    await add(database, **columns)

    assert await prune(jobs, make_runner) == {"pruned": 0}
    assert await accounts(jobs) == 1


LINK = """
    INSERT INTO one_time_tokens (id, user_id, purpose, email_canonical, key_id, expires_at)
    SELECT uuidv7(), id, 'verify_email', '', 'k', now() + interval '{}' FROM users
"""
SESSION = """
    INSERT INTO user_sessions (id, user_id, refresh_key_id, idle_expires_at, expires_at)
    SELECT uuidv7(), id, 'k', now(), now() FROM users
"""


SIGN_IN_LINK = """
    INSERT INTO sign_in_links (id, user_id, email_canonical, binding_digest, key_id, expires_at)
    SELECT uuidv7(), id, '', '', 'k', now() + interval '{}' FROM users
"""
PROVIDER = """
    INSERT INTO provider_links (id, user_id, issuer, subject, email)
    SELECT uuidv7(), id, 'https://id.test', 's', '' FROM users
"""


@pytest.mark.parametrize(
    "there",
    [LINK.format("1 hour"), SIGN_IN_LINK.format("1 hour"), SESSION, PROVIDER],
    ids=["link", "sign-in link", "session", "provider"],
)
async def test_an_account_stays_while_a_link_is_valid_or_a_session_is_there(
    jobs: Jobs, make_runner: MakeRunner, database: Database, there: str
) -> None:
    await add(database)
    async with database.sessions.begin() as session:
        await session.execute(text(there))

    assert await prune(jobs, make_runner) == {"pruned": 0}


@pytest.mark.parametrize("link", [LINK, SIGN_IN_LINK])
async def test_an_account_with_an_old_link_goes(
    jobs: Jobs, make_runner: MakeRunner, database: Database, link: str
) -> None:
    await add(database)
    async with database.sessions.begin() as session:
        await session.execute(text(link.format("-1 hour")))

    assert await prune(jobs, make_runner) == {"pruned": 1}


async def test_an_account_stays_while_its_mail_is_on_its_way(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    (user_id,) = await add(database)
    async with database.sessions.begin() as session:
        mail = await enqueue(session, WelcomeEmail(user_id=user_id), owner_id=user_id, run_at=utcnow() + OLD)
    assert await prune(jobs, make_runner) == {"pruned": 0}

    async with database.sessions.begin() as session:
        ended = "UPDATE jobs SET state = 'discarded', claim_at = NULL, finished_at = now() WHERE id = :id"
        await session.execute(text(ended), {"id": mail})

    assert await prune(jobs, make_runner) == {"pruned": 1}


async def test_an_account_that_verifies_at_this_moment_stays(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    await add(database)
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE users SET email_verified_at = now()"))
        assert await prune(jobs, make_runner) == {"pruned": 0}

    assert await accounts(jobs) == 1


async def test_an_account_that_asks_for_another_link_at_this_moment_stays(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    """A pull request of super-productivity, 9744: what was seen first was deleted, though it had a new link by then."""
    await add(database)

    async with database.sessions.begin() as session:
        await session.execute(text(LINK.format("1 hour")))
        assert await prune(jobs, make_runner) == {"pruned": 0}
    assert await prune(jobs, make_runner) == {"pruned": 0}


async def ask_for_link(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("SET LOCAL lock_timeout = '100ms'"))
        await session.execute(text(LINK.format("1 hour")))


async def test_no_link_is_made_while_an_account_is_looked_at(database: Database) -> None:
    (user_id,) = await add(database)
    async with database.sessions.begin() as session:
        await enqueue(session, WelcomeEmail(user_id=user_id), owner_id=user_id)

    async with database.sessions.begin() as looking:
        gone, _ = await UnverifiedAccounts(looking).delete_next(keep=KEEP, after=UUID(int=0))
        assert gone == []
        with pytest.raises(DBAPIError, match="lock timeout"):
            await ask_for_link(database)


@pytest.mark.parametrize("keep", [timedelta(days=1), timedelta(0), timedelta(days=40_000)])
def test_a_time_in_which_links_are_still_valid_is_no_setting(keep: timedelta) -> None:
    with pytest.raises(ValidationError, match="unverified"):
        RetentionSettings(unverified=keep)

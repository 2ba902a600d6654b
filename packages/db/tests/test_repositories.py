"""The repositories of accounts, jobs and the schema."""

import asyncio
from types import ModuleType

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from app_db import Database, Session
from app_db.errors import Conflict
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import control
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobState, Role, SchemaHistory, User, UserSession
from app_db.models.schema import SCHEMA_REVISION
from app_db.repositories.jobs import JobRepository
from app_db.repositories.schema import SchemaRepository, needed_by
from app_db.repositories.users import Credentials, UserRepository
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow


class AddressTaken(Conflict):
    """The address is taken."""


def new_user(address: str) -> User:
    return User(email=address.title(), email_canonical=address, password_hash="-")


# --- users ---------------------------------------------------------------------------------------------------------


async def test_a_user_who_was_added_is_found(session: Session) -> None:
    users = UserRepository(session)
    user = new_user("ada@example.test")

    await users.add(user, taken=AddressTaken)

    assert await users.get(user.id) is user


async def test_an_address_belongs_to_one_account(session: Session) -> None:
    users = UserRepository(session)
    await users.add(new_user("ada@example.test"), taken=AddressTaken)

    with pytest.raises(AddressTaken):
        await users.add(new_user("ada@example.test"), taken=AddressTaken)


async def test_of_many_who_register_an_address_at_once_one_gets_it(database: Database) -> None:
    async def register() -> None:
        async with database.unit_of_work() as session:
            await UserRepository(session).add(new_user("ada@example.test"), taken=AddressTaken)

    outcomes = await asyncio.gather(*(register() for _ in range(5)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, AddressTaken) for outcome in outcomes) == 4


async def test_another_clash_is_not_taken_for_an_address(session: Session, make_user: MakeUser) -> None:
    user = new_user("ada@example.test")
    user.id = (await make_user()).id

    with pytest.raises(IntegrityError, match="pk_users"):
        await UserRepository(session).add(user, taken=AddressTaken)


async def test_credentials_are_found_by_the_canonical_address(session: Session, make_user: MakeUser) -> None:
    user = await make_user(email="ada@example.test", password_hash="hash")

    assert await UserRepository(session).credentials_of("ada@example.test") == Credentials(user.id, "hash")


async def test_an_unknown_address_has_no_credentials(session: Session) -> None:
    assert await UserRepository(session).credentials_of("ada@example.test") is None


async def test_a_new_hash_replaces_the_old_one_of_that_user_alone(session: Session, make_user: MakeUser) -> None:
    user, other = await make_user(password_hash="old"), await make_user(password_hash="old")
    users = UserRepository(session)

    assert await users.replace_password_hash(Credentials(user.id, "old"), "new")

    assert [await users.password_hash(one.id) for one in (user, other)] == ["new", "old"]


async def test_a_hash_that_is_not_stored_any_more_is_not_replaced(session: Session, make_user: MakeUser) -> None:
    user = await make_user(password_hash="newer")
    users = UserRepository(session)

    assert not await users.note_sign_in(user.id, password_hash="old")
    assert not await users.replace_password_hash(Credentials(user.id, "old"), "new")
    assert await users.note_sign_in(user.id, password_hash="newer")


async def test_a_user_who_is_gone_has_no_hash(session: Session) -> None:
    assert await UserRepository(session).password_hash(new_id()) is None


async def test_a_change_moves_updated_at_and_not_created_at(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    stamps = select(User.created_at, User.updated_at).where(User.id == user.id)
    before = (await session.execute(stamps)).one()
    await session.commit()

    await UserRepository(session).replace_password_hash(Credentials(user.id, user.password_hash), "new")

    after = (await session.execute(stamps)).one()
    assert before.created_at == before.updated_at == after.created_at
    assert after.updated_at > before.updated_at


async def test_a_sign_in_is_noted_and_is_no_change_of_the_account(session: Session, make_user: MakeUser) -> None:
    user, other = await make_user(), await make_user()
    stamps = select(User.signed_in_at, User.updated_at).where(User.id == user.id)
    before = (await session.execute(stamps)).one()
    await session.commit()

    noted = await UserRepository(session).note_sign_in(user.id)

    after = (await session.execute(stamps)).one()
    assert before.signed_in_at is None
    assert noted is not None
    assert (after.signed_in_at, after.updated_at) == (noted.now, before.updated_at)
    assert (noted.email, noted.password_hash) == (user.email_canonical, user.password_hash)
    assert (noted.verified, noted.second_factors) == (False, [])
    assert await session.scalar(select(User.signed_in_at).where(User.id == other.id)) is None


async def test_users_are_locked_in_one_order_and_read_as_they_are(session: Session, make_user: MakeUser) -> None:
    users = [await make_user() for _ in range(2)]

    locked = await UserRepository(session).locked_among([*(user.id for user in users), new_id()])

    assert list(locked) == sorted(user.id for user in users)


async def test_a_role_is_given_to_that_user_alone(session: Session, make_user: MakeUser) -> None:
    user, other = await make_user(email="ada@example.test"), await make_user()
    users = UserRepository(session)

    assert await users.set_role("ada@example.test", Role.OPERATOR) == user.id

    roles = [await session.scalar(select(User.role).where(User.id == one.id)) for one in (user, other)]
    assert roles == [Role.OPERATOR, Role.USER]


async def test_an_unknown_address_is_given_no_role(session: Session) -> None:
    assert await UserRepository(session).set_role("nobody@example.test", Role.OPERATOR) is None


async def test_users_are_paged_newest_first(session: Session, make_user: MakeUser) -> None:
    ids = [(await make_user()).id for _ in range(3)]
    users = UserRepository(session)

    first = await users.page(after=None, limit=2)
    second = await users.page(after=first.next, limit=2)

    assert [user.id for page in (first, second) for user in page.items] == sorted(ids, reverse=True)


async def test_a_user_is_deleted_with_their_sessions(session: Session, make_user: MakeUser) -> None:
    user = await make_user()
    session.add(UserSession(user_id=user.id, refresh_key_id="k1", idle_expires_at=utcnow(), expires_at=utcnow()))
    await session.commit()

    await UserRepository(session).delete(user.id)

    assert await session.scalar(select(func.count()).select_from(UserSession)) == 0
    assert await session.scalar(select(func.count()).select_from(User)) == 0


async def test_deleting_a_user_leaves_others(session: Session, make_user: MakeUser) -> None:
    user, other = await make_user(), await make_user()

    await UserRepository(session).delete(user.id)

    assert list(await session.scalars(select(User.id))) == [other.id]


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_an_owner_sees_their_jobs_and_no_others(session: Session) -> None:
    owner_id = new_id()
    mine = [await enqueue(session, PruneSessions(), owner_id=owner_id) for _ in range(2)]
    await enqueue(session, PruneSessions(), owner_id=new_id())
    await enqueue(session, PruneSessions())

    page = await JobRepository(session).owned_by(owner_id, after=None, limit=10)

    assert [job.id for job in page.items] == mine[::-1]


async def test_jobs_are_paged(session: Session) -> None:
    owner_id = new_id()
    mine = [await enqueue(session, PruneSessions(), owner_id=owner_id) for _ in range(3)]
    jobs = JobRepository(session)
    first = await jobs.owned_by(owner_id, after=None, limit=2)

    second = await jobs.owned_by(owner_id, after=first.next, limit=2)

    assert [job.id for job in second.items] == mine[:1]


async def test_an_owner_finds_their_job_and_whether_it_is_asked_to_end(session: Session) -> None:
    owner_id = new_id()
    job_id = await enqueue(session, PruneSessions(), owner_id=owner_id)
    await session.execute(update(Job).values(state=JobState.EXECUTING, attempt=1))

    before = await JobRepository(session).with_cancellation(job_id, owner_id=owner_id)
    await control.cancel(session, job_id)
    after = await JobRepository(session).with_cancellation(job_id, owner_id=None)

    assert before is not None
    assert after is not None
    assert (before[0].id, before[1]) == (job_id, False)
    assert (after[0].id, after[1]) == (job_id, True)


async def test_anothers_job_is_not_found(session: Session) -> None:
    job_id = await enqueue(session, PruneSessions(), owner_id=new_id())

    assert await JobRepository(session).with_cancellation(job_id, owner_id=new_id()) is None


# --- schema --------------------------------------------------------------------------------------------------------


async def test_a_database_with_the_revision_of_this_code_is_ready(database: Database) -> None:
    async with database.unit_of_work(read_only=True) as session:
        assert await SchemaRepository(session).is_ready()


async def test_a_database_with_a_newer_revision_is_ready_too(session: Session) -> None:
    await session.execute(insert(SchemaHistory).values(revision="newer"))

    assert await SchemaRepository(session).is_ready()


async def test_a_database_without_the_revision_of_this_code_is_not_ready(session: Session) -> None:
    await session.execute(delete(SchemaHistory).where(SchemaHistory.revision == SCHEMA_REVISION))

    assert not await SchemaRepository(session).is_ready()


async def test_a_database_without_a_schema_is_not_ready(session: Session) -> None:
    await session.execute(text("ALTER TABLE schema_history RENAME TO history_of_another"))

    assert not await SchemaRepository(session).is_ready()


def test_a_feature_needs_the_revision_of_its_own_tables() -> None:
    feature, without_tables = ModuleType("feature"), ModuleType("without_tables")
    feature.__dict__["SCHEMA_REVISION"] = "newest"

    assert needed_by([feature, without_tables]) == ["newest"]


async def test_an_older_revision_is_not_enough(session: Session) -> None:
    await session.execute(
        update(SchemaHistory).where(SchemaHistory.revision == SCHEMA_REVISION).values(revision="older")
    )

    assert not await SchemaRepository(session).is_ready()

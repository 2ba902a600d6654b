"""Registration: one account per address, in one transaction with its welcome mail."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from app_auth import accounts
from app_auth.addresses import canonical_email
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import (
    EmailTaken,
    HashingBusy,
    InvalidEmail,
    PasswordTooLong,
    PasswordTooShort,
    RegistrationClosed,
)
from app_auth.limits import ThrottleSettings
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, MakeAccount, busy_hashing
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.models import AuditEvent, Job, Role, User
from app_db.testing.queries import assert_queries

type Register = Callable[..., Coroutine[None, None, User | None]]

SPELLINGS = ["".join(letters) for letters in product("aA", "dD", "aA")]


async def stored_users(session: Session) -> list[User]:
    return list(await session.scalars(select(User)))


async def stored_jobs(session: Session) -> list[Job]:
    return list(await session.scalars(select(Job)))


async def test_an_account_keeps_the_address_as_it_was_written(auth: Auth, session: Session) -> None:
    user = await accounts.create(auth, session, email="Ada@Example.test", password=PASSWORD)
    await session.commit()

    assert await stored_users(session) == [user]
    assert (user.email, user.email_canonical, user.role) == ("Ada@Example.test", "ada@example.test", Role.USER)


async def test_no_account_holds_its_password(auth: Auth, session: Session) -> None:
    user = await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)

    assert user.password_hash
    assert PASSWORD not in user.password_hash
    assert await auth.passwords.verify(PASSWORD, user.password_hash)


@pytest.mark.parametrize("spelling", ["ada@example.test", "ADA@EXAMPLE.TEST", "Ada@example.Test"])
async def test_a_second_account_of_one_address_is_refused_in_any_spelling(
    make_account: MakeAccount, spelling: str
) -> None:
    await make_account(email="ada@Example.test")

    with pytest.raises(EmailTaken):
        await make_account(email=spelling)


async def test_parallel_registrations_of_one_address_make_one_account(
    make_account: MakeAccount, session: Session
) -> None:
    spellings = [f"{name}@example.{domain}" for name, domain in product(SPELLINGS, ["test", "TEST", "Test"])][:20]

    outcomes = await asyncio.gather(*(make_account(email=email) for email in spellings), return_exceptions=True)

    assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 19
    assert len(await stored_users(session)) == 1
    assert len(await stored_jobs(session)) == 1


async def test_registering_enqueues_a_welcome(auth: Auth, session: Session) -> None:
    user = await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)
    await session.commit()

    [job] = await stored_jobs(session)
    assert (job.kind, job.payload, job.owner_id) == ("email.welcome", {"user_id": str(user.id)}, user.id)


async def test_nobody_sees_the_account_or_its_welcome_before_the_commit(
    auth: Auth, database: Database, session: Session
) -> None:
    await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)

    async with database.unit_of_work() as elsewhere:
        seen = [*await stored_users(elsewhere), *await stored_jobs(elsewhere)]

    assert seen == []


async def test_a_registration_that_is_rolled_back_leaves_neither_account_nor_welcome(
    auth: Auth, session: Session
) -> None:
    await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)
    await session.rollback()

    assert await stored_users(session) == []
    assert await stored_jobs(session) == []


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.test",
        "ada@example.test\n",
        "ada@exa\0mple.test",
        "a\0da@example.test",
        "\ud800@example.test",
        "ada@[127.0.0.1]",
        "Ada <ada@example.test>",
        f"{'a' * 60}@{'b' * 63}.{'c' * 63}.{'d' * 63}.test",
    ],
    ids=lambda email: ascii(email)[:20],
)
async def test_what_is_no_address_is_refused(auth: Auth, database: Database, session: Session, email: str) -> None:
    with assert_queries(database, max=0), pytest.raises(InvalidEmail):
        await accounts.create(auth, session, email=email, password=PASSWORD)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(text=st.text(st.characters()) | st.builds("{}@{}".format, st.text(st.characters()), st.text(st.characters())))
def test_no_text_makes_the_canonical_form_fail_in_another_way(text: str) -> None:
    try:
        canonical = canonical_email(text)
    except InvalidEmail:
        return

    assert canonical == canonical.casefold()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@exämple.com", "ADA@xn--exmple-cua.com"),
        ("jose\u0301@example.com", "JOS\u00c9@example.com"),
        ("ada@Example.COM", "Ada@example.com"),
    ],
)
def test_spellings_of_one_address_have_one_canonical_form(one: str, other: str) -> None:
    assert canonical_email(one) == canonical_email(other)


async def test_a_password_of_the_wrong_length_is_refused_before_any_hash(
    auth_settings: AuthSettings, database: Database, session: Session
) -> None:
    with open_auth(auth_settings) as auth, assert_queries(database, max=0):
        async with busy_hashing(auth.passwords):
            with pytest.raises(PasswordTooShort):
                await accounts.create(auth, session, email="ada@example.test", password="p" * 14)
            with pytest.raises(PasswordTooLong):
                await accounts.create(auth, session, email="ada@example.test", password="p" * 257)


async def test_a_registration_that_finds_no_place_to_hash_makes_no_query(
    auth_settings: AuthSettings, database: Database, session: Session
) -> None:
    with open_auth(auth_settings.model_copy(update={"hash_queue": 1})) as auth, assert_queries(database, max=0):
        async with busy_hashing(auth.passwords):
            waiting = asyncio.create_task(auth.passwords.hash(PASSWORD))
            await asyncio.sleep(0)
            with pytest.raises(HashingBusy):
                await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)
        await waiting


@pytest.fixture
def verifying(auth_settings: AuthSettings, throttle_settings: ThrottleSettings) -> Iterator[Auth]:
    """As in production: an address has to be verified."""
    throttle = Throttle(throttle_settings, secret=b"of this test run")
    with open_auth(auth_settings.model_copy(update={"verification": True}), throttle=throttle) as auth:
        yield auth


@pytest.fixture
def register(verifying: Auth, database: Database) -> Register:
    """Return a function that registers an account."""

    async def register(email: str, password: str = PASSWORD) -> User | None:
        async with database.unit_of_work() as session:
            return await accounts.register(verifying, session, email=email, password=password, client=NOBODY)

    return register


async def test_a_stranger_learns_nothing_from_a_registration(register: Register) -> None:
    assert [await register("ada@example.test"), await register("ADA@example.test")] == [None, None]


async def test_a_new_address_gets_a_link(register: Register, session: Session) -> None:
    await register("Ada@example.test")

    [user], [job] = await stored_users(session), await stored_jobs(session)
    assert (user.email, user.email_canonical, user.role) == ("Ada@example.test", "ada@example.test", Role.USER)
    assert (user.email_verified_at, user.disabled_at) == (None, None)
    assert (job.kind, job.payload) == ("account.link", {"user_id": str(user.id), "purpose": "verify_email"})


async def test_the_owner_of_a_known_address_hears_of_a_registration_once(
    register: Register, make_account: MakeAccount, session: Session
) -> None:
    ada = await make_account(email="ada@example.test")

    for spelling in ("ada@example.test", "ADA@example.test", "ada@EXAMPLE.test"):
        await register(spelling, "another horse battery 43")

    notices = [job for job in await stored_jobs(session) if job.kind == "email.registration"]
    assert [job.payload for job in notices] == [{"user_id": str(ada.id)}]


async def test_a_registration_with_a_known_address_changes_nothing(
    verifying: Auth, register: Register, make_account: MakeAccount, session: Session
) -> None:
    await make_account(email="ada@example.test")

    await register("ada@example.test", "another horse battery 43")

    [user] = await stored_users(session)
    assert await verifying.passwords.verify(PASSWORD, user.password_hash)


async def test_who_registers_second_gets_the_link_too(
    verifying: Auth, register: Register, database: Database, session: Session
) -> None:
    await register("ada@example.test")
    async with database.unit_of_work() as work:
        await work.execute(delete(Job))  # that mail was long ago

    await register("ada@example.test", "another horse battery 43")

    [user], [job] = await stored_users(session), await stored_jobs(session)
    assert (job.kind, job.payload) == ("account.link", {"user_id": str(user.id), "purpose": "verify_email"})
    assert await verifying.passwords.verify(PASSWORD, user.password_hash)


async def test_parallel_registrations_of_one_address_send_one_link(register: Register, session: Session) -> None:
    outcomes = await asyncio.gather(*(register("ada@example.test") for _ in range(10)))

    kinds = sorted(job.kind for job in await stored_jobs(session))
    assert outcomes == [None] * 10
    assert len(await stored_users(session)) == 1
    assert kinds == ["account.link"]


@pytest.mark.parametrize("email", ["ada@example.test", "bob@example.test"], ids=["known", "new"])
async def test_a_registration_hashes_whatever_the_address(
    verifying: Auth, register: Register, database: Database, session: Session, email: str
) -> None:
    await register("ada@example.test")

    async with busy_hashing(verifying.passwords):
        registering = asyncio.create_task(register(email))
        await asyncio.sleep(0.05)
        waits_for_its_hash = not registering.done()
    await registering

    assert waits_for_its_hash


async def test_a_closed_registration_makes_no_account(
    auth_settings: AuthSettings, database: Database, session: Session
) -> None:
    closed = auth_settings.model_copy(update={"registration": "closed"})

    with open_auth(closed) as auth, assert_queries(database, max=0), pytest.raises(RegistrationClosed):
        await accounts.register(auth, session, email="ada@example.test", password=PASSWORD, client=NOBODY)


async def test_without_verification_an_account_can_be_used_at_once(auth: Auth, session: Session) -> None:
    user = await accounts.register(auth, session, email="ada@example.test", password=PASSWORD, client=NOBODY)
    await session.commit()

    assert await stored_users(session) == [user]
    assert [job.kind for job in await stored_jobs(session)] == ["email.welcome"]


async def test_an_account_that_an_operator_creates_is_verified(auth: Auth, session: Session) -> None:
    user = await accounts.create(auth, session, email="ada@example.test", password=PASSWORD)

    assert user.email_verified_at is not None


async def test_a_registration_is_audited(register: Register, session: Session) -> None:
    await register("ada@example.test")

    [user], [event] = await stored_users(session), (await session.scalars(select(AuditEvent))).all()
    assert (event.event, event.user_id) == ("registered", user.id)

"""Making an account: one per address, and its welcome with it or not at all."""

import asyncio
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app_auth import accounts
from app_auth.auth import Auth, open_auth
from app_auth.errors import EmailTaken, HashingBusy, InvalidEmail, PasswordTooLong, PasswordTooShort
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, MakeAccount, busy_hashing
from app_db import Database, Session
from app_db.models import Job, Role, User
from app_db.testing.queries import assert_queries

SPELLINGS = ["".join(letters) for letters in product("aA", "dD", "aA")]


async def stored_users(session: Session) -> list[User]:
    return list(await session.scalars(select(User)))


async def stored_jobs(session: Session) -> list[Job]:
    return list(await session.scalars(select(Job)))


async def test_an_account_keeps_the_address_as_it_was_written(auth: Auth, session: Session) -> None:
    user = await accounts.register(auth, session, email="Ada@Example.test", password=PASSWORD)
    await session.commit()

    assert await stored_users(session) == [user]
    assert (user.email, user.email_canonical, user.role) == ("Ada@Example.test", "ada@example.test", Role.USER)


async def test_no_account_holds_its_password(auth: Auth, session: Session) -> None:
    user = await accounts.register(auth, session, email="ada@example.test", password=PASSWORD)

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
    user = await accounts.register(auth, session, email="ada@example.test", password=PASSWORD)
    await session.commit()

    [job] = await stored_jobs(session)
    assert (job.kind, job.payload, job.owner_id) == ("email.welcome", {"user_id": str(user.id)}, user.id)


async def test_nobody_sees_the_account_or_its_welcome_before_the_commit(
    auth: Auth, database: Database, session: Session
) -> None:
    await accounts.register(auth, session, email="ada@example.test", password=PASSWORD)

    async with database.unit_of_work() as elsewhere:
        seen = [*await stored_users(elsewhere), *await stored_jobs(elsewhere)]

    assert seen == []


async def test_a_registration_that_is_rolled_back_leaves_neither_account_nor_welcome(
    auth: Auth, session: Session
) -> None:
    await accounts.register(auth, session, email="ada@example.test", password=PASSWORD)
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
        " ada@example.test",
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
        await accounts.register(auth, session, email=email, password=PASSWORD)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(text=st.text(st.characters()) | st.builds("{}@{}".format, st.text(st.characters()), st.text(st.characters())))
def test_no_text_makes_the_canonical_form_fail_in_another_way(text: str) -> None:
    try:
        canonical = accounts.canonical_email(text)
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
    assert accounts.canonical_email(one) == accounts.canonical_email(other)


async def test_a_password_of_the_wrong_length_is_refused_before_any_hash(
    auth_settings: AuthSettings, database: Database, session: Session
) -> None:
    with open_auth(auth_settings) as auth, assert_queries(database, max=0):
        async with busy_hashing(auth.passwords):
            with pytest.raises(PasswordTooShort):
                await accounts.register(auth, session, email="ada@example.test", password="p" * 14)
            with pytest.raises(PasswordTooLong):
                await accounts.register(auth, session, email="ada@example.test", password="p" * 257)


async def test_a_registration_that_finds_no_place_to_hash_makes_no_query(
    auth_settings: AuthSettings, database: Database, session: Session
) -> None:
    with open_auth(auth_settings.model_copy(update={"hash_queue": 1})) as auth, assert_queries(database, max=0):
        async with busy_hashing(auth.passwords):
            waiting = asyncio.create_task(auth.passwords.hash(PASSWORD))
            await asyncio.sleep(0)
            with pytest.raises(HashingBusy):
                await accounts.register(auth, session, email="ada@example.test", password=PASSWORD)
        await waiting

"""Changing the password of an account, deleting the account, and disabling it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from app_auth import accounts
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import (
    AccountNotFound,
    InvalidCredentials,
    PasswordTooCommon,
    PasswordTooLong,
    PasswordTooShort,
    PasswordUnchanged,
    ReauthenticationRequired,
    RefreshTokenNotFound,
    SessionEnded,
    UserRemoved,
)
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn, busy_hashing, change_hash
from app_db import Database, Session
from app_db.features.accounts.payloads import AccountErasure
from app_db.models import AuditEvent, Job, TokenPurpose
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.testing.jobs import assert_enqueued
from app_db.testing.queries import assert_queries
from app_db.types import utcnow

type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Recognise = Callable[..., Awaitable[Principal]]
type ChangePassword = Callable[..., Awaitable[None]]
type DeleteAccount = Callable[..., Awaitable[None]]

NEW_PASSWORD = "incorrect donkey capacitor 43"


@pytest.fixture
async def ada(make_account: MakeAccount) -> Account:
    """An account."""
    return await make_account(email="ada@example.test")


@pytest.fixture
async def tokens(ada: Account, sign_in: SignIn) -> IssuedTokens:
    """Ada's tokens of a sign-in just now."""
    return await sign_in(ada)


@pytest.fixture
async def principal(tokens: IssuedTokens, recognise: Recognise) -> Principal:
    """Ada's principal."""
    return await recognise(tokens.access_token)


@pytest.fixture
def change_password(auth: Auth, database: Database, principal: Principal) -> ChangePassword:
    """Return a function that changes Ada's password."""

    async def change(*, current: str = PASSWORD, new: str = NEW_PASSWORD) -> None:
        async with database.unit_of_work() as session:
            await accounts.change_password(
                auth, session, principal, current_password=current, new_password=new, client=NOBODY
            )

    return change


@pytest.fixture
def delete_account(auth: Auth, database: Database, principal: Principal) -> DeleteAccount:
    """Return a function that deletes Ada's account."""

    async def delete(*, signed_in_for: timedelta = timedelta(0)) -> None:
        async with database.unit_of_work() as session:
            await accounts.delete_account(
                auth, session, principal, client=NOBODY, now=principal.signed_in_at + signed_in_for
            )

    return delete


async def test_a_new_password_takes_the_place_of_the_old_one(
    change_password: ChangePassword, ada: Account, sign_in: SignIn
) -> None:
    await change_password()

    assert (await sign_in(replace(ada, password=NEW_PASSWORD))).refresh_token.startswith("rt_")
    with pytest.raises(InvalidCredentials):
        await sign_in(ada)


async def test_changing_the_password_needs_the_current_one(
    change_password: ChangePassword, ada: Account, sign_in: SignIn
) -> None:
    with pytest.raises(InvalidCredentials):
        await change_password(current="some other password")

    assert (await sign_in(ada)).refresh_token.startswith("rt_")


@pytest.mark.parametrize(("new", "error"), [("p" * 14, PasswordTooShort), ("p" * 257, PasswordTooLong)])
async def test_a_new_password_of_the_wrong_length_is_refused_before_any_query(
    change_password: ChangePassword, database: Database, new: str, error: type[Exception]
) -> None:
    with assert_queries(database, max=0), pytest.raises(error):
        await change_password(new=new)


async def test_a_new_password_ends_other_sessions(
    change_password: ChangePassword, ada: Account, sign_in: SignIn, refresh: Refresh, recognise: Recognise
) -> None:
    elsewhere = await sign_in(ada)

    await change_password()

    with pytest.raises(SessionEnded):
        await recognise(elsewhere.access_token)
    with pytest.raises(RefreshTokenNotFound):
        await refresh(elsewhere.refresh_token)


async def test_a_new_password_keeps_the_session_that_set_it(
    change_password: ChangePassword, tokens: IssuedTokens, principal: Principal, recognise: Recognise
) -> None:
    await change_password()

    assert await recognise(tokens.access_token) == principal


async def test_a_new_password_ends_no_session_of_other_users(
    change_password: ChangePassword, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    bob = await make_account()
    tokens_of_bob = await sign_in(bob)

    await change_password()

    assert (await recognise(tokens_of_bob.access_token)).user_id == bob.id


async def test_a_wrong_current_password_ends_no_session(
    change_password: ChangePassword, ada: Account, sign_in: SignIn, recognise: Recognise
) -> None:
    elsewhere = await sign_in(ada)

    with pytest.raises(InvalidCredentials):
        await change_password(current="some other password")

    assert (await recognise(elsewhere.access_token)).user_id == ada.id


async def test_the_password_of_a_removed_user_cannot_be_changed(
    delete_account: DeleteAccount, change_password: ChangePassword
) -> None:
    await delete_account()

    with pytest.raises(InvalidCredentials):
        await change_password()


async def change_over(narrow: Database, auth: Auth, principal: Principal) -> None:
    """Change the password over the only connection."""
    async with narrow.unit_of_work() as session:
        await accounts.change_password(
            auth, session, principal, current_password=PASSWORD, new_password=NEW_PASSWORD, client=NOBODY
        )


async def test_a_password_change_holds_no_connection_while_it_hashes(
    auth: Auth, narrow: Database, taken: asyncio.Event, ada: Account, principal: Principal
) -> None:
    async with busy_hashing(auth.passwords):
        changing = asyncio.create_task(change_over(narrow, auth, principal))
        await taken.wait()
        async with narrow.unit_of_work() as session:
            someone_else = await UserRepository(session).credentials_of(ada.email)
        still_hashing = not changing.done()
    await changing

    assert someone_else is not None
    assert still_hashing


async def test_a_password_change_that_another_has_overtaken_is_refused(
    auth: Auth, narrow: Database, taken: asyncio.Event, ada: Account, principal: Principal
) -> None:
    async with busy_hashing(auth.passwords):
        changing = asyncio.create_task(change_over(narrow, auth, principal))
        await taken.wait()
        await change_hash(narrow, ada)

    with pytest.raises(InvalidCredentials):
        await changing


async def test_deleting_an_account_needs_a_fresh_sign_in(
    delete_account: DeleteAccount, tokens: IssuedTokens, principal: Principal, recognise: Recognise
) -> None:
    with pytest.raises(ReauthenticationRequired):
        await delete_account(signed_in_for=timedelta(minutes=5, seconds=1))

    assert await recognise(tokens.access_token) == principal


async def test_a_sign_in_of_five_minutes_ago_is_fresh(
    delete_account: DeleteAccount, tokens: IssuedTokens, recognise: Recognise
) -> None:
    await delete_account(signed_in_for=timedelta(minutes=5))

    with pytest.raises(UserRemoved):
        await recognise(tokens.access_token)


async def test_a_refresh_is_no_fresh_sign_in(
    tokens: IssuedTokens, principal: Principal, refresh: Refresh, recognise: Recognise
) -> None:
    renewed = await refresh(tokens.refresh_token)

    assert (await recognise(renewed.access_token)).signed_in_at == principal.signed_in_at


async def test_all_sessions_go_with_the_account(
    delete_account: DeleteAccount, database: Database, ada: Account, tokens: IssuedTokens, refresh: Refresh
) -> None:
    await delete_account()

    async with database.unit_of_work() as session:
        assert await UserSessionRepository(session).of_user(ada.id) == []
    with pytest.raises(RefreshTokenNotFound):
        await refresh(tokens.refresh_token)


async def test_deleting_an_account_takes_away_what_its_jobs_have_left(
    delete_account: DeleteAccount, database: Database, ada: Account
) -> None:
    await delete_account()

    await assert_enqueued(database, AccountErasure, user_id=ada.id)


async def test_of_parallel_deletions_of_an_account_one_is_done_and_audited(
    delete_account: DeleteAccount, database: Database
) -> None:
    outcomes = await asyncio.gather(*(delete_account() for _ in range(20)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(UserRemoved) == 19
    assert outcomes.count(None) == 1
    async with database.unit_of_work() as session:
        deleted = await session.scalars(select(AuditEvent).where(AuditEvent.event == "account_deleted"))
        assert len(deleted.all()) == 1


async def test_the_address_of_a_deleted_account_may_register_anew(
    delete_account: DeleteAccount, ada: Account, make_account: MakeAccount
) -> None:
    await delete_account()

    anew = await make_account(email=ada.email)

    assert anew.id != ada.id


async def test_the_current_password_is_no_new_one(change_password: ChangePassword) -> None:
    with pytest.raises(PasswordUnchanged):
        await change_password(new=PASSWORD)


async def test_only_who_knows_the_current_password_learns_that_it_is_the_new_one(
    change_password: ChangePassword,
) -> None:
    with pytest.raises(InvalidCredentials):
        await change_password(current=NEW_PASSWORD)


async def test_a_new_password_that_is_easy_to_guess_is_refused(change_password: ChangePassword) -> None:
    with pytest.raises(PasswordTooCommon):
        await change_password(new="ada@example.test")


@pytest.fixture
async def link(auth: Auth, database: Database, ada: Account) -> UUID:
    """The id of a link that was mailed to Ada."""
    async with database.unit_of_work() as session:
        user = await UserRepository(session).locked(ada.id)
        assert user is not None
        row = auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        await OneTimeTokenRepository(session).replace(row)
        return row.id


async def test_a_new_password_kills_the_links_of_before(
    change_password: ChangePassword, link: UUID, session: Session
) -> None:
    await change_password()

    assert await OneTimeTokenRepository(session).get(link) is None


async def test_the_owner_hears_of_a_new_password(
    change_password: ChangePassword, ada: Account, session: Session
) -> None:
    await change_password()

    jobs = (await session.scalars(select(Job).where(Job.kind == "email.notice"))).all()
    assert [job.payload for job in jobs] == [{"user_id": str(ada.id), "what": "password_changed"}]


@pytest.fixture
async def disabled(database: Database, ada: Account, link: UUID, tokens: IssuedTokens) -> Account:
    """Ada's account, with a session and a link, after it was disabled."""
    async with database.unit_of_work() as session:
        await accounts.disable(session, email="ADA@example.test", now=utcnow())
    return ada


async def test_nobody_can_sign_in_to_a_disabled_account(disabled: Account, sign_in: SignIn) -> None:
    with pytest.raises(InvalidCredentials):
        await sign_in(disabled)


async def test_disabling_an_account_ends_its_sessions(
    ada: Account, tokens: IssuedTokens, database: Database, session: Session
) -> None:
    async with database.unit_of_work() as other:
        await accounts.disable(other, email=ada.email, now=utcnow())

    assert await UserSessionRepository(session).of_user(ada.id) == []


async def test_disabling_an_account_kills_its_links(disabled: Account, link: UUID, session: Session) -> None:
    assert await OneTimeTokenRepository(session).get(link) is None


async def test_an_enabled_account_lets_its_owner_in_again(
    disabled: Account, database: Database, sign_in: SignIn
) -> None:
    async with database.unit_of_work() as session:
        await accounts.enable(session, email=disabled.email)

    assert (await sign_in(disabled)).refresh_token.startswith("rt_")


async def test_an_account_that_is_not_there_cannot_be_disabled_or_enabled(session: Session) -> None:
    with pytest.raises(AccountNotFound):
        await accounts.disable(session, email="eve@example.test", now=utcnow())
    with pytest.raises(AccountNotFound):
        await accounts.enable(session, email="eve@example.test")

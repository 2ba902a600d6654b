"""Authenticating by an access token, and signing out."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app_auth import sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import InvalidToken, RefreshTokenNotFound, SessionEnded, UserRemoved
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.testing import MakeAccount, SignIn
from app_db import Database
from app_db.models import Role, User
from app_db.repositories.users import UserRepository
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow

type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Recognise = Callable[..., Awaitable[Principal]]


@pytest.fixture
async def signed_in(make_account: MakeAccount, sign_in: SignIn) -> IssuedTokens:
    """The tokens of a sign-in just now."""
    return await sign_in(await make_account())


async def sign_out(auth: Auth, database: Database, token: str) -> None:
    async with database.unit_of_work() as session:
        await sessions.sign_out(auth, session, token=token, client=NOBODY)


async def test_session_and_user_are_found_in_one_query(
    database: Database, signed_in: IssuedTokens, recognise: Recognise
) -> None:
    await recognise(signed_in.access_token)  # a new connection runs a few queries of its own

    with assert_queries(database, max=1):
        await recognise(signed_in.access_token)


async def test_the_role_is_the_one_of_now(
    database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    account = await make_account(role=Role.OPERATOR)
    tokens = await sign_in(account)

    async with database.unit_of_work() as session:
        user = await session.get_one(User, account.id)
        user.role = Role.USER

    assert (await recognise(tokens.access_token)).role is Role.USER


async def test_no_query_is_made_for_a_token_that_is_not_ours(database: Database, recognise: Recognise) -> None:
    with assert_queries(database, max=0), pytest.raises(InvalidToken):
        await recognise("not.a.token")


async def test_the_token_of_a_removed_user_says_so(
    database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    account = await make_account()
    tokens = await sign_in(account)
    async with database.unit_of_work() as session:
        await UserRepository(session).delete(account.id)

    with pytest.raises(UserRemoved):
        await recognise(tokens.access_token)


async def test_the_session_of_someone_else_is_none_of_ours(
    auth: Auth, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    ada, bob = await make_account(), await make_account()
    session_of_ada = (await recognise((await sign_in(ada)).access_token)).session_id

    mixed, _ = auth.access_tokens.issue(user_id=bob.id, session_id=session_of_ada, now=utcnow())

    with pytest.raises(SessionEnded):
        await recognise(mixed)


async def test_a_session_that_never_was_is_an_ended_one(
    auth: Auth, make_account: MakeAccount, recognise: Recognise
) -> None:
    account = await make_account()
    token, _ = auth.access_tokens.issue(user_id=account.id, session_id=new_id(), now=utcnow())

    with pytest.raises(SessionEnded):
        await recognise(token)


async def test_an_access_token_does_not_outlive_its_session(signed_in: IssuedTokens, recognise: Recognise) -> None:
    with pytest.raises(SessionEnded):
        await recognise(signed_in.access_token, now=signed_in.refresh_expires_at)


async def test_an_access_token_is_believed_until_its_session_expires(
    signed_in: IssuedTokens, recognise: Recognise
) -> None:
    principal = await recognise(signed_in.access_token, now=signed_in.refresh_expires_at - timedelta(seconds=1))

    assert principal.role is Role.USER


async def test_signing_out_ends_the_access_token_at_once(
    auth: Auth, database: Database, signed_in: IssuedTokens, recognise: Recognise
) -> None:
    await sign_out(auth, database, signed_in.access_token)

    with pytest.raises(SessionEnded):
        await recognise(signed_in.access_token)


async def test_signing_out_ends_its_refresh_token(
    auth: Auth, database: Database, signed_in: IssuedTokens, refresh: Refresh
) -> None:
    await sign_out(auth, database, signed_in.access_token)

    with pytest.raises(RefreshTokenNotFound):
        await refresh(signed_in.refresh_token)


async def test_signing_out_twice_is_no_error(
    auth: Auth, database: Database, signed_in: IssuedTokens, recognise: Recognise
) -> None:
    for _ in range(2):
        await sign_out(auth, database, signed_in.access_token)

    with pytest.raises(SessionEnded):
        await recognise(signed_in.access_token)


async def test_signing_out_ends_no_other_session(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    account = await make_account()
    here, elsewhere = await sign_in(account), await sign_in(account)

    await sign_out(auth, database, here.access_token)

    assert (await recognise(elsewhere.access_token)).user_id == account.id


async def test_signing_out_needs_a_token_of_ours(auth: Auth, database: Database) -> None:
    with pytest.raises(InvalidToken):
        await sign_out(auth, database, "not.a.token")

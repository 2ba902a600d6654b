"""Staying signed in: refresh tokens rotate, and a family ends when one of them is used twice."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app_auth import sessions
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import RefreshTokenExpired, RefreshTokenNotFound, RefreshTokenUsed, SessionEnded, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_auth.testing import MakeAccount, SignIn, new_key
from app_auth.throttle import Throttle
from app_db import Database
from app_db.models import UserSession
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow

type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Recognise = Callable[..., Awaitable[Principal]]


@pytest.fixture
async def signed_in(make_account: MakeAccount, sign_in: SignIn) -> IssuedTokens:
    """The tokens of a sign-in just now."""
    return await sign_in(await make_account())


@pytest.fixture
def rotated_settings(auth_settings: AuthSettings) -> AuthSettings:
    """Return the same settings with a new active refresh key; the one before it still verifies."""
    retired = auth_settings.refresh_keys[0].model_copy(update={"state": "verify"})
    return auth_settings.model_copy(update={"refresh_keys": (retired, new_key("2"))})


async def test_a_refresh_token_yields_its_successor(
    signed_in: IssuedTokens, refresh: Refresh, recognise: Recognise
) -> None:
    before = await recognise(signed_in.access_token)

    second = await refresh(signed_in.refresh_token)
    third = await refresh(second.refresh_token)

    assert len({signed_in.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert await recognise(third.access_token) == before


async def test_a_refresh_is_one_query(database: Database, signed_in: IssuedTokens, refresh: Refresh) -> None:
    with assert_queries(database, max=1):
        await refresh(signed_in.refresh_token)


async def test_no_query_is_made_for_a_forged_token(database: Database, refresh: Refresh) -> None:
    forged = f"rt_{new_id().hex}.0.{'A' * 43}"

    with assert_queries(database, max=0), pytest.raises(RefreshTokenNotFound):
        await refresh(forged)


async def test_parallel_refreshes_of_one_token_get_one_successor(
    signed_in: IssuedTokens, refresh: Refresh, recognise: Recognise
) -> None:
    now = utcnow()

    issued = await asyncio.gather(*(refresh(signed_in.refresh_token, now=now) for _ in range(20)))

    assert len({tokens.refresh_token for tokens in issued}) == 1
    assert len({(await recognise(tokens.access_token)).session_id for tokens in issued}) == 1
    assert len({tokens.access_token for tokens in issued}) == 20


async def test_a_refresh_repeated_within_the_grace_gets_the_same_successor(
    signed_in: IssuedTokens, refresh: Refresh
) -> None:
    now = utcnow()
    first = await refresh(signed_in.refresh_token, now=now)

    again = await refresh(signed_in.refresh_token, now=now + timedelta(seconds=9))

    assert again.refresh_token == first.refresh_token


async def test_a_repetition_does_not_extend_the_grace(signed_in: IssuedTokens, refresh: Refresh) -> None:
    now = utcnow()
    await refresh(signed_in.refresh_token, now=now)
    await refresh(signed_in.refresh_token, now=now + timedelta(seconds=9))

    with pytest.raises(RefreshTokenUsed):
        await refresh(signed_in.refresh_token, now=now + timedelta(seconds=11))


async def test_the_predecessor_of_the_predecessor_is_reuse_even_within_the_grace(
    signed_in: IssuedTokens, refresh: Refresh
) -> None:
    now = utcnow()
    second = await refresh(signed_in.refresh_token, now=now)
    await refresh(second.refresh_token, now=now)

    with pytest.raises(RefreshTokenUsed):
        await refresh(signed_in.refresh_token, now=now)


async def test_without_a_grace_the_second_use_is_reuse(
    auth_settings: AuthSettings, database: Database, signed_in: IssuedTokens, refresh: Refresh
) -> None:
    now = utcnow()
    await refresh(signed_in.refresh_token, now=now)

    without_grace = auth_settings.model_copy(update={"refresh_grace": timedelta(0)})
    with open_auth(without_grace) as strict, pytest.raises(RefreshTokenUsed):
        await sessions.refresh(strict, database, token=signed_in.refresh_token, client=NOBODY, now=now)


async def test_reuse_ends_the_family(
    database: Database, signed_in: IssuedTokens, refresh: Refresh, recognise: Recognise
) -> None:
    now = utcnow()
    newest = await refresh(signed_in.refresh_token, now=now)
    used_again = now + timedelta(seconds=11)

    # As at the edge: the request is rolled back, then the error's aftermath is written in its own transaction.
    with pytest.raises(RefreshTokenUsed) as caught:
        await refresh(signed_in.refresh_token, now=used_again)
    async with database.unit_of_work() as session:
        await caught.value.aftermath(session)

    with pytest.raises(RefreshTokenNotFound):
        await refresh(newest.refresh_token, now=used_again)
    with pytest.raises(SessionEnded):
        await recognise(newest.access_token)


async def test_reuse_ends_no_other_session_of_the_user(
    database: Database, make_account: MakeAccount, sign_in: SignIn, refresh: Refresh
) -> None:
    account = await make_account()
    stolen, other = await sign_in(account), await sign_in(account)
    now = utcnow()
    await refresh(stolen.refresh_token, now=now)

    with pytest.raises(RefreshTokenUsed) as caught:
        await refresh(stolen.refresh_token, now=now + timedelta(seconds=11))
    async with database.unit_of_work() as session:
        await caught.value.aftermath(session)

    assert (await refresh(other.refresh_token)).refresh_token != other.refresh_token


async def test_an_ended_session_has_no_refresh_token(auth: Auth, refresh: Refresh) -> None:
    token = auth.refresh_tokens.derive(new_id(), 0, key_id="1")

    with pytest.raises(RefreshTokenNotFound):
        await refresh(token)


async def test_a_session_that_is_not_refreshed_expires(
    make_account: MakeAccount, sign_in: SignIn, refresh: Refresh
) -> None:
    now = utcnow()
    tokens = await sign_in(await make_account(), now=now)

    with pytest.raises(RefreshTokenExpired):
        await refresh(tokens.refresh_token, now=now + timedelta(days=14))


async def test_each_refresh_postpones_the_idle_expiry(
    make_account: MakeAccount, sign_in: SignIn, refresh: Refresh
) -> None:
    now = utcnow()
    tokens = await sign_in(await make_account(), now=now)

    renewed = await refresh(tokens.refresh_token, now=now + timedelta(days=13))

    assert renewed.refresh_expires_at == now + timedelta(days=27)


async def test_no_refresh_extends_a_session_beyond_its_absolute_expiry(
    make_account: MakeAccount, sign_in: SignIn, refresh: Refresh
) -> None:
    now = utcnow()
    tokens = await sign_in(await make_account(), now=now)

    for days in (13, 26, 29):
        tokens = await refresh(tokens.refresh_token, now=now + timedelta(days=days))

    assert tokens.refresh_expires_at == now + timedelta(days=30)
    with pytest.raises(RefreshTokenExpired):
        await refresh(tokens.refresh_token, now=now + timedelta(days=30))


async def test_an_absolute_lifetime_below_the_idle_one_wins_from_the_start(
    auth_settings: AuthSettings, database: Database, make_account: MakeAccount
) -> None:
    account, now = await make_account(), utcnow()

    with open_auth(auth_settings.model_copy(update={"refresh_absolute": timedelta(days=1)})) as auth:
        async with database.unit_of_work() as session:
            tokens = await sessions.sign_in(
                auth, session, email=account.email, password=account.password, client=NOBODY, now=now
            )

    assert tokens.refresh_expires_at == now + timedelta(days=1)


async def test_a_token_of_a_retired_key_yields_one_of_the_active_key(
    rotated_settings: AuthSettings, database: Database, signed_in: IssuedTokens, refresh: Refresh
) -> None:
    with open_auth(rotated_settings) as rotated:
        renewed = await sessions.refresh(rotated, database, token=signed_in.refresh_token, client=NOBODY, now=utcnow())

    with pytest.raises(RefreshTokenNotFound):
        await refresh(renewed.refresh_token)  # by a process that does not know the new key


async def test_keys_that_are_rotated_within_the_grace_change_no_successor(
    rotated_settings: AuthSettings, database: Database, signed_in: IssuedTokens, refresh: Refresh
) -> None:
    now = utcnow()
    first = await refresh(signed_in.refresh_token, now=now)

    with open_auth(rotated_settings) as rotated:
        again = await sessions.refresh(rotated, database, token=signed_in.refresh_token, client=NOBODY, now=now)

    assert again.refresh_token == first.refresh_token


async def test_a_successor_of_a_key_that_this_process_does_not_know_is_not_found(
    rotated_settings: AuthSettings, database: Database, signed_in: IssuedTokens, refresh: Refresh
) -> None:
    with open_auth(rotated_settings) as rotated:
        await sessions.refresh(rotated, database, token=signed_in.refresh_token, client=NOBODY, now=utcnow())

    with pytest.raises(RefreshTokenNotFound):
        await refresh(signed_in.refresh_token)  # within the grace, by a process with the old ring


async def test_the_database_holds_no_part_of_a_refresh_token(
    database: Database, make_account: MakeAccount, sign_in: SignIn
) -> None:
    account = await make_account()
    tokens = await sign_in(account)

    async with database.unit_of_work() as session:
        [row] = await UserSessionRepository(session).of_user(account.id)

    stored = " ".join(str(getattr(row, column.key)) for column in UserSession.__table__.columns)
    assert tokens.refresh_token.split(".")[2] not in stored


async def test_refreshes_are_throttled(auth: Auth, database: Database, signed_in: IssuedTokens) -> None:
    throttle = Throttle(ThrottleSettings(refresh_ip="1/5m"), secret=b"of this test")

    async def refresh() -> IssuedTokens:
        return await sessions.refresh(
            replace(auth, throttle=throttle), database, token=signed_in.refresh_token, client=NOBODY, now=utcnow()
        )

    await refresh()
    with pytest.raises(Throttled):
        await refresh()

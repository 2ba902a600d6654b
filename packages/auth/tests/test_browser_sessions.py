"""Login sessions of browsers: begun by a password, held by a derived secret, ended like any other."""

import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from app_auth import browser_sessions, sessions
from app_auth.auth import Auth, open_auth
from app_auth.browser_secrets import BrowserClaims
from app_auth.browser_sessions import TOUCH
from app_auth.client import NOBODY
from app_auth.errors import InvalidCredentials, InvalidToken, RefreshTokenNotFound, SessionEnded
from app_auth.keys import activated, added, new_key, retired
from app_auth.settings import AuthSettings
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Database, open_database
from app_db.models import AuditEvent
from app_db.repositories.user_sessions import touch
from app_db.types import new_id, utcnow


async def begin(auth: Auth, database: Database, account: Account, *, before: str | None = None) -> str:
    async with database.unit_of_work() as session:
        begun = await browser_sessions.sign_in(
            auth, session, email=account.email, password=account.password, client=NOBODY, before=before
        )
    return begun.secret


async def events_of(database: Database, account: Account) -> list[str]:
    async with database.unit_of_work(read_only=True) as session:
        about = select(AuditEvent.event).where(AuditEvent.user_id == account.id).order_by(AuditEvent.id)
        return [*await session.scalars(about)]


async def test_a_secret_is_that_of_its_user_and_session(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    ada = await make_account()
    secret = await begin(auth, database, ada)

    principal = await browser_sessions.authenticate(auth, database, secret=secret)

    assert (principal.user_id, principal.email) == (ada.id, ada.email)
    assert auth.browser_secrets.parse(secret).session_id == principal.session_id


async def test_a_wrong_password_begins_nothing(auth: Auth, database: Database, make_account: MakeAccount) -> None:
    ada = await make_account()
    with pytest.raises(InvalidCredentials):
        await begin(auth, database, Account(ada.id, ada.email, "wrong", ada.role))


async def test_a_sign_in_ends_the_session_before(auth: Auth, database: Database, make_account: MakeAccount) -> None:
    ada = await make_account()
    first = await begin(auth, database, ada)
    second = await begin(auth, database, ada, before=first)

    await browser_sessions.authenticate(auth, database, secret=second)
    with pytest.raises(SessionEnded):
        await browser_sessions.authenticate(auth, database, secret=first)
    assert await events_of(database, ada) == ["registered", "signed_in", "signed_in", "signed_out"]


async def test_signing_out_ends_the_secret_at_once_and_may_be_repeated(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    ada = await make_account()
    secret = await begin(auth, database, ada)
    for text in (secret, secret, "bs_no", ""):
        async with database.unit_of_work() as session:
            await browser_sessions.sign_out(auth, session, secret=text, client=NOBODY)

    with pytest.raises(SessionEnded):
        await browser_sessions.authenticate(auth, database, secret=secret)
    assert await events_of(database, ada) == ["registered", "signed_in", "signed_out"]


async def test_a_session_of_a_browser_that_is_used_does_not_expire_by_idleness(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    secret, now = await begin(auth, database, await make_account()), utcnow()

    async def seen(after: timedelta) -> datetime | None:
        principal = await browser_sessions.authenticate(auth, database, secret=secret, now=now + after)
        if browser_sessions.is_use_unnoted(principal):
            await browser_sessions.note_use(auth, database, principal, now=now + after)
        return principal.last_used_at

    idle = auth.settings.refresh_idle
    began = await seen(timedelta(0))
    assert await seen(TOUCH / 2) == began
    assert await seen(TOUCH / 2) == began  # no page writes for each look
    await seen(idle - timedelta(minutes=1))
    assert await seen(idle + timedelta(days=1)) == now + idle - timedelta(minutes=1)
    with pytest.raises(SessionEnded):
        await seen(auth.settings.refresh_absolute + timedelta(minutes=1))
    assert await touch(database, auth.browser_secrets.parse(secret).session_id, now=now + 9 * idle, idle=idle) is None


async def test_a_page_is_shown_although_its_session_cannot_be_touched(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    secret, later = await begin(auth, database, await make_account()), utcnow() + 2 * TOUCH
    limits = database.settings.model_copy(update={"pool_timeout": timedelta(milliseconds=50), "pool_size": 1})
    async with open_database(limits, name="narrow") as narrow, narrow.engine.connect():
        principal = await browser_sessions.authenticate(auth, narrow, secret=secret, now=later)
        assert browser_sessions.is_use_unnoted(principal)
        await browser_sessions.note_use(auth, narrow, principal, now=later)  # says nothing


async def test_a_changed_secret_of_a_browser_is_refused(auth: Auth) -> None:
    user_id, session_id = new_id(), new_id()
    secret = auth.browser_secrets.derive(user_id, session_id)
    assert auth.browser_secrets.parse(secret) == BrowserClaims(user_id, session_id)

    for place in (5, 40, -2):
        other = "0" if secret[place] != "0" else "1"
        for changed in (f"{secret[:place]}{other}{secret[place + 1 :]}", f"{secret}A", secret.upper()):
            with pytest.raises(InvalidToken):
                auth.browser_secrets.parse(changed)


async def test_no_proof_is_worth_anything_in_the_place_of_another(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn
) -> None:
    ada = await make_account()
    secret = await begin(auth, database, ada)
    tokens = await sign_in(ada)

    with pytest.raises(InvalidToken):
        await sessions.authenticate(auth, database, token=secret)
    session_id = auth.browser_secrets.parse(secret).session_id
    as_refresh = re.sub(r"^bs_[0-9a-f]+\.[0-9a-f]+", f"rt_{session_id.hex}.0", secret)
    for refresh in (secret, as_refresh):
        with pytest.raises(RefreshTokenNotFound):
            await sessions.refresh(auth, database, token=refresh, client=NOBODY)
    for token in (tokens.access_token, tokens.refresh_token):
        with pytest.raises(InvalidToken):
            await browser_sessions.authenticate(auth, database, secret=token)


async def test_a_secret_outlives_a_turn_of_the_keys_but_not_the_end_of_its_own(auth_settings: AuthSettings) -> None:
    ids, newer = (new_id(), new_id()), new_key(utcnow().date())
    with open_auth(auth_settings) as auth:
        secret = auth.browser_secrets.derive(*ids)
    turned = activated(added(auth_settings.refresh_keys, newer), newer.kid)

    with open_auth(auth_settings.model_copy(update={"refresh_keys": turned})) as auth:
        assert auth.browser_secrets.parse(secret) == BrowserClaims(*ids)
        assert auth.browser_secrets.derive(*ids) != secret
    without = retired(turned, auth_settings.refresh_keys[0].kid)
    with open_auth(auth_settings.model_copy(update={"refresh_keys": without})) as auth, pytest.raises(InvalidToken):
        auth.browser_secrets.parse(secret)

"""What the audit keeps of sign-ins and sessions, and what it never holds."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app_auth import sessions
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import NOBODY, Client
from app_auth.errors import EmailNotVerified, InvalidCredentials, RefreshTokenUsed
from app_auth.permissions import set_role
from app_auth.principal import Principal
from app_auth.sessions import IssuedTokens
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn
from app_db import Database
from app_db.errors import AppError
from app_db.features.accounts.payloads import SecurityNotice
from app_db.models import AuditEvent, Job, Role, User
from app_db.repositories.audit import AuditRepository
from app_db.types import new_id, utcnow

type Recognise = Callable[..., Awaitable[Principal]]
type Refresh = Callable[..., Awaitable[IssuedTokens]]
type Audited = Callable[..., Awaitable[list[AuditEvent]]]

HOME = Client("192.0.2.7", "Lynx/2.9", "request-1")
AT_ONCE = 20


@pytest.fixture
def audited(database: Database) -> Audited:
    """Return a function that reads the rows of one kind, newest first."""

    async def audited(event: Event) -> list[AuditEvent]:
        async with database.unit_of_work() as session:
            page = await AuditRepository(session).recent(after=None, limit=1000)
        return [row for row in page.items if row.event == event]

    return audited


async def refused(database: Database, error: AppError) -> None:
    """Write the aftermath of an error, as the edge does after the rollback."""
    async with database.unit_of_work() as session:
        await error.aftermath(session)


async def test_a_row_tells_what_to_whom_by_whom_from_where(database: Database, audited: Audited) -> None:
    user_id, actor_id, session_id = new_id(), new_id(), new_id()

    async with database.unit_of_work() as session:
        audit(
            session,
            Event.ROLE_CHANGED,
            client=HOME,
            user_id=user_id,
            actor_id=actor_id,
            session_id=session_id,
            role="x",
        )

    [row] = await audited(Event.ROLE_CHANGED)
    assert (row.user_id, row.actor_id, row.session_id) == (user_id, actor_id, session_id)
    assert (row.client_address, row.request_id, row.details) == ("192.0.2.7", "request-1", {"role": "x"})


async def test_a_row_goes_with_the_transaction_that_it_tells_of(database: Database, audited: Audited) -> None:
    async with database.unit_of_work() as session:
        audit(session, Event.SIGNED_IN, client=HOME)
        await session.rollback()

    assert await audited(Event.SIGNED_IN) == []


async def test_a_sign_in_is_audited(
    make_account: MakeAccount, sign_in: SignIn, recognise: Recognise, audited: Audited
) -> None:
    account = await make_account()

    principal = await recognise((await sign_in(account, client=HOME)).access_token)

    [row] = await audited(Event.SIGNED_IN)
    assert (row.user_id, row.session_id, row.client_address) == (account.id, principal.session_id, "192.0.2.7")


@pytest.mark.parametrize("known", [True, False])
async def test_a_failed_sign_in_is_audited(
    database: Database, make_account: MakeAccount, sign_in: SignIn, audited: Audited, *, known: bool
) -> None:
    account = await make_account()
    tried = replace(account, password="wrong") if known else replace(account, email="nobody@example.test")

    with pytest.raises(InvalidCredentials) as caught:
        await sign_in(tried, client=HOME)
    await refused(database, caught.value)

    [row] = await audited(Event.SIGN_IN_FAILED)
    assert (row.user_id, row.client_address, row.details) == (account.id if known else None, "192.0.2.7", {})


async def test_a_sign_in_before_the_address_is_verified_is_audited(
    auth_settings: AuthSettings, auth: Auth, database: Database, make_account: MakeAccount, audited: Audited
) -> None:
    account = await make_account()
    async with database.unit_of_work() as session:
        (await session.get_one(User, account.id)).email_verified_at = None
    strict = replace(auth, settings=auth_settings.model_copy(update={"verification": True}))

    with pytest.raises(EmailNotVerified) as caught:
        async with database.unit_of_work() as session:
            await sessions.sign_in(strict, session, email=account.email, password=PASSWORD, client=HOME, now=utcnow())
    await refused(database, caught.value)

    [row] = await audited(Event.SIGN_IN_FAILED)
    assert (row.user_id, row.details) == (account.id, {"because": "email_not_verified"})


async def test_a_sign_out_is_audited_once(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn, audited: Audited
) -> None:
    account = await make_account()
    token = (await sign_in(account)).access_token

    for _ in range(2):
        async with database.unit_of_work() as session:
            await sessions.sign_out(auth, session, token=token, client=HOME)

    [row] = await audited(Event.SIGNED_OUT)
    assert (row.user_id, row.client_address) == (account.id, "192.0.2.7")


async def test_a_revoked_session_is_audited(
    database: Database, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise, audited: Audited
) -> None:
    account = await make_account()
    here, there = [await recognise((await sign_in(account)).access_token) for _ in range(2)]

    async with database.unit_of_work() as session:
        await sessions.revoke(session, here, there.session_id, client=HOME)

    [row] = await audited(Event.SESSION_REVOKED)
    assert (row.user_id, row.session_id) == (account.id, there.session_id)


@pytest.mark.parametrize(
    ("revoke", "details"),
    [
        (sessions.revoke_others, {"because": "others", "count": 2}),
        (sessions.revoke_all, {"because": "all", "count": 3}),
    ],
)
async def test_revoked_sessions_are_audited_and_counted(
    database: Database,
    make_account: MakeAccount,
    sign_in: SignIn,
    recognise: Recognise,
    audited: Audited,
    revoke: Callable[..., Awaitable[None]],
    details: dict[str, object],
) -> None:
    account = await make_account()
    here, *_ = [await recognise((await sign_in(account)).access_token) for _ in range(3)]

    async with database.unit_of_work() as session:
        await revoke(session, here, client=HOME)

    [row] = await audited(Event.SESSIONS_REVOKED)
    assert (row.user_id, row.details) == (account.id, details)


async def test_what_was_done_from_a_shell_is_audited(
    database: Database, make_account: MakeAccount, audited: Audited
) -> None:
    account = await make_account()

    async with database.unit_of_work() as session:
        await set_role(session, email=account.email, role=Role.OPERATOR)
        await sessions.sign_out_everywhere(session, email=account.email)

    [role], [ended] = await audited(Event.ROLE_CHANGED), await audited(Event.SESSIONS_REVOKED)
    assert (role.user_id, role.details) == (account.id, {"by": "shell", "role": "operator"})
    assert (ended.user_id, ended.details) == (account.id, {"by": "shell", "because": "operator", "count": 0})


async def test_a_session_that_makes_room_is_audited(
    auth_settings: AuthSettings, auth: Auth, database: Database, make_account: MakeAccount, audited: Audited
) -> None:
    account = await make_account()
    single = replace(auth, settings=auth_settings.model_copy(update={"sessions_per_user": 1}))

    for _ in range(2):
        async with database.unit_of_work() as session:
            await sessions.sign_in(single, session, email=account.email, password=PASSWORD, client=HOME, now=utcnow())

    [row] = await audited(Event.SESSIONS_REVOKED)
    assert row.details == {"because": "too_many", "count": 1}


@pytest.fixture
async def reused(make_account: MakeAccount, sign_in: SignIn, refresh: Refresh) -> tuple[Account, RefreshTokenUsed]:
    """The owner of a refresh token that was used again after the grace, and the error."""
    account, now = await make_account(), utcnow()
    token = (await sign_in(account)).refresh_token
    await refresh(token, now=now)
    with pytest.raises(RefreshTokenUsed) as caught:
        await refresh(token, now=now + timedelta(seconds=11))
    return account, caught.value


async def notices(database: Database, user_id: UUID) -> int:
    mine = select(func.count()).select_from(Job).where(Job.kind == SecurityNotice.kind, Job.owner_id == user_id)
    async with database.unit_of_work() as session:
        return await session.scalar(mine) or 0


async def test_reuse_is_told_to_the_owner_once(database: Database, reused: tuple[Account, RefreshTokenUsed]) -> None:
    account, error = reused

    await asyncio.gather(*(refused(database, error) for _ in range(AT_ONCE)))

    assert await notices(database, account.id) == 1


async def test_reuse_is_audited_once(
    database: Database, reused: tuple[Account, RefreshTokenUsed], audited: Audited
) -> None:
    account, error = reused

    await asyncio.gather(*(refused(database, error) for _ in range(AT_ONCE)))

    [row] = await audited(Event.REFRESH_REUSED)
    assert (row.user_id, row.session_id) == (account.id, error.session_id)


async def test_the_audit_holds_no_secret_and_no_address_of_mail(
    auth: Auth,
    database: Database,
    make_account: MakeAccount,
    sign_in: SignIn,
    reused: tuple[Account, RefreshTokenUsed],
) -> None:
    account = await make_account()
    tokens = await sign_in(account)
    with pytest.raises(InvalidCredentials) as caught:
        await sign_in(replace(account, password="not the password"))
    await refused(database, caught.value)
    await refused(database, reused[1])
    async with database.unit_of_work() as session:
        await sessions.sign_out(auth, session, token=tokens.access_token, client=NOBODY)

    async with database.unit_of_work() as session:
        rows = (await AuditRepository(session).recent(after=None, limit=1000)).items
    text = " ".join(str(getattr(row, column.key)) for row in rows for column in AuditEvent.__table__.columns)
    for secret in (account.email, PASSWORD, "not the password", tokens.access_token, tokens.refresh_token):
        assert secret not in text


@pytest.mark.parametrize(("refreshes", "late", "told"), [(1, 11, 11), (3, 3600, 3600)])
async def test_the_audit_of_a_reuse_says_how_old_the_successor_was(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn, audited: Audited,
    refreshes: int, late: int, told: int,
) -> None:  # fmt: skip
    """The audit tells a tab that missed one refresh from a token that was stolen long ago (RFC 9700, 4.14.2)."""
    now, first = utcnow(), await sign_in(await make_account())
    token = first.refresh_token
    for _ in range(refreshes):
        renewed = await sessions.refresh(auth, database, token=token, client=NOBODY, now=now)
        token = renewed.refresh_token

    later = now + timedelta(seconds=late)
    with pytest.raises(RefreshTokenUsed) as caught:
        await sessions.refresh(auth, database, token=first.refresh_token, client=NOBODY, now=later)
    await refused(database, caught.value)

    [row] = await audited(Event.REFRESH_REUSED)
    assert row.details == {"successors": refreshes, "successor_seconds": told}

"""What operators do to accounts: audited with their name, refused to others, and one of them is always left."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from app_auth import operating, sessions
from app_auth.addresses import beginning_of
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import (
    AccountDisabled,
    InvalidCredentials,
    LinksSent,
    OwnAccount,
    ReauthenticationRequired,
    SessionEnded,
    UnknownAccount,
)
from app_auth.limits import ThrottleSettings
from app_auth.permissions import OperatorRequired
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.errors import AppError, NotFound
from app_db.models import AuditEvent, Job, OneTimeToken, Role, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.types import new_id, utcnow
from packages.auth.tests.conftest import Recognise

HOME = Client("192.0.2.7", request_id="r-1")

type Act = Callable[..., Awaitable[object]]
type MakePrincipal = Callable[..., Awaitable[tuple[Account, Principal]]]


@pytest.fixture
def make_principal(make_account: MakeAccount, sign_in: SignIn, recognise: Recognise) -> MakePrincipal:
    """A factory of accounts that have signed in."""

    async def make(role: Role = Role.OPERATOR) -> tuple[Account, Principal]:
        account = await make_account(role=role)
        return account, await recognise((await sign_in(account)).access_token)

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def operator(make_principal: MakePrincipal) -> Principal:
    return (await make_principal())[1]


def acts(auth: Auth, session: Session) -> dict[str, Act]:
    """Return all acts by name, each for an operator and an account."""
    return {
        "account_disabled": lambda who, user_id: operating.disable(auth, session, who, user_id, client=HOME),
        "role_changed": lambda who, user_id: operating.change_role(
            auth, session, who, user_id, role=Role.OPERATOR, client=HOME
        ),
        "sessions_revoked": lambda who, user_id: operating.end_sessions(session, who, user_id, client=HOME),
        "password_reset_requested": lambda who, user_id: operating.send_reset_link(
            auth, session, who, user_id, client=HOME
        ),
        "account_enabled": lambda who, user_id: operating.enable(session, who, user_id, client=HOME),
        "session_revoked": lambda who, user_id: operating.end_session(
            session, who, user_id, session_id=who.session_id, client=HOME
        ),
    }


DANGEROUS = ["account_disabled", "role_changed"]


async def user_of(database: Database, account: Account) -> User:
    async with database.unit_of_work(read_only=True) as session:
        return await session.get_one(User, account.id)


async def test_what_operators_do_to_accounts_is_audited(
    auth: Auth, database: Database, operator: Principal, make_account: MakeAccount
) -> None:
    account = await make_account()
    for name in ("password_reset_requested", "account_disabled", "account_enabled", "role_changed", "sessions_revoked"):
        async with database.unit_of_work() as session:
            await acts(auth, session)[name](operator, account.id)

    async with database.unit_of_work(read_only=True) as session:
        newest = select(AuditEvent).where(AuditEvent.actor_id == operator.user_id).order_by(AuditEvent.id)
        rows = (await session.scalars(newest)).all()
    assert [row.event for row in rows] == [
        "password_reset_requested", "account_disabled", "account_enabled", "role_changed", "sessions_revoked",
    ]  # fmt: skip
    assert {(row.user_id, row.session_id, row.client_address, row.request_id) for row in rows} == {
        (account.id, operator.session_id, "192.0.2.7", "r-1")
    }
    assert [row.details for row in rows] == [
        {}, {"sessions": 0}, {}, {"role": "operator"}, {"because": "operator", "count": 0}
    ]  # fmt: skip


async def test_an_account_is_disabled_signed_out_and_let_in_again(
    auth: Auth, database: Database, operator: Principal, make_principal: MakePrincipal, sign_in: SignIn
) -> None:
    account, theirs = await make_principal(Role.USER)
    async with database.unit_of_work() as session:
        user = await session.get_one(User, account.id)
        token = auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        await OneTimeTokenRepository(session).replace(token)

    async with database.unit_of_work() as session:
        await operating.disable(auth, session, operator, account.id, client=HOME)

    assert (await user_of(database, account)).disabled_at is not None
    with pytest.raises(InvalidCredentials):
        await sign_in(account)
    async with database.unit_of_work() as session:
        assert await sessions.sessions_of(session, theirs.user_id) == []
        assert (await session.scalars(select(OneTimeToken))).all() == []
        await operating.enable(session, operator, account.id, client=HOME)
    await sign_in(account)


async def test_what_is_so_already_is_neither_done_nor_audited(
    auth: Auth, database: Database, operator: Principal, make_account: MakeAccount
) -> None:
    account = await make_account(role=Role.OPERATOR)
    for name in ("account_enabled", "role_changed", "account_disabled", "account_disabled"):
        async with database.unit_of_work() as session:
            await acts(auth, session)[name](operator, account.id)

    async with database.unit_of_work(read_only=True) as session:
        rows = await session.scalars(select(AuditEvent.event).where(AuditEvent.actor_id == operator.user_id))
        assert list(rows) == ["account_disabled"]


@pytest.mark.parametrize("name", DANGEROUS)
async def test_no_operator_locks_themself_out(auth: Auth, session: Session, operator: Principal, name: str) -> None:
    with pytest.raises(OwnAccount):
        await acts(auth, session)[name](operator, operator.user_id)


@pytest.mark.parametrize("name", DANGEROUS)
async def test_what_locks_out_needs_a_fresh_sign_in(
    auth: Auth, session: Session, operator: Principal, make_account: MakeAccount, name: str
) -> None:
    account = await make_account()
    stale = replace(operator, signed_in_at=operator.signed_in_at - timedelta(minutes=6))

    with pytest.raises(ReauthenticationRequired):
        await acts(auth, session)[name](stale, account.id)


async def test_nobody_else_does_what_operators_do(
    auth: Auth, session: Session, make_principal: MakePrincipal, make_account: MakeAccount
) -> None:
    account, (_, other) = await make_account(), await make_principal(Role.USER)

    for act in acts(auth, session).values():
        with pytest.raises(OperatorRequired):
            await act(other, account.id)


async def test_an_account_that_is_not_there_is_unknown(auth: Auth, session: Session, operator: Principal) -> None:
    for act in acts(auth, session).values():
        with pytest.raises(UnknownAccount):
            await act(operator, new_id())


async def test_of_two_operators_who_end_each_other_one_is_left(
    auth: Auth, database: Database, make_principal: MakePrincipal
) -> None:
    """As they would in a quarrel, and in the order in which neither waits for the lock of the other."""

    async def end(who: Principal, other: Account) -> AppError | None:
        try:
            async with database.unit_of_work() as session:
                await operating.change_role(auth, session, who, other.id, role=Role.USER, client=HOME)
        except AppError as refusal:
            return refusal
        return None

    for _ in range(5):
        (first, one), (second, two) = await make_principal(), await make_principal()

        refusals = await asyncio.gather(end(one, second), end(two, first))

        assert [type(error) for error in refusals if error] == [OperatorRequired]
        roles = [(await user_of(database, account)).role for account in (first, second)]
        assert sorted(roles) == [Role.OPERATOR, Role.USER]


async def test_an_operator_who_was_disabled_meanwhile_does_nothing(
    auth: Auth, database: Database, operator: Principal, make_principal: MakePrincipal, make_account: MakeAccount
) -> None:
    account, (other, theirs) = await make_account(), await make_principal()
    async with database.unit_of_work() as session:
        await operating.disable(auth, session, operator, other.id, client=HOME)

    async with database.unit_of_work() as session:
        with pytest.raises(OperatorRequired):
            await operating.end_sessions(session, theirs, account.id, client=HOME)


async def test_sessions_of_an_account_are_ended_one_by_one_or_all(
    auth: Auth, database: Database, operator: Principal, make_account: MakeAccount, sign_in: SignIn,
    recognise: Recognise,
) -> None:  # fmt: skip
    account = await make_account()
    tokens = [(await sign_in(account)).access_token for _ in range(3)]
    first = await recognise(tokens[0])

    async with database.unit_of_work() as session:
        await operating.end_session(session, operator, account.id, session_id=first.session_id, client=HOME)
    with pytest.raises(SessionEnded):
        await recognise(tokens[0])
    await recognise(tokens[1])
    async with database.unit_of_work() as session:
        with pytest.raises(NotFound):
            await operating.end_session(session, operator, account.id, session_id=operator.session_id, client=HOME)
        assert await operating.end_sessions(session, operator, account.id, client=HOME) == 2


async def test_a_reset_link_is_a_job_of_its_account(
    auth: Auth, database: Database, operator: Principal, make_account: MakeAccount
) -> None:
    account = await make_account()

    async with database.unit_of_work() as session:
        await operating.send_reset_link(auth, session, operator, account.id, client=HOME)

    async with database.unit_of_work(read_only=True) as session:
        [job] = await session.scalars(select(Job).where(Job.kind == "account.link"))
    assert (job.owner_id, job.payload) == (account.id, {"user_id": str(account.id), "purpose": "reset_password"})


async def test_an_operator_is_told_that_no_more_links_are_sent(
    auth: Auth, database: Database, operator: Principal, make_account: MakeAccount
) -> None:
    account = await make_account()
    strict = replace(auth, throttle=Throttle(ThrottleSettings(), secret=b"of this test"))

    async def send() -> None:
        async with database.unit_of_work() as session:
            await operating.send_reset_link(strict, session, operator, account.id, client=HOME)

    for _ in range(3):
        await send()
    with pytest.raises(LinksSent):
        await send()
    async with database.unit_of_work() as session:
        await operating.disable(auth, session, operator, account.id, client=HOME)
    with pytest.raises(AccountDisabled):
        await send()


@pytest.mark.parametrize(
    ("typed", "beginning"),
    [
        ("Ada@Exam", "ada@exam"), (" ADA", "ada"), ("ada@example.co", "ada@example.co"), ("Ä", "ä"), ("", ""),
        ("a@Bücher.ex", "a@xn--bcher-kva.ex"), ("%_\x00", "%_\x00"),
    ],
)  # fmt: skip
def test_the_beginning_of_an_address_is_searched_as_addresses_are_stored(typed: str, beginning: str) -> None:
    assert beginning_of(typed) == beginning

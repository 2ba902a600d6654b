"""Turning one-time codes off, and new recovery codes."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from app_auth.auth import Auth
from app_auth.challenges import InvalidChallenge
from app_auth.client import NOBODY
from app_auth.errors import AccountNotFound, ReauthenticationRequired
from app_auth.features.totp import service
from app_auth.features.totp.errors import InvalidCode, TotpOff
from app_auth.features.totp.vault import Vault
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_db import Database
from app_db.models import AuditEvent, Job
from app_db.repositories.user_sessions import UserSessionRepository

from .conftest import Answer, AskedFor, Guarded, aged, events_of

type AsPrincipal = Callable[[Account], Awaitable[Principal]]


@pytest.fixture
async def bob(make_account: MakeAccount) -> Account:
    return await make_account(email="bob@example.test")


async def enrolled(auth: Auth, vault: Vault, database: Database, principal: Principal) -> service.Offer:
    async with database.unit_of_work() as session:
        return await service.enrol(auth, vault, session, principal)


async def test_removing_it_needs_a_fresh_sign_in(ada: Guarded, auth: Auth, database: Database) -> None:
    async with database.unit_of_work() as session:
        with pytest.raises(ReauthenticationRequired):
            await service.remove(auth, session, aged(ada.principal), client=NOBODY)


async def test_recovery_codes_need_a_fresh_sign_in(ada: Guarded, auth: Auth, vault: Vault, database: Database) -> None:
    principal = aged(ada.principal)
    async with database.unit_of_work() as session:
        with pytest.raises(ReauthenticationRequired):
            await service.renew_recovery_codes(auth, vault, session, principal, client=NOBODY)


async def test_new_recovery_codes_replace_all_others(
    ada: Guarded, auth: Auth, vault: Vault, database: Database, asked_for: AskedFor, answer: Answer
) -> None:
    async with database.unit_of_work() as session:
        shown = await service.renew_recovery_codes(auth, vault, session, ada.principal, client=NOBODY)
    required = await asked_for(ada.account)

    with pytest.raises(InvalidCode):
        await answer(required.challenge, ada.recovery[0])

    await answer(required.challenge, shown[0])
    assert "recovery_codes_renewed" in await events_of(database, ada.account)


async def test_what_is_off_has_no_recovery_codes_and_cannot_be_removed(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    await enrolled(auth, vault, database, principal)

    async with database.unit_of_work() as session:
        with pytest.raises(TotpOff):
            await service.renew_recovery_codes(auth, vault, session, principal, client=NOBODY)
        with pytest.raises(TotpOff):
            await service.remove(auth, session, principal, client=NOBODY)


async def test_once_removed_a_password_is_enough(
    ada: Guarded, auth: Auth, vault: Vault, database: Database, sign_in: SignIn
) -> None:
    async with database.unit_of_work() as session:
        await service.remove(auth, session, ada.principal, client=NOBODY)

    await sign_in(ada.account)
    async with database.unit_of_work() as session:
        assert await service.status(session, ada.principal) == service.Status(None, 0)
    assert (await events_of(database, ada.account))[-2:] == ["second_factor_removed", "signed_in"]


async def test_removing_it_ends_the_sign_ins_that_wait(
    ada: Guarded, auth: Auth, database: Database, asked_for: AskedFor, answer: Answer
) -> None:
    required, code = await asked_for(ada.account), ada.code()
    async with database.unit_of_work() as session:
        await service.remove(auth, session, ada.principal, client=NOBODY)

    with pytest.raises(InvalidChallenge):
        await answer(required.challenge, code)


async def test_an_operator_in_a_shell_removes_it_and_its_owner_hears_of_it(
    ada: Guarded, database: Database, sign_in: SignIn
) -> None:
    async with database.unit_of_work() as session:
        assert await service.remove_by_operator(session, email=ada.account.email)

    async with database.unit_of_work() as session:
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "second_factor_removed"))).one()
        told = [
            payload["what"] for payload in await session.scalars(select(Job.payload).where(Job.kind == "email.notice"))
        ]
        left = await UserSessionRepository(session).of_user(ada.account.id)
    assert row.details == {"by": "shell", "method": "totp", "sessions": 1}
    assert told[-1] == "second_factor_removed"
    assert left == []
    await sign_in(ada.account)


async def test_an_operator_removes_nothing_where_nothing_is(database: Database, bob: Account) -> None:
    async with database.unit_of_work() as session:
        assert not await service.remove_by_operator(session, email=bob.email)
        with pytest.raises(AccountNotFound):
            await service.remove_by_operator(session, email="nobody@example.test")

    assert await events_of(database, bob) == ["registered"]

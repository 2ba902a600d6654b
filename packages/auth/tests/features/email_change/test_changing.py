"""Changing an address: who may, what counts as proof, and what ends with it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app_auth import accounts, links, sessions
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidEmail,
    InvalidLink,
    ReauthenticationRequired,
    SessionEnded,
    Throttled,
)
from app_auth.features.email_change.errors import EmailUnchanged
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import PASSWORD, MakeAccount, SignIn, busy_hashing
from app_auth.throttle import Throttle
from app_db import Database
from app_db.models import AuditEvent, Job, OneTimeToken, TokenPurpose, User
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow
from packages.auth.tests.features.email_change.conftest import NEW, NEWER, OLD, Mover

type Recognise = Callable[..., Awaitable[Principal]]


def throttle(**limits: str) -> Throttle:
    """Return limits that nobody reaches, but these."""
    every = dict.fromkeys(ThrottleSettings.model_fields, "10000/s")
    return Throttle(ThrottleSettings(**(every | limits)), secret=b"of this test")


async def kinds_of(database: Database) -> list[str]:
    async with database.unit_of_work() as session:
        return sorted(await session.scalars(select(Job.kind)))


async def test_an_address_is_changed_by_the_link_that_was_mailed_to_the_new_one(
    mover: Mover, sign_in: SignIn, database: Database
) -> None:
    token = await mover.ask()
    assert await mover.email() == OLD

    await mover.confirm(token)

    await sign_in(replace(mover.account, email=NEW))
    with pytest.raises(InvalidCredentials):
        await sign_in(mover.account)
    async with database.unit_of_work() as session:
        events = select(AuditEvent.event).where(AuditEvent.event.startswith("email_change")).order_by(AuditEvent.id)
        assert (await session.scalars(events)).all() == ["email_change_requested", "email_changed"]
    assert {"email.change_link", "email.changed"} <= {*await kinds_of(database)}


async def test_changing_the_address_needs_a_fresh_sign_in(mover: Mover) -> None:
    late = replace(mover.principal, signed_in_at=mover.principal.signed_in_at - timedelta(minutes=6))

    with pytest.raises(ReauthenticationRequired):
        await replace(mover, principal=late).ask()


async def test_changes_of_address_are_throttled(mover: Mover) -> None:
    throttled = mover.throttled(throttle(forgot_ip="1/h"))
    await throttled.ask()

    with pytest.raises(Throttled):
        await throttled.ask()


async def test_nobody_is_flooded_with_changes_of_address(mover: Mover, database: Database) -> None:
    throttled = mover.throttled(throttle(mail_account="2/h"))

    for _ in range(4):
        await throttled.ask()

    assert (await kinds_of(database)).count("email.change_link") == 2


async def test_the_address_of_the_account_is_no_new_one(mover: Mover) -> None:
    with pytest.raises(EmailUnchanged):
        await mover.ask("ADA@Example.test")
    with pytest.raises(InvalidEmail):
        await mover.ask("ada")


async def test_a_session_that_was_just_ended_changes_no_address(mover: Mover, database: Database) -> None:
    async with database.unit_of_work() as session:
        await sessions.revoke_all(session, mover.principal, client=NOBODY)

    with pytest.raises(SessionEnded):
        await mover.ask()


async def test_a_new_change_ends_the_one_before(mover: Mover) -> None:
    first = await mover.ask()
    second = await mover.ask(NEWER)

    with pytest.raises(InvalidLink):
        await mover.confirm(first)
    await mover.confirm(second)

    assert await mover.email() == NEWER


async def test_a_forged_confirmation_is_refused(mover: Mover) -> None:
    token = await mover.ask()

    for forged in ("made up", f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}", f"{'0' * 32}{token[32:]}"):
        with pytest.raises(InvalidLink):
            await mover.confirm(forged)


async def test_a_confirmation_expires_after_a_day(mover: Mover) -> None:
    token = await mover.ask()

    with pytest.raises(InvalidLink):
        await mover.confirm(token, now=utcnow() + timedelta(hours=25))


async def test_a_confirmation_by_a_stranger_needs_the_password(mover: Mover) -> None:
    """Who gets the mail because of a typing error has the link, and no more."""
    token = await mover.ask()

    for wrong in ("", "not the password of ada"):
        with pytest.raises(InvalidCredentials):
            await mover.confirm(token, password=wrong)
    await mover.confirm(token, password=PASSWORD)

    assert await mover.email() == NEW


async def test_the_session_of_another_account_confirms_nothing(
    mover: Mover, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    eve = await recognise((await sign_in(await make_account())).access_token)
    token = await mover.ask()

    with pytest.raises(InvalidCredentials):
        await replace(mover, principal=eve).confirm(token)


async def test_confirmations_are_throttled(mover: Mover) -> None:
    throttled = mover.throttled(throttle(one_time_ip="1/h"))
    token = await mover.ask()
    with pytest.raises(InvalidCredentials):
        await throttled.confirm(token, password="wrong")  # a wrong one

    with pytest.raises(Throttled):
        await throttled.confirm(token)


async def test_a_confirmation_holds_no_connection_while_it_hashes(
    mover: Mover, narrow: Database, taken: asyncio.Event
) -> None:
    token = await mover.ask()

    async with busy_hashing(mover.auth.passwords):
        confirming = asyncio.create_task(replace(mover, database=narrow).confirm(token, password=PASSWORD))
        await taken.wait()
        async with narrow.unit_of_work() as session:
            assert await UserRepository(session).credentials_of(OLD)
        still_hashing = not confirming.done()
    await confirming

    assert still_hashing


async def test_of_two_confirmations_one_is_done(mover: Mover) -> None:
    token = await mover.ask()

    outcomes = await asyncio.gather(*(mover.confirm(token) for _ in range(5)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidLink) for outcome in outcomes) == 4


async def test_a_confirmation_is_for_the_address_before(mover: Mover, database: Database) -> None:
    token = await mover.ask()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email=NEWER, email_canonical=NEWER))

    with pytest.raises(InvalidLink):
        await mover.confirm(token)


async def test_a_new_address_ends_other_sessions(mover: Mover, sign_in: SignIn, recognise: Recognise) -> None:
    other = await sign_in(mover.account)

    await mover.change()

    with pytest.raises(SessionEnded):
        await recognise(other.access_token)
    assert (await recognise(mover.tokens.access_token)).email == NEW


async def test_a_new_address_kills_the_links_of_before(mover: Mover, database: Database) -> None:
    async with database.unit_of_work() as session:
        user = await UserRepository(session).locked(mover.account.id)
        assert user
        row = mover.auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        await OneTimeTokenRepository(session).replace(row)
        reset = mover.auth.one_time_tokens.derive(row)

    await mover.change()

    async with database.unit_of_work() as session:
        assert (await session.scalars(select(func.count()).select_from(OneTimeToken))).one() == 0
    with pytest.raises(InvalidLink):
        async with database.unit_of_work() as session:
            await links.reset_password(mover.auth, session, token=reset, new_password=PASSWORD, client=NOBODY)


@pytest.mark.parametrize("how", ["password", "reset", "disabled", "signed out"])
async def test_a_change_that_waits_ends_with_what_its_asker_may(mover: Mover, database: Database, how: str) -> None:
    """An attacker who asked for a change before the owner came back has a link that is worth nothing."""
    token = await mover.ask()
    async with database.unit_of_work() as session:
        match how:
            case "password":
                await accounts.change_password(
                    mover.auth, session, mover.principal, current_password=PASSWORD,
                    new_password="another horse battery 43", client=NOBODY,
                )  # fmt: skip  # of this test
            case "reset":
                user = await UserRepository(session).locked(mover.account.id)
                assert user
                row = mover.auth.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
                await OneTimeTokenRepository(session).replace(row)
                reset = mover.auth.one_time_tokens.derive(row)
                await session.commit()
                await links.reset_password(
                    mover.auth, session, token=reset, new_password="another horse battery 43", client=NOBODY
                )  # of this test
            case "disabled":
                await accounts.disable(session, email=OLD)
                await accounts.enable(session, email=OLD)
            case _:
                await sessions.revoke(session, mover.principal, mover.principal.session_id, client=NOBODY)

    with pytest.raises(InvalidLink):
        await mover.confirm(token, password=PASSWORD)


async def test_an_address_that_its_owner_has_proven_is_not_taken_away(mover: Mover, make_account: MakeAccount) -> None:
    token = await mover.ask()  # as for any address
    bob = await make_account(email=NEW)

    with pytest.raises(EmailTaken):
        await mover.confirm(token)

    assert await mover.email() == OLD
    assert bob.id != mover.account.id


async def test_an_unproven_account_does_not_keep_an_address(mover: Mover, auth: Auth, database: Database) -> None:
    async with database.unit_of_work() as session:
        await accounts.register(auth, session, email=NEW, password="chosen by eve 4242", client=NOBODY)

    await mover.change()

    assert await mover.email() == NEW
    async with database.unit_of_work() as session:
        assert (await session.scalars(select(User.id))).all() == [mover.account.id]
    assert "account.erase" in await kinds_of(database)


@pytest.mark.parametrize("values", [{"disabled_at": utcnow()}, {"role": "operator"}])
async def test_an_unproven_account_that_somebody_decided_about_stays(
    mover: Mover, auth: Auth, database: Database, values: dict[str, object]
) -> None:
    async with database.unit_of_work() as session:
        await accounts.register(auth, session, email=NEW, password="chosen by eve 4242", client=NOBODY)
        await session.execute(update(User).where(User.email == NEW).values(**values))

    with pytest.raises(EmailTaken):
        await mover.change()


async def test_without_verification_each_account_keeps_its_address(
    mover: Mover, auth: Auth, database: Database
) -> None:
    lax = replace(mover, auth=replace(auth, settings=auth.settings.model_copy(update={"verification": False})))
    async with database.unit_of_work() as session:
        await accounts.register(lax.auth, session, email=NEW, password="chosen by bob 4242", client=NOBODY)

    with pytest.raises(EmailTaken):
        await lax.change()


async def test_of_a_change_and_a_registration_at_once_one_account_has_the_address(
    mover: Mover, auth: Auth, database: Database
) -> None:
    async def register() -> None:
        async with database.unit_of_work() as session:
            await accounts.register(auth, session, email=NEW, password="chosen by eve 4242", client=NOBODY)

    token = await mover.ask()

    await asyncio.gather(register(), mover.confirm(token), register(), return_exceptions=True)

    async with database.unit_of_work() as session:
        holders = (await session.scalars(select(User.id).where(User.email_canonical == NEW))).all()
    assert len(holders) == 1


async def test_two_accounts_that_move_to_one_address_at_once_end_with_one(
    mover: Mover, make_account: MakeAccount, sign_in: SignIn, recognise: Recognise
) -> None:
    bob = await make_account(email="bob@example.test")
    tokens = await sign_in(bob)
    other = replace(mover, account=bob, principal=await recognise(tokens.access_token))
    first, second = await mover.ask(), await other.ask()

    outcomes = await asyncio.gather(mover.confirm(first), other.confirm(second), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EmailTaken", "NoneType"]

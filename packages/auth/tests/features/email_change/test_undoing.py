"""Undoing a change of address: nobody who changes it twice outruns its owner."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, delete, insert, select

from app_auth import accounts
from app_auth.auth import Auth
from app_auth.client import NOBODY
from app_auth.errors import EmailTaken, InvalidCredentials, InvalidLink, SessionEnded, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import MakeAccount, SignIn, busy_hashing
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.email_change.models import FormerEmail
from app_db.models import Job, User
from app_db.repositories.users import UserRepository
from app_db.types import new_id, utcnow
from packages.auth.tests.features.email_change.conftest import NEW, NEWER, OLD, Mover

type Recognise = Callable[..., Awaitable[Principal]]


async def test_an_undone_change_brings_the_address_back_and_asks_for_a_password(
    mover: Mover, database: Database
) -> None:
    token = await mover.change()

    await mover.undo(token)

    assert await mover.email() == OLD
    async with database.unit_of_work() as session:
        jobs = {job.kind: job.payload for job in await session.scalars(select(Job))}
    assert jobs["account.link"] == {"user_id": str(mover.account.id), "purpose": "reset_password"}
    assert jobs["email.notice"] == {"user_id": str(mover.account.id), "what": "email_change_undone"}


async def test_an_undone_change_ends_every_session(mover: Mover, recognise: Recognise) -> None:
    await mover.undo(await mover.change())

    with pytest.raises(SessionEnded):
        await recognise(mover.tokens.access_token)


async def test_an_undone_change_takes_the_password_away(mover: Mover, sign_in: SignIn) -> None:
    await mover.undo(await mover.change())

    with pytest.raises(InvalidCredentials):
        await sign_in(mover.account)


async def test_an_undone_change_leaves_no_way_in(mover: Mover, database: Database, ways_in: Table) -> None:
    token = await mover.change()
    async with database.unit_of_work() as session:
        await session.execute(insert(ways_in).values(id=new_id(), user_id=mover.account.id))

    await mover.undo(token)

    async with database.unit_of_work() as session:
        assert (await session.execute(select(ways_in))).all() == []


async def test_undoing_is_throttled(mover: Mover) -> None:
    limits = dict.fromkeys(ThrottleSettings.model_fields, "10000/s") | {"one_time_ip": "1/h"}
    throttled = mover.throttled(Throttle(ThrottleSettings(**limits), secret=b"of this test"))
    token = await mover.change()
    with pytest.raises(InvalidLink):
        await throttled.undo("made up")

    with pytest.raises(Throttled):
        await throttled.undo(token)


async def test_a_forged_undoing_is_refused(mover: Mover) -> None:
    token = await mover.change()

    for forged in ("made up", f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}", f"{'0' * 32}{token[32:]}"):
        with pytest.raises(InvalidLink):
            await mover.undo(forged)


async def test_the_token_of_a_confirmation_undoes_nothing(mover: Mover) -> None:
    token = await mover.ask()

    with pytest.raises(InvalidLink):
        await mover.undo(token)
    with pytest.raises(InvalidLink):
        await mover.confirm(await mover.change())


async def test_undoing_holds_no_connection_while_it_hashes(
    mover: Mover, narrow: Database, taken: asyncio.Event
) -> None:
    token = await mover.change()

    async with busy_hashing(mover.auth.passwords):
        undoing = asyncio.create_task(replace(mover, database=narrow).undo(token))
        await taken.wait()
        async with narrow.unit_of_work() as session:
            assert await UserRepository(session).credentials_of(NEW)
        still_hashing = not undoing.done()
    await undoing

    assert still_hashing


@pytest.mark.parametrize(("hours", "in_time"), [(71, True), (73, False)])
async def test_a_change_is_undone_for_72_hours(mover: Mover, *, hours: int, in_time: bool) -> None:
    token = await mover.change()
    now = utcnow() + timedelta(hours=hours)

    if in_time:
        await mover.undo(token, now=now)
    else:
        with pytest.raises(InvalidLink):
            await mover.undo(token, now=now)

    assert await mover.email() == (OLD if in_time else NEW)


async def test_a_change_is_undone_once(mover: Mover) -> None:
    token = await mover.change()

    outcomes = await asyncio.gather(*(mover.undo(token) for _ in range(4)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidLink) for outcome in outcomes) == 3


async def test_who_changes_an_address_twice_does_not_outrun_its_owner(mover: Mover) -> None:
    first = await mover.change(NEW)
    second = await mover.change(NEWER)

    await mover.undo(first)

    assert await mover.email() == OLD
    with pytest.raises(InvalidLink):
        await mover.undo(second)
    assert await mover.email() == OLD


async def test_the_link_of_a_later_change_leaves_that_of_the_first(mover: Mover) -> None:
    first = await mover.change(NEW)
    second = await mover.change(NEWER)

    await mover.undo(second)
    assert await mover.email() == NEW
    await mover.undo(first)

    assert await mover.email() == OLD


async def test_who_comes_back_to_an_address_leaves_nothing_to_undo(mover: Mover, database: Database) -> None:
    """Else a thief whose change the owner has undone by another change could bring the thief's address back."""
    first = await mover.change(NEW)
    await mover.change(OLD)

    with pytest.raises(InvalidLink):
        await mover.undo(first)
    with pytest.raises(InvalidLink):
        await mover.undo(await mover.undo_token(NEW))
    async with database.unit_of_work() as session:
        assert [row.can_return for row in await session.scalars(select(FormerEmail))] == [False]
    assert await mover.email() == OLD


async def test_the_address_of_a_disabled_account_does_not_come_back(mover: Mover, database: Database) -> None:
    token = await mover.change()
    async with database.unit_of_work() as session:
        await accounts.disable(session, email=NEW)

    with pytest.raises(InvalidLink):
        await mover.undo(token)
    async with database.unit_of_work() as session:
        await accounts.enable(session, email=NEW)
    await mover.undo(token)

    assert await mover.email() == OLD


async def test_the_address_of_a_deleted_account_does_not_come_back(mover: Mover, database: Database) -> None:
    token = await mover.change()
    async with database.unit_of_work() as session:
        await session.execute(delete(User))

    with pytest.raises(InvalidLink):
        await mover.undo(token)


async def test_registering_the_old_address_does_not_stop_its_owner(
    mover: Mover, auth: Auth, database: Database
) -> None:
    token = await mover.change()
    async with database.unit_of_work() as session:
        await accounts.register(auth, session, email=OLD, password="chosen by eve 4242", client=NOBODY)

    await mover.undo(token)

    assert await mover.email() == OLD


async def test_an_old_address_that_has_another_account_by_now_stays_there(
    mover: Mover, make_account: MakeAccount
) -> None:
    token = await mover.change()
    await make_account(email=OLD)

    with pytest.raises(EmailTaken):
        await mover.undo(token)

    assert await mover.email() == NEW


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chain=st.lists(st.sampled_from("bcde"), min_size=1, max_size=4), used=st.integers(0, 3))
async def test_each_former_address_brings_itself_back_and_ends_all_later_ones(
    auth: Auth,
    database: Database,
    make_account: MakeAccount,
    sign_in: SignIn,
    recognise: Recognise,
    chain: list[str],
    used: int,
) -> None:
    """Of any chain of changes: the first address always comes back, whatever was undone before."""
    ada = await make_account()
    tokens = await sign_in(ada)
    mover = Mover(auth, database, ada, await recognise(tokens.access_token), tokens)
    names = [name for name, _ in groupby(f"{each}-{ada.email}" for each in chain)]
    undoing = [await mover.change(name) for name in names]

    for token in dict.fromkeys([undoing[min(used, len(undoing) - 1)], undoing[0]]):
        with suppress(InvalidLink):  # the account had been at that address before, whose link is the older one
            await mover.undo(token)

    assert await mover.email() == ada.email
    async with database.unit_of_work() as session:
        assert (await session.scalars(select(FormerEmail).where(FormerEmail.user_id == ada.id))).all() == []

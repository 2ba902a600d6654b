"""Sign-ins that wait for a second factor, and what ends them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app_auth import accounts, links, sessions
from app_auth.admission import Proof, admit, complete
from app_auth.auth import Auth
from app_auth.challenges import InvalidChallenge, SecondFactorRequired, find_challenge
from app_auth.client import NOBODY
from app_auth.testing import Account, change_hash
from app_db import Database, Session
from app_db.models import AuditEvent, TokenPurpose, User, UserSession
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow

type Refused = Callable[[Callable[[Session], Awaitable[object]]], Awaitable[SecondFactorRequired]]


@pytest.fixture
async def challenge(keen: Auth, ada: Account, refused: Refused) -> str:
    """A challenge that waits for an answer."""
    required = await refused(lambda session: admit(keen, session, ada.id, proof=Proof.MAILED_LINK, client=NOBODY))
    return required.challenge


async def answer(auth: Auth, database: Database, challenge: str) -> UUID:
    """Answer a challenge as a feature does, and return the id of the session."""
    async with database.unit_of_work() as session:
        row = await find_challenge(auth, session, challenge)
        return (await complete(auth, session, row, how="pigeon", client=NOBODY)).id


async def sessions_of(database: Database, user_id: UUID) -> list[UserSession]:
    async with database.unit_of_work() as session:
        return await UserSessionRepository(session).of_user(user_id)


async def test_a_challenge_says_what_answers_it_and_until_when(keen: Auth, ada: Account, refused: Refused) -> None:
    now = utcnow().replace(microsecond=0)

    required = await refused(
        lambda session: sessions.sign_in(keen, session, email=ada.email, password=ada.password, client=NOBODY, now=now)
    )

    until = int((now + timedelta(minutes=5)).timestamp())
    assert required.members == {"challenge": required.challenge, "expires_at": until, "methods": ["pigeon"]}


async def test_a_challenge_becomes_the_session_that_it_stands_for(
    keen: Auth, database: Database, ada: Account, challenge: str
) -> None:
    session_id = await answer(keen, database, challenge)

    assert session_id == keen.one_time_tokens.parse(challenge)
    async with database.unit_of_work() as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.session_id == session_id).order_by("id"))
        told = [(row.event, row.details) for row in rows]
    assert told == [("sign_in_challenged", {"how": "mailed_link"}), ("signed_in", {"how": "pigeon"})]


async def test_a_challenge_becomes_one_session(keen: Auth, database: Database, ada: Account, challenge: str) -> None:
    outcomes = await asyncio.gather(*(answer(keen, database, challenge) for _ in range(8)), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, InvalidChallenge)]
    assert len(refused) == 7
    assert len(await sessions_of(database, ada.id)) == 1


async def test_a_changed_challenge_is_none(keen: Auth, database: Database, challenge: str) -> None:
    other = "A" if challenge[-10] != "A" else "B"
    changed = [f"{challenge}A", f"{'0' * 32}{challenge[32:]}", f"{challenge[:-10]}{other}{challenge[-9:]}", "", "é"]

    for text in changed:
        with pytest.raises(InvalidChallenge):
            await answer(keen, database, text)


async def test_a_link_is_no_challenge(keen: Auth, database: Database, ada: Account) -> None:
    async with database.unit_of_work() as session:
        user = await session.get_one(User, ada.id)
        link = keen.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        session.add(link)

    with pytest.raises(InvalidChallenge):
        await answer(keen, database, keen.one_time_tokens.derive(link))


async def test_a_challenge_that_waited_for_five_minutes_has_ended(
    keen: Auth, database: Database, challenge: str
) -> None:
    late = utcnow() + timedelta(minutes=5, seconds=1)

    async with database.unit_of_work() as session:
        with pytest.raises(InvalidChallenge):
            await find_challenge(keen, session, challenge, now=late)


async def test_a_new_password_ends_the_sign_ins_that_wait(
    keen: Auth, database: Database, ada: Account, challenge: str
) -> None:
    async with database.unit_of_work() as session:
        user = await session.get_one(User, ada.id)
        link = keen.one_time_tokens.issue(user, TokenPurpose.RESET_PASSWORD, now=utcnow())
        session.add(link)
    token, new = keen.one_time_tokens.derive(link), "another horse battery 43"

    async with database.unit_of_work() as session:
        await links.reset_password(keen, session, token=token, new_password=new, client=NOBODY)

    with pytest.raises(InvalidChallenge):
        await answer(keen, database, challenge)


async def test_disabling_an_account_ends_the_sign_ins_that_wait(
    keen: Auth, database: Database, ada: Account, challenge: str
) -> None:
    async with database.unit_of_work() as session:
        await accounts.disable(session, email=ada.email)

    with pytest.raises(InvalidChallenge):
        await answer(keen, database, challenge)


@pytest.mark.parametrize("change", [{"disabled_at": utcnow()}, {"email_canonical": "x@y.test"}], ids=["off", "moved"])
async def test_an_account_that_changes_while_a_challenge_is_answered_stays_closed(
    keen: Auth, database: Database, ada: Account, challenge: str, change: dict[str, object]
) -> None:
    async with database.unit_of_work() as session:
        row = await find_challenge(keen, session, challenge)
        async with database.unit_of_work() as other:
            await other.execute(update(User).where(User.id == ada.id).values(change))

        with pytest.raises(InvalidChallenge):
            await complete(keen, session, row, how="pigeon", client=NOBODY)


async def test_a_password_that_is_changed_before_the_challenge_is_stored_leaves_none(
    keen: Auth, database: Database, ada: Account
) -> None:
    with pytest.raises(SecondFactorRequired) as caught:
        async with database.unit_of_work() as session:
            await admit(keen, session, ada.id, proof=Proof.PASSWORD, client=NOBODY)
    await change_hash(database, ada)

    async with database.unit_of_work() as session:
        await caught.value.aftermath(session)

    with pytest.raises(InvalidChallenge):
        await answer(keen, database, caught.value.challenge)

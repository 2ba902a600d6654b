"""All ways into an account: what lets in, what asks for a second factor, and what ends a sign-in that waits for one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import bcrypt
import pytest
from sqlalchemy import select, update

from app_auth import accounts, sessions
from app_auth.admission import TWO_FACTORS, Proof, SignInRefused, admit
from app_auth.auth import SECOND_FACTORS, Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import NOBODY
from app_auth.errors import EmailNotVerified, InvalidCredentials
from app_auth.testing import PASSWORD, Account, MakeAccount
from app_db import Database, Session
from app_db.models import AuditEvent, OneTimeToken, TokenPurpose, User, UserSession
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow

type Refused = Callable[[Callable[[Session], Awaitable[object]]], Awaitable[SecondFactorRequired]]


async def sessions_of(database: Database, user_id: UUID) -> list[UserSession]:
    async with database.unit_of_work() as session:
        return await UserSessionRepository(session).of_user(user_id)


@pytest.mark.parametrize("proof", [proof for proof in Proof if proof not in TWO_FACTORS])
async def test_no_first_proof_alone_opens_an_account_with_a_second_factor(
    keen: Auth, ada: Account, database: Database, refused: Refused, proof: Proof
) -> None:
    required = await refused(lambda session: admit(keen, session, ada.id, proof=proof, client=NOBODY))

    assert required.methods == ("pigeon",)
    assert await sessions_of(database, ada.id) == []


async def test_what_is_two_factors_by_itself_opens_it(keen: Auth, ada: Account, database: Database) -> None:
    async with database.unit_of_work() as session:
        begun = await admit(keen, session, ada.id, proof=Proof.PASSKEY, client=NOBODY)

    assert [one.id for one in await sessions_of(database, ada.id)] == [begun.id]


async def test_a_second_factor_whose_feature_was_removed_locks_nobody_out(
    auth: Auth, ada: Account, database: Database
) -> None:
    assert "pigeon" not in SECOND_FACTORS

    async with database.unit_of_work() as session:
        await admit(auth, session, ada.id, proof=Proof.MAILED_LINK, client=NOBODY)

    assert len(await sessions_of(database, ada.id)) == 1


async def test_a_second_factor_that_is_turned_on_while_somebody_signs_in_counts(
    keen: Auth, database: Database, make_account: MakeAccount
) -> None:
    bob = await make_account()

    async def sign_in() -> None:
        async with database.unit_of_work() as session:
            await admit(keen, session, bob.id, proof=Proof.PASSWORD, client=NOBODY)

    async with database.unit_of_work() as session:
        await UserRepository(session).lock(bob.id)
        signing_in = asyncio.create_task(sign_in())
        await asyncio.sleep(0.1)  # it waits for the lock
        await session.execute(update(User).where(User.id == bob.id).values(second_factors=["pigeon"]))

    with pytest.raises(SecondFactorRequired):
        await signing_in


async def test_an_outdated_hash_is_replaced_although_a_second_factor_is_asked_for(
    keen: Auth, database: Database, ada: Account, refused: Refused
) -> None:
    raw = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(password_hash=raw))

    await refused(lambda session: sessions.sign_in(keen, session, email=ada.email, password=PASSWORD, client=NOBODY))

    async with database.unit_of_work() as session:
        stored = await UserRepository(session).password_hash(ada.id)
    assert stored is not None
    assert stored.startswith("bcrypt-sha384$")


async def test_a_wrong_password_is_asked_for_no_second_factor(keen: Auth, database: Database, ada: Account) -> None:
    async with database.unit_of_work() as session:
        with pytest.raises(InvalidCredentials):
            await sessions.sign_in(keen, session, email=ada.email, password="another one", client=NOBODY)


async def test_a_disabled_account_is_refused_whatever_the_proof_and_that_is_audited(
    keen: Auth, database: Database, ada: Account
) -> None:
    async with database.unit_of_work() as session:
        await accounts.disable(session, email=ada.email)

    with pytest.raises(SignInRefused) as caught:
        async with database.unit_of_work() as session:
            await admit(keen, session, ada.id, proof=Proof.PASSKEY, client=NOBODY)

    async with database.unit_of_work() as session:
        await caught.value.aftermath(session)
        await session.flush()
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "sign_in_failed"))).one()
    assert (row.user_id, row.details) == (ada.id, {"because": "disabled"})


async def test_an_unverified_account_is_refused_whatever_the_proof(
    keen: Auth, database: Database, ada: Account
) -> None:
    strict = replace(keen, settings=keen.settings.model_copy(update={"verification": True}))
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_verified_at=None))

    async with database.unit_of_work() as session:
        with pytest.raises(EmailNotVerified):
            await admit(strict, session, ada.id, proof=Proof.PASSKEY, client=NOBODY)


async def test_what_a_proof_leaves_to_do_is_done_beside_the_challenge(
    keen: Auth, database: Database, ada: Account, refused: Refused
) -> None:
    async with database.unit_of_work() as session:
        user = await session.get_one(User, ada.id)
        link = keen.one_time_tokens.issue(user, TokenPurpose.VERIFY_EMAIL, now=utcnow())
        session.add(link)

    async def follow(session: Session) -> None:
        try:
            await admit(keen, session, ada.id, proof=Proof.MAILED_LINK, client=NOBODY)
        except SecondFactorRequired as required:
            required.keep(lambda kept: OneTimeTokenRepository(kept).use(link.id))
            raise

    await refused(follow)

    async with database.unit_of_work() as session:
        left = (await session.scalars(select(OneTimeToken.purpose))).all()
    assert left == [TokenPurpose.SECOND_FACTOR]

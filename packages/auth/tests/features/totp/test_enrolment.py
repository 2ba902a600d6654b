"""Turning one-time codes on and off."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from pyotp import TOTP
from sqlalchemy import select, update

from app_auth import sessions
from app_auth.auth import SECOND_FACTORS, Auth
from app_auth.client import NOBODY
from app_auth.errors import ReauthenticationRequired, SessionEnded, Throttled
from app_auth.features.totp import codes, service
from app_auth.features.totp.errors import InvalidCode, TotpOff, TotpOn, TotpUnavailable
from app_auth.features.totp.vault import Vault
from app_auth.limits import ThrottleSettings
from app_auth.principal import Principal
from app_auth.testing import Account, MakeAccount, SignIn
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.totp.models import TotpRecoveryCode, TotpSecret
from app_db.models import Job, User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow

from .conftest import Guarded, aged, events_of

type AsPrincipal = Callable[[Account], Awaitable[Principal]]


@pytest.fixture
async def bob(make_account: MakeAccount) -> Account:
    return await make_account(email="bob@example.test")


async def enrolled(auth: Auth, vault: Vault, database: Database, principal: Principal) -> service.Offer:
    async with database.unit_of_work() as session:
        return await service.enrol(auth, vault, session, principal)


async def confirmed(auth: Auth, vault: Vault, database: Database, principal: Principal, code: str) -> list[str]:
    async with database.unit_of_work() as session:
        return await service.confirm(auth, vault, session, principal, code=code, client=NOBODY)


def code_of(offer: service.Offer) -> str:
    return TOTP(offer.secret).now()


def test_the_name_of_the_factor_is_that_of_its_folder() -> None:
    assert service.NAME in SECOND_FACTORS


async def test_an_offer_is_what_generators_read(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    offer = await enrolled(auth, vault, database, await as_principal(bob))

    uri = urlsplit(offer.uri)
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/groundwork:bob%40example.test")
    assert parse_qs(uri.query) == {"secret": [offer.secret], "issuer": ["groundwork"]}
    assert len(offer.secret) == 32


async def test_a_generator_counts_after_its_first_code(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal, sign_in: SignIn
) -> None:
    principal = await as_principal(bob)
    await enrolled(auth, vault, database, principal)
    with pytest.raises(InvalidCode):
        await confirmed(auth, vault, database, principal, "wrong")

    await sign_in(bob)  # nothing is asked for


async def test_turning_it_on_is_audited_and_told_and_shows_ten_recovery_codes(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)

    shown = await confirmed(auth, vault, database, principal, code_of(offer))

    async with database.unit_of_work() as session:
        status = await service.status(session, principal)
        told = (await session.scalars(select(Job.payload).where(Job.kind == "email.notice"))).one()
    assert len({*shown}) == status.recovery_codes == 10
    assert status.since is not None
    assert await events_of(database, bob) == ["registered", "signed_in", "second_factor_added"]
    assert told["what"] == "second_factor_added"


async def test_turning_it_on_ends_other_sessions(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    await as_principal(bob)
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)

    await confirmed(auth, vault, database, principal, code_of(offer))

    async with database.unit_of_work() as session:
        left = await UserSessionRepository(session).of_user(bob.id)
    assert [one.id for one in left] == [principal.session_id]


async def test_the_database_holds_neither_the_secret_nor_a_recovery_code(ada: Guarded, database: Database) -> None:
    async with database.unit_of_work() as session:
        sealed = (await session.scalars(select(TotpSecret.sealed))).one()
        digests = (await session.scalars(select(TotpRecoveryCode.digest))).all()

    assert ada.secret not in sealed
    assert len(digests) == 10
    assert not any(
        code.encode() in digest or codes.typed(code).encode() in digest for code in ada.recovery for digest in digests
    )


async def test_a_new_offer_replaces_the_one_before(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    first, second = await enrolled(auth, vault, database, principal), await enrolled(auth, vault, database, principal)

    with pytest.raises(InvalidCode):
        await confirmed(auth, vault, database, principal, code_of(first))

    assert await confirmed(auth, vault, database, principal, code_of(second))


async def test_an_offer_waits_for_a_quarter_of_an_hour(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)
    async with database.unit_of_work() as session:
        await session.execute(update(TotpSecret).values(created_at=utcnow() - timedelta(minutes=16)))

    with pytest.raises(TotpOff):
        await confirmed(auth, vault, database, principal, code_of(offer))


async def test_what_is_on_is_neither_offered_nor_confirmed_again(
    ada: Guarded, auth: Auth, vault: Vault, database: Database
) -> None:
    with pytest.raises(TotpOn):
        await enrolled(auth, vault, database, ada.principal)
    with pytest.raises(TotpOff):
        await confirmed(auth, vault, database, ada.principal, ada.code())


async def test_of_two_confirmations_at_once_one_shows_recovery_codes(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    code = code_of(await enrolled(auth, vault, database, principal))

    outcomes = await asyncio.gather(
        *(confirmed(auth, vault, database, principal, code) for _ in range(4)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["TotpOff"] * 3 + ["list"]


async def test_guesses_at_a_first_code_are_throttled(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    slow = replace(auth, throttle=Throttle(ThrottleSettings(), secret=b"of this test"))
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)
    for _ in range(5):
        with pytest.raises(InvalidCode):
            await confirmed(slow, vault, database, principal, "wrong")

    with pytest.raises(Throttled):
        await confirmed(slow, vault, database, principal, code_of(offer))


async def test_a_second_factor_needs_a_fresh_sign_in(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    with pytest.raises(ReauthenticationRequired):
        await enrolled(auth, vault, database, aged(await as_principal(bob)))


async def test_without_keys_nothing_is_offered(
    auth: Auth, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    with pytest.raises(TotpUnavailable):
        await enrolled(auth, Vault(None), database, await as_principal(bob))


async def test_a_session_that_was_ended_turns_nothing_on(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)
    async with database.unit_of_work() as session:
        await sessions.sign_out_everywhere(session, email=bob.email)

    with pytest.raises(SessionEnded):
        await confirmed(auth, vault, database, principal, code_of(offer))

    async with database.unit_of_work() as session:
        assert (await session.scalars(select(User.second_factors).where(User.id == bob.id))).one() == []


async def test_what_is_offered_is_shown_to_a_fresh_sign_in(
    auth: Auth, vault: Vault, database: Database, bob: Account, as_principal: AsPrincipal
) -> None:
    principal = await as_principal(bob)
    offer = await enrolled(auth, vault, database, principal)

    async with database.unit_of_work() as session:
        assert await service.offered(auth, vault, session, principal) == offer
        with pytest.raises(ReauthenticationRequired):
            await service.offered(auth, vault, session, aged(principal))

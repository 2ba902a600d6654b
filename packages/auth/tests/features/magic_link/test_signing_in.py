"""Signing in by a mailed link: in the browser that asked, once, soon, and past no second factor."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from app_auth import accounts
from app_auth.admission import SignInRefused
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import NOBODY
from app_auth.errors import EmailNotVerified, InvalidEmail, InvalidLink, Throttled
from app_auth.features.magic_link import service
from app_auth.features.magic_link.errors import AskedElsewhere, SignInByLinkOff
from app_auth.features.magic_link.tokens import LIFE, signing_in
from app_auth.limits import ThrottleSettings
from app_auth.testing import Account, MakeAccount
from app_auth.throttle import Throttle
from app_db import Database, Session
from app_db.features.magic_link.models import SignInLink
from app_db.models import AuditEvent, Job, User, UserSession
from app_db.types import new_id, utcnow

type Refused = Callable[[Callable[[Session], Awaitable[object]]], Awaitable[SecondFactorRequired]]


def allowing(auth: Auth, **limits: str) -> Auth:
    """Return an Auth that allows sign-ins by a link, with limits that nobody reaches, but these."""
    every = dict.fromkeys(ThrottleSettings.model_fields, "10000/s") | limits
    settings = auth.settings.model_copy(update={"magic_link": True})
    return replace(auth, settings=settings, throttle=Throttle(ThrottleSettings(**every), secret=b"of this test"))


@dataclass(frozen=True, slots=True)
class Asker:
    """Who signs in by a link."""

    auth: Auth
    database: Database

    async def ask(self, email: str) -> tuple[str, str]:
        """Ask for a link; return the token that the worker would mail, and the secret of the browser."""
        secret = await self.only_ask(email)
        async with self.database.unit_of_work() as session:
            job = (await session.scalars(select(Job).where(Job.kind == "account.sign_in_link"))).all()[-1]
            user = (await session.scalars(select(User).where(User.email == email))).one()
            link = SignInLink(
                id=new_id(), user_id=user.id, email_canonical=user.email_canonical,
                binding_digest=job.payload["binding_digest"], key_id=self.auth.one_time_tokens.active_key_id,
                expires_at=utcnow() + LIFE,
            )  # fmt: skip
            session.add(link)
            return signing_in(self.auth.one_time_tokens, link), secret

    async def only_ask(self, email: str) -> str:
        async with self.database.unit_of_work() as session:
            return await service.request(self.auth, session, email=email, client=NOBODY)

    async def open(self, token: str, secret: str, *, now: datetime | None = None) -> UserSession:
        """Open a link."""
        async with self.database.unit_of_work() as session:
            return await service.redeem(self.auth, session, token=token, secret=secret, client=NOBODY, now=now)


@pytest.fixture
def asker(auth: Auth, database: Database) -> Asker:
    return Asker(allowing(auth), database)


@pytest.fixture
async def ada(make_account: MakeAccount) -> Account:
    return await make_account(email="ada@example.test")


async def test_a_link_signs_in_who_asked_for_it(asker: Asker, ada: Account, session: Session) -> None:
    begun = await asker.open(*await asker.ask(ada.email))

    assert begun.user_id == ada.id
    signed_in = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "signed_in"))).one()
    assert signed_in.details == {"how": "mailed_link"}


async def test_a_link_signs_in_only_where_it_was_asked_for(asker: Asker, ada: Account) -> None:
    """Else whoever asks for a link to the address of another waits until that one opens it, or forwards it."""
    token, secret = await asker.ask(ada.email)
    _, of_another = await asker.ask(ada.email)

    for wrong in ("", "x", of_another, f"{secret}x", "\udcff"):
        with pytest.raises(AskedElsewhere):
            await asker.open(token, wrong)
    await asker.open(token, secret)


async def test_of_parallel_sign_ins_by_one_link_one_is_done(asker: Asker, ada: Account) -> None:
    token, secret = await asker.ask(ada.email)

    outcomes = await asyncio.gather(*(asker.open(token, secret) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(outcome, UserSession) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InvalidLink) for outcome in outcomes) == 4


async def test_a_forged_link_signs_nobody_in(asker: Asker, ada: Account) -> None:
    token, secret = await asker.ask(ada.email)

    for forged in ("made up", f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}", f"{'0' * 32}{token[32:]}"):
        with pytest.raises(InvalidLink):
            await asker.open(forged, secret)


async def test_a_link_to_sign_in_lives_for_a_quarter_of_an_hour(asker: Asker, ada: Account) -> None:
    token, secret = await asker.ask(ada.email)

    with pytest.raises(InvalidLink):
        await asker.open(token, secret, now=utcnow() + timedelta(minutes=16))


async def test_every_address_is_answered_alike(asker: Asker, ada: Account, database: Database) -> None:
    secrets = [await asker.only_ask(email) for email in (ada.email, "eve@example.test")]

    assert [len(secret) for secret in secrets] == [43, 43]
    async with database.unit_of_work() as session:
        jobs = (await session.scalars(select(Job).where(Job.kind == "account.sign_in_link"))).all()
        asked = select(AuditEvent.user_id).where(AuditEvent.event == "sign_in_link_requested").order_by(AuditEvent.id)
        assert (await session.scalars(asked)).all() == [ada.id, None]
    assert [(job.payload["user_id"], job.owner_id) for job in jobs] == [(str(ada.id), None), (None, None)]
    assert not any(secret in str(job.payload) for job in jobs for secret in secrets)


async def test_no_link_to_sign_in_is_sent_to_what_is_no_address(asker: Asker) -> None:
    with pytest.raises(InvalidEmail):
        await asker.only_ask("ada")


@pytest.mark.parametrize("how", ["disabled", "password", "address"])
async def test_a_link_to_sign_in_ends_with_the_change_of_the_account(
    asker: Asker, ada: Account, database: Database, how: str
) -> None:
    token, secret = await asker.ask(ada.email)
    async with database.unit_of_work() as session:
        match how:
            case "disabled":
                await session.execute(update(User).values(disabled_at=utcnow()))
            case "password":
                await accounts.disable(session, email=ada.email)  # kills all links, as a password does
                await accounts.enable(session, email=ada.email)
            case _:
                await session.execute(update(SignInLink).values(email_canonical="other@example.test"))

    with pytest.raises(SignInRefused if how == "disabled" else InvalidLink):
        await asker.open(token, secret)


async def test_a_link_does_not_prove_an_address_to_the_settings(asker: Asker, ada: Account, database: Database) -> None:
    strict = replace(asker.auth, settings=asker.auth.settings.model_copy(update={"verification": True}))
    token, secret = await asker.ask(ada.email)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(email_verified_at=None))

    with pytest.raises(EmailNotVerified):
        await replace(asker, auth=strict).open(token, secret)


async def test_a_link_is_used_up_by_the_challenge_too(
    asker: Asker, ada: Account, database: Database, refused: Refused, keen: Auth
) -> None:
    strict = replace(asker, auth=replace(asker.auth, second_factors=keen.second_factors))
    token, secret = await strict.ask(ada.email)
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(second_factors=[*keen.second_factors]))

    async def open_it(session: Session) -> object:
        return await service.redeem(strict.auth, session, token=token, secret=secret, client=NOBODY)

    required = await refused(open_it)

    assert required.challenge
    async with database.unit_of_work() as session:
        assert (await session.scalars(select(func.count()).select_from(SignInLink))).one() == 0
    with pytest.raises(InvalidLink):
        await strict.open(token, secret)


async def test_nobody_signs_in_by_a_link_where_it_is_off(auth: Auth, database: Database, ada: Account) -> None:
    with pytest.raises(SignInByLinkOff):
        await Asker(auth, database).only_ask(ada.email)


async def test_a_link_of_before_signs_nobody_in_where_it_is_off(asker: Asker, auth: Auth, ada: Account) -> None:
    token, secret = await asker.ask(ada.email)

    with pytest.raises(SignInByLinkOff):
        await replace(asker, auth=auth).open(token, secret)


async def test_requests_for_a_link_to_sign_in_are_throttled(asker: Asker, ada: Account) -> None:
    throttled = replace(asker, auth=allowing(asker.auth, forgot_ip="1/h"))
    await throttled.only_ask(ada.email)

    with pytest.raises(Throttled):
        await throttled.only_ask(ada.email)


async def test_nobody_is_flooded_with_links_to_sign_in(asker: Asker, ada: Account, database: Database) -> None:
    throttled = replace(asker, auth=allowing(asker.auth, mail_account="2/h"))

    for _ in range(4):
        await throttled.only_ask(ada.email)

    async with database.unit_of_work() as session:
        jobs = select(func.count()).select_from(Job).where(Job.kind == "account.sign_in_link")
        assert (await session.scalars(jobs)).one() == 2


async def test_sign_ins_by_a_link_are_throttled(asker: Asker) -> None:
    throttled = replace(asker, auth=allowing(asker.auth, one_time_ip="1/h"))
    with pytest.raises(InvalidLink):
        await throttled.open("made up", "")

    with pytest.raises(Throttled):
        await throttled.open("made up", "")

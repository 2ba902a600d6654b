"""Answering the challenge of a sign-in."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app_auth import accounts
from app_auth.auth import Auth
from app_auth.challenges import InvalidChallenge
from app_auth.client import NOBODY
from app_auth.errors import Throttled
from app_auth.features.totp import codes, service
from app_auth.features.totp.errors import InvalidCode, TotpUnavailable
from app_auth.features.totp.vault import Vault
from app_auth.limits import ThrottleSettings
from app_auth.testing import new_key
from app_auth.throttle import Throttle
from app_db import Database
from app_db.features.totp.models import TotpSecret
from app_db.models import AuditEvent, Job, UserSession
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow
from packages.auth.tests.waits import until_it_waits

from .conftest import Answer, AskedFor, Guard, Guarded


async def sessions_of(database: Database, guarded: Guarded) -> list[UserSession]:
    async with database.unit_of_work() as session:
        found = await UserSessionRepository(session).of_user(guarded.account.id)
        return [one for one in found if one.id != guarded.principal.session_id]


async def test_a_code_answers_the_challenge(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database
) -> None:
    required = await asked_for(ada.account)

    begun = await answer(required.challenge, ada.code())

    assert required.methods == ("totp",)
    assert [one.id for one in await sessions_of(database, ada)] == [begun.id]


@pytest.mark.parametrize("steps", [1, -1], ids=["fast", "slow"])
async def test_the_clock_of_a_generator_may_be_a_step_off(
    guard: Guard, asked_for: AskedFor, answer: Answer, steps: int
) -> None:
    ada, now = await guard(), utcnow() + timedelta(minutes=2)  # beyond the code that confirmed it
    required = await asked_for(ada.account)

    await answer(required.challenge, ada.code(now, steps=steps), now=now)


@pytest.mark.parametrize("steps", [2, -2], ids=["fast", "slow"])
async def test_it_may_be_no_more_than_that_off(guard: Guard, asked_for: AskedFor, answer: Answer, steps: int) -> None:
    ada, now = await guard(), utcnow() + timedelta(minutes=2)
    required = await asked_for(ada.account)

    with pytest.raises(InvalidCode):
        await answer(required.challenge, ada.code(now, steps=steps), now=now)


@pytest.mark.parametrize("form", ["{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}", " {0}\n"])
async def test_a_code_is_taken_as_people_type_it(ada: Guarded, asked_for: AskedFor, answer: Answer, form: str) -> None:
    required = await asked_for(ada.account)

    await answer(required.challenge, form.format(ada.code()))


@pytest.mark.parametrize("code", ["", "000", "0" * 7, "abcdef", "-1", "\0", "١٢٣٤٥٦", "e" * 64, "aaaa-aaaa-aaaa-aaaa"])
async def test_a_wrong_code_opens_nothing(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database, code: str
) -> None:
    required = await asked_for(ada.account)

    with pytest.raises(InvalidCode):
        await answer(required.challenge, code)

    assert await sessions_of(database, ada) == []
    await answer(required.challenge, ada.code())  # a mistake costs no sign-in


async def test_a_wrong_code_is_audited(ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database) -> None:
    required = await asked_for(ada.account)

    with pytest.raises(InvalidCode):
        await answer(required.challenge, "nothing")

    async with database.unit_of_work() as session:
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "second_factor_failed"))).one()
    assert (row.user_id, row.details) == (ada.account.id, {})


async def test_a_code_works_once(ada: Guarded, asked_for: AskedFor, answer: Answer) -> None:
    first, second, code = await asked_for(ada.account), await asked_for(ada.account), ada.code()
    await answer(first.challenge, code)

    with pytest.raises(InvalidCode):
        await answer(second.challenge, code)


async def test_a_code_of_an_earlier_step_is_used_up_by_a_later_one(
    ada: Guarded, asked_for: AskedFor, answer: Answer
) -> None:
    now = utcnow() + timedelta(minutes=2)
    first, second = await asked_for(ada.account), await asked_for(ada.account)
    await answer(first.challenge, ada.code(now), now=now)

    with pytest.raises(InvalidCode):
        await answer(second.challenge, ada.code(now, steps=-1), now=now)


async def test_the_code_that_turned_it_on_is_used_up(ada: Guarded, asked_for: AskedFor, answer: Answer) -> None:
    required = await asked_for(ada.account)

    with pytest.raises(InvalidCode):
        await answer(required.challenge, ada.first)


async def test_of_one_code_at_many_challenges_at_once_one_is_answered(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database
) -> None:
    challenges = [(await asked_for(ada.account)).challenge for _ in range(6)]
    code = ada.code()

    outcomes = await asyncio.gather(*(answer(each, code) for each in challenges), return_exceptions=True)

    assert len([outcome for outcome in outcomes if isinstance(outcome, UserSession)]) == 1
    assert len(await sessions_of(database, ada)) == 1


async def test_a_clock_that_was_set_back_locks_nobody_out(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database
) -> None:
    later = codes.step_at(utcnow() + timedelta(days=1))
    async with database.unit_of_work() as session:
        await session.execute(update(TotpSecret).values(last_step=later))

    await answer((await asked_for(ada.account)).challenge, ada.code())


async def test_a_recovery_code_works_once(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database
) -> None:
    first, second, lost = await asked_for(ada.account), await asked_for(ada.account), ada.recovery[3]
    await answer(first.challenge, lost.upper().replace("-", " "))

    with pytest.raises(InvalidCode):
        await answer(second.challenge, lost)

    async with database.unit_of_work() as session:
        told = (await session.scalars(select(Job.payload).where(Job.kind == "email.notice"))).all()
        how = (
            await session.scalars(select(AuditEvent.details["how"].astext).where(AuditEvent.event == "signed_in"))
        ).all()
    assert [payload["what"] for payload in told] == ["second_factor_added", "recovery_code_used"]
    assert how == ["password", "recovery_code"]


async def test_of_one_recovery_code_at_many_challenges_at_once_one_is_answered(
    ada: Guarded, asked_for: AskedFor, answer: Answer
) -> None:
    challenges = [(await asked_for(ada.account)).challenge for _ in range(6)]

    outcomes = await asyncio.gather(*(answer(each, ada.recovery[0]) for each in challenges), return_exceptions=True)

    assert len([outcome for outcome in outcomes if isinstance(outcome, UserSession)]) == 1


async def test_codes_of_another_account_are_none(
    ada: Guarded, guard: Guard, asked_for: AskedFor, answer: Answer
) -> None:
    eve = await guard()
    required = await asked_for(ada.account)

    for code in (eve.code(), eve.recovery[0]):
        with pytest.raises(InvalidCode):
            await answer(required.challenge, code)


async def test_an_answer_that_waits_while_the_factor_is_removed_opens_nothing(
    ada: Guarded, asked_for: AskedFor, answer: Answer, auth: Auth, database: Database
) -> None:
    required = await asked_for(ada.account)

    async with database.unit_of_work() as session:
        await service.remove(auth, session, ada.principal, client=NOBODY)
        answering = asyncio.create_task(answer(required.challenge, ada.code()))
        await until_it_waits(answering, session)

    with pytest.raises(InvalidCode):
        await answering
    assert await sessions_of(database, ada) == []


async def test_guesses_at_codes_are_throttled(ada: Guarded, asked_for: AskedFor, answer: Answer, auth: Auth) -> None:
    slow = replace(auth, throttle=Throttle(ThrottleSettings(one_time_ip="1000/5m"), secret=b"of this test"))
    required = await asked_for(ada.account)
    for _ in range(5):
        with pytest.raises(InvalidCode):
            await answer(required.challenge, "wrong", auth=slow)

    with pytest.raises(Throttled):
        await answer(required.challenge, ada.code(), auth=slow)

    another = await asked_for(ada.account)
    for _ in range(5):
        with pytest.raises(InvalidCode):
            await answer(another.challenge, "wrong", auth=slow)
    with pytest.raises(Throttled):  # the account, with a challenge that nobody has guessed at
        await answer((await asked_for(ada.account)).challenge, ada.code(), auth=slow)


async def test_guesses_at_once_are_throttled(ada: Guarded, asked_for: AskedFor, answer: Answer, auth: Auth) -> None:
    slow = replace(auth, throttle=Throttle(ThrottleSettings(one_time_ip="1000/5m"), secret=b"of this test"))
    required = await asked_for(ada.account)

    outcomes = await asyncio.gather(
        *(answer(required.challenge, "wrong", auth=slow) for _ in range(20)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidCode"] * 5 + ["Throttled"] * 15


async def test_right_codes_are_not_counted(ada: Guarded, asked_for: AskedFor, answer: Answer, auth: Auth) -> None:
    slow = replace(auth, throttle=Throttle(ThrottleSettings(code_account="1/15m"), secret=b"of this test"))

    for code in ada.recovery[:3]:
        await answer((await asked_for(ada.account)).challenge, code, auth=slow)


async def test_answers_to_challenges_are_throttled(answer: Answer, auth: Auth) -> None:
    slow = replace(auth, throttle=Throttle(ThrottleSettings(one_time_ip="2/5m"), secret=b"of this test"))
    for _ in range(2):
        with pytest.raises(InvalidChallenge):
            await answer("no challenge", "000000", auth=slow)

    with pytest.raises(Throttled):
        await answer("no challenge", "000000", auth=slow)


async def test_a_disabled_account_is_not_opened_by_a_code(
    ada: Guarded, asked_for: AskedFor, answer: Answer, database: Database
) -> None:
    required = await asked_for(ada.account)
    async with database.unit_of_work() as session:
        await accounts.disable(session, email=ada.account.email)

    with pytest.raises(InvalidChallenge):
        await answer(required.challenge, ada.code())


async def test_without_its_key_a_code_is_an_outage_and_is_not_counted(
    ada: Guarded, asked_for: AskedFor, answer: Answer
) -> None:
    required = await asked_for(ada.account)

    for vault in (Vault(None), Vault((new_key("other"),))):
        with pytest.raises(TotpUnavailable):
            await answer(required.challenge, ada.code(), vault=vault)

    await answer(required.challenge, ada.code())

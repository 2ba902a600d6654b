"""A stored hash that no password can match is not compared, is refused like a wrong password, and is logged."""

import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import bcrypt
import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app_auth import accounts
from app_auth.auth import Auth, open_auth
from app_auth.client import NOBODY
from app_auth.errors import InvalidCredentials
from app_auth.passwords import HashFlaw, PasswordHasher
from app_auth.principal import Principal
from app_auth.sessions import sign_in as start_session
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD, Account, MakeAccount, SignIn, busy_hashing, new_key
from app_db import Database
from app_db.models import AuditEvent, Role, User
from app_db.types import new_id, utcnow

TAIL = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()[6:]
# A cost of 31 is nine days of one core for one comparison (Provos and Mazières, 1999: the cost is an exponent).
USELESS = {
    "$2b$31": (f"$2b$31{TAIL}", HashFlaw.TOO_COSTLY),
    "$2y$15": (f"$2y$15{TAIL}", HashFlaw.TOO_COSTLY),
    "ours, 31": (f"bcrypt-sha384$1$$2b$31{TAIL}", HashFlaw.TOO_COSTLY),
    "$2b$03": (f"$2b$03{TAIL}", HashFlaw.UNKNOWN_FORMAT),
    "$2b$99": (f"$2b$99{TAIL}", HashFlaw.TOO_COSTLY),
    "$2x$04": (f"$2x$04{TAIL}", HashFlaw.UNKNOWN_FORMAT),
    "cut off": (f"$2b$04{TAIL}"[:-1], HashFlaw.UNKNOWN_FORMAT),
    "a salt of too many bits": (f"$2b$04{TAIL[:22]}a{TAIL[23:]}", HashFlaw.UNKNOWN_FORMAT),
    "argon2": ("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", HashFlaw.UNKNOWN_FORMAT),
    "nothing": ("-", HashFlaw.UNKNOWN_FORMAT),
    "empty": ("", HashFlaw.UNKNOWN_FORMAT),
    "a line behind it": (f"$2b$04{TAIL}\n", HashFlaw.UNKNOWN_FORMAT),
    "another pepper": (f"bcrypt-sha384$lost$$2b$04{TAIL}", HashFlaw.UNKNOWN_PEPPER),
}


@pytest.fixture(params=USELESS.values(), ids=list(USELESS))
def useless(request: pytest.FixtureRequest) -> tuple[str, HashFlaw]:
    """A stored hash that nothing matches, and why."""
    pair: tuple[str, HashFlaw] = request.param
    return pair


async def store(database: Database, account: Account, stored: str) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.id == account.id).values(password_hash=stored))


async def because_of(database: Database, event: str) -> str:
    async with database.unit_of_work() as session:
        row = (await session.scalars(select(AuditEvent).where(AuditEvent.event == event))).one()
    return str(row.details["because"])


async def test_a_hash_that_no_password_matches_is_not_computed(auth: Auth, useless: tuple[str, HashFlaw]) -> None:
    stored, flaw = useless
    before, began = auth.passwords.flaws[flaw], time.monotonic()

    with capture_logs() as events:
        assert not await auth.passwords.verify(PASSWORD, stored)

    assert time.monotonic() - began < 2
    assert auth.passwords.flaws[flaw] == before + 1
    assert {"event": "password_hash_unusable", "flaw": flaw.value, "log_level": "warning"} in events


async def test_a_hash_of_the_highest_cost_that_is_compared_with_still_verifies(auth: Auth) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(14)).decode()

    assert await auth.passwords.verify(PASSWORD, stored)


async def test_signing_in_with_such_a_hash_is_refused_and_audited(
    auth: Auth, database: Database, make_account: MakeAccount, sign_in: SignIn, useless: tuple[str, HashFlaw]
) -> None:
    stored, flaw = useless
    ada = await make_account()
    await store(database, ada, stored)

    with pytest.raises(InvalidCredentials) as refused:
        await sign_in(ada)

    async with database.unit_of_work() as session:
        await refused.value.aftermath(session)
    assert await because_of(database, "sign_in_failed") == flaw


async def test_changing_a_password_whose_hash_is_of_no_use_says_so_in_the_audit(
    auth: Auth, database: Database, make_account: MakeAccount
) -> None:
    ada = await make_account()
    await store(database, ada, f"$2b$31{TAIL}")
    principal = Principal(ada.id, ada.email, Role.USER, new_id(), utcnow())

    with pytest.raises(InvalidCredentials) as refused:
        async with database.unit_of_work() as session:
            await accounts.change_password(
                auth, session, principal, current_password=PASSWORD, new_password="another one of 42", client=NOBODY
            )

    async with database.unit_of_work() as session:
        await refused.value.aftermath(session)
    assert await because_of(database, "password_change_failed") == HashFlaw.TOO_COSTLY


async def test_new_peppers_that_meet_old_accounts_are_told_of(
    auth_settings: AuthSettings, database: Database, make_account: MakeAccount
) -> None:
    """Without the log, nobody could know why a right password is refused."""
    ada = await make_account()

    with (
        open_auth(auth_settings.model_copy(update={"peppers": (new_key("new"),)})) as elsewhere,
        capture_logs() as told,
    ):
        with pytest.raises(InvalidCredentials):
            async with database.unit_of_work() as session:
                await start_session(
                    elsewhere, session, email=ada.email, password=ada.password, client=NOBODY, now=utcnow()
                )

        assert elsewhere.passwords.flaws[HashFlaw.UNKNOWN_PEPPER] == 1

    assert [event["flaw"] for event in told if event["event"] == "password_hash_unusable"] == ["unknown_pepper"]


async def test_a_wrong_password_alone_is_no_flaw(auth: Auth, make_account: MakeAccount, sign_in: SignIn) -> None:
    ada = await make_account()

    with capture_logs() as events, pytest.raises(InvalidCredentials) as refused:
        await sign_in(replace(ada, password="some other password"))

    assert refused.value.because is None
    assert events == []


async def test_closing_waits_for_no_hash(auth_settings: AuthSettings) -> None:
    hasher = PasswordHasher(auth_settings.model_copy(update={"hash_wait": timedelta(milliseconds=1)}))
    async with busy_hashing(hasher):
        with closing(hasher):
            began = time.monotonic()

        assert time.monotonic() - began < 5

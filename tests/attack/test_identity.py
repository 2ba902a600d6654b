"""Cases 18 to 22: one account per address, and no answer says who has one (for its time see test_timing.py)."""

import asyncpg
import bcrypt
import pytest
import pytest_asyncio

from app_auth.testing import PASSWORD, Account, MakeAccount
from app_db import Database
from app_db.testing.plugin import MakeUser
from tests.attack.conftest import Connect, an_email, count
from tests.attack.mails import token_mailed_to, told
from tests.attack.wire import Wire, at_once
from tests.e2e.processes import Api, MailSink, Worker, eventually, until


@pytest_asyncio.fixture(loop_scope="session")
async def disabled(make_account: MakeAccount, database: Database) -> Account:
    """An account that an operator has disabled."""
    account = await make_account(email=an_email())
    await execute(database, "UPDATE users SET disabled_at = now() WHERE id = $1", account.id)
    return account


async def execute(database: Database, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(database.settings.direct_dsn)
    await connection.execute(statement, *arguments)
    await connection.close()


# case 18
async def test_two_spellings_of_one_address_are_one_account(
    connect: Connect, worker: Worker, mail_sink: MailSink, database: Database
) -> None:
    wire = connect()
    name = an_email().partition("@")[0]
    first = wire.register(f"F{name}@Example.com", PASSWORD)
    second = wire.register(f"f{name}@example.COM", PASSWORD)
    assert first.status == 202
    assert first.seen_by_a_stranger == second.seen_by_a_stranger
    assert await count(database, "SELECT count(*) FROM users") == 1

    token = await token_mailed_to(mail_sink, f"F{name}@example.com", "verify")
    wire.reconnect()
    assert wire.post("/auth/email/verify", {"token": token, "password": PASSWORD}).status == 204

    assert wire.login(f"F{name}@Example.com", PASSWORD).status == 200
    assert wire.login(f"f{name}@example.COM", PASSWORD).status == 200


# case 19
async def test_twenty_registrations_of_one_address_at_two_servers_make_one_account(
    api: Api, twin: Api, connect: Connect, worker: Worker, mail_sink: MailSink, database: Database
) -> None:
    email = an_email()
    wires = [connect(to) for to in (api, twin) for _ in range(10)]

    replies = at_once(lambda wire: wire.register(email, PASSWORD), wires)

    assert {reply.status for reply in replies} == {202}
    assert len({str(reply.seen_by_a_stranger) for reply in replies}) == 1
    assert await count(database, "SELECT count(*) FROM users") == 1
    await until(lambda: mail_sink.to(email), "the link was mailed")

    async def all_jobs_have_ended() -> bool:
        return await count(database, "SELECT count(*) FROM jobs WHERE finished_at IS NULL") == 0

    await eventually(all_jobs_have_ended, "no job was left that could make another link")
    assert await count(database, "SELECT count(*) FROM one_time_tokens") == 1


# case 20
def test_registering_says_nothing_about_who_is_registered(wire: Wire, ada: Account) -> None:
    known = wire.register(ada.email, PASSWORD)
    unknown = wire.register(an_email(), PASSWORD)

    assert known.status == 202
    assert known.seen_by_a_stranger == unknown.seen_by_a_stranger


# case 20
async def test_the_owner_hears_that_somebody_registers_with_their_address(
    wire: Wire, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    wire.register(ada.email.upper(), "another " + PASSWORD)

    await told(mail_sink, ada.email, "account already")
    wire.reconnect()
    assert wire.login(ada.email, PASSWORD).status == 200
    assert wire.login(ada.email, "another " + PASSWORD).status == 400


# case 21
async def test_a_refused_login_says_nothing_about_the_account(
    wire: Wire, ada: Account, disabled: Account, make_user: MakeUser
) -> None:
    legacy = await make_user(password_hash=bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())
    unverified = await make_user()

    emails = (ada.email, disabled.email, legacy.email, unverified.email, an_email(), "no address at all")
    replies = [wire.login(email, "a wrong password, surely") for email in emails]

    assert replies[0].outcome == (400, "invalid_grant")
    assert len({str(reply.seen_by_a_stranger) for reply in replies}) == 1, [reply.body for reply in replies]


# case 21
def test_a_disabled_account_is_refused_with_its_own_password_too(wire: Wire, disabled: Account) -> None:
    assert wire.login(disabled.email, disabled.password).seen_by_a_stranger == (
        wire.login(an_email(), PASSWORD).seen_by_a_stranger
    )


# case 21
async def test_a_password_hashed_by_an_older_system_signs_in_and_is_hashed_anew(
    wire: Wire, make_user: MakeUser, database: Database
) -> None:
    legacy = await make_user(
        email=an_email(), password_hash=bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    )
    await execute(database, "UPDATE users SET email_verified_at = now() WHERE id = $1", legacy.id)

    assert wire.login(legacy.email, PASSWORD).status == 200

    old_scheme = "SELECT count(*) FROM users WHERE id = $1 AND password_hash LIKE '$2b$%'"
    assert await count(database, old_scheme, legacy.id) == 0
    assert wire.login(legacy.email, PASSWORD).status == 200


# case 22
@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/email/verify/resend"])
def test_asking_for_a_link_says_nothing_about_the_account(
    wire: Wire, ada: Account, disabled: Account, path: str
) -> None:
    replies = [wire.post(path, {"email": email}) for email in (ada.email, disabled.email, an_email())]

    assert replies[0].status == 202
    assert len({str(reply.seen_by_a_stranger) for reply in replies}) == 1

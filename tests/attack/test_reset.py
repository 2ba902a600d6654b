"""Cases 44 to 48: mailed links that are old, altered, raced, or somebody else's."""

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import select

from app_auth.testing import PASSWORD, Account
from app_db import Database
from app_db.models import AuditEvent
from app_db.repositories.users import UserRepository
from tests.attack.conftest import PUBLIC_BASE_URL, Connect, an_email
from tests.attack.mails import links_to, token_mailed_to, told
from tests.attack.test_refresh import tampered_tokens
from tests.attack.wire import Reply, Wire, at_once
from tests.e2e.processes import Api, MailSink, Worker, until

NEW = "an entirely new horse 43"
N = 20


def forgot(wire: Wire, email: str, **how: object) -> Reply:
    return wire.post("/auth/password/forgot", {"email": email}, **how)


def reset(wire: Wire, token: str, password: str = NEW) -> Reply:
    return wire.post("/auth/password/reset", {"token": token, "new_password": password})


def verify(wire: Wire, token: str, password: str = PASSWORD) -> Reply:
    return wire.post("/auth/email/verify", {"token": token, "password": password})


@pytest_asyncio.fixture(loop_scope="session")
async def reset_token(connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink) -> str:
    """The token of a link that ada got by mail."""
    assert forgot(connect(), ada.email).status == 202
    return await token_mailed_to(mail_sink, ada.email, "reset")


# case 44
async def test_a_reset_ends_every_session_and_works_once(
    wire: Wire, ada: Account, reset_token: str, mail_sink: MailSink
) -> None:
    wire.reconnect()
    access, refresh = wire.tokens(ada.email, ada.password)

    done = reset(wire, reset_token)

    assert (done.status, done.body) == (204, b"")
    assert wire.me(access).outcome == (401, "invalid_token")
    assert wire.refresh(refresh).outcome == (400, "invalid_grant")
    assert wire.login(ada.email, ada.password).status == 400
    assert wire.login(ada.email, NEW).status == 200
    again = reset(wire, reset_token, "one more horse for me 44")
    assert again.status == 400
    assert wire.login(ada.email, NEW).status == 200
    await told(mail_sink, ada.email, "Something happened")
    wire.reconnect()


# case 44
async def test_of_twenty_resets_with_one_link_at_two_servers_one_wins(
    api: Api, twin: Api, connect: Connect, ada: Account, reset_token: str
) -> None:
    wires = [connect(to) for to in (api, twin) for _ in range(N // 2)]
    passwords = [f"an entirely new horse {number}" for number in range(N)]

    replies = at_once(lambda each: reset(each[0], reset_token, each[1]), list(zip(wires, passwords, strict=True)))

    statuses = [reply.status for reply in replies]
    assert (statuses.count(204), statuses.count(400)) == (1, N - 1), statuses
    assert connect().login(ada.email, passwords[statuses.index(204)]).status == 200


# case 45
async def test_of_two_links_only_the_newer_works(
    wire: Wire, ada: Account, reset_token: str, mail_sink: MailSink
) -> None:
    wire.reconnect()
    forgot(wire, ada.email)
    newer = await token_mailed_to(mail_sink, ada.email, "reset", number=2)
    wire.reconnect()

    assert reset(wire, reset_token).status == 400
    assert reset(wire, newer).status == 204


# case 45
async def test_a_link_to_reset_is_of_no_use_after_half_an_hour(
    wire: Wire, ada: Account, reset_token: str, database: Database
) -> None:
    wire.reconnect()
    connection = await asyncpg.connect(database.settings.direct_dsn)
    lifetime = await connection.fetchval("SELECT expires_at - created_at FROM one_time_tokens")
    await connection.execute("UPDATE one_time_tokens SET expires_at = expires_at - interval '30 minutes'")
    await connection.close()

    assert 1795 <= lifetime.total_seconds() <= 1805
    assert reset(wire, reset_token).status == 400
    assert wire.login(ada.email, ada.password).status == 200


# case 45
async def test_a_tampered_link_is_refused_and_the_true_one_still_works(
    wire: Wire, ada: Account, reset_token: str
) -> None:
    wire.reconnect()

    for other in tampered_tokens(reset_token):
        assert reset(wire, other).status in {400, 422}, other

    assert reset(wire, reset_token).status == 204


# case 45
async def test_a_link_dies_with_the_password_it_would_replace(wire: Wire, ada: Account, reset_token: str) -> None:
    wire.reconnect()
    access, _ = wire.tokens(ada.email, ada.password)
    change = {"current_password": ada.password, "new_password": "chosen by the owner 45"}
    assert wire.post("/auth/password/change", change, bearer=access).status == 204

    assert reset(wire, reset_token).status == 400


# case 45
async def test_a_link_for_one_thing_is_not_good_for_another(wire: Wire, reset_token: str) -> None:
    wire.reconnect()

    assert verify(wire, reset_token).status == 400
    assert reset(wire, reset_token).status == 204


# case 45
async def test_a_password_that_is_refused_does_not_use_up_the_link(wire: Wire, reset_token: str) -> None:
    wire.reconnect()

    assert reset(wire, reset_token, "short").outcome == (422, "password_too_short")
    assert reset(wire, reset_token).status == 204


# case 46
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"X-Forwarded-Host": "evil.test"},
        {"Forwarded": "host=evil.test;proto=http"},
        {"X-Forwarded-Proto": "gopher", "X-Forwarded-Prefix": "//evil.test/"},
        {"X-Original-Host": "evil.test", "X-Host": "evil.test", "Origin": "https://evil.test"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_no_header_of_a_stranger_gets_into_a_link(
    wire: Wire, ada: Account, worker: Worker, mail_sink: MailSink, headers: dict[str, str]
) -> None:
    reply = forgot(wire, ada.email, headers=headers)

    if reply.status == 400:
        assert headers.keys() == {"Host"}
        return
    await until(lambda: links_to(mail_sink, ada.email), "a link was mailed")
    assert all(link.startswith(PUBLIC_BASE_URL) for link in links_to(mail_sink, ada.email))
    assert "evil.test" not in mail_sink.mails[0].as_string()
    wire.reconnect()


# case 47
async def test_an_address_is_verified_once_and_only_then_lets_its_owner_in(
    wire: Wire, worker: Worker, mail_sink: MailSink
) -> None:
    email = an_email()
    assert wire.register(email, PASSWORD).status == 202
    token = await token_mailed_to(mail_sink, email, "verify")
    wire.reconnect()

    unverified = wire.login(email, PASSWORD)
    assert unverified.status in {400, 403}
    assert unverified.json["code"] == "email_not_verified"
    assert wire.login(email, "a wrong password, surely").seen_by_a_stranger == (
        wire.login(an_email(), PASSWORD).seen_by_a_stranger
    )
    assert verify(wire, token).status == 204
    assert verify(wire, token).status == 204  # the address is verified already
    assert wire.login(email, PASSWORD).status == 200


# case 47
async def test_who_registers_somebody_elses_address_first_does_not_choose_its_password(
    wire: Wire, worker: Worker, mail_sink: MailSink
) -> None:
    email = an_email()
    wire.register(email, "chosen by an attacker 47")
    await token_mailed_to(mail_sink, email, "verify")
    wire.reconnect()
    assert wire.register(email, PASSWORD).status == 202
    forgot(wire, email)
    token = await token_mailed_to(mail_sink, email, "reset")
    wire.reconnect()

    assert reset(wire, token).status == 204

    assert wire.login(email, "chosen by an attacker 47").status == 400
    assert wire.login(email, NEW).status == 200


# case 47
async def test_who_registers_the_address_of_another_keeps_nothing_there(
    wire: Wire, worker: Worker, mail_sink: MailSink
) -> None:
    email, eves = an_email(), "chosen by an attacker 47"
    wire.register(email, eves)
    token = await token_mailed_to(mail_sink, email, "verify")
    wire.reconnect()

    assert verify(wire, token, NEW).status == 204

    assert wire.login(email, eves).outcome == (400, "invalid_grant")
    assert verify(wire, token, eves).outcome == (400, "invalid_grant")
    assert wire.login(email, NEW).status == 200


# case 47
async def test_of_twenty_verifications_with_one_link_at_two_servers_all_say_that_it_is_done(
    api: Api, twin: Api, connect: Connect, worker: Worker, mail_sink: MailSink, database: Database
) -> None:
    """A scanner of mails may open a link before its owner does, so a second use is no error."""
    email = an_email()
    connect().register(email, PASSWORD)
    token = await token_mailed_to(mail_sink, email, "verify")
    wires = [connect(to) for to in (api, twin) for _ in range(N // 2)]

    replies = at_once(lambda wire: verify(wire, token), wires)

    assert {reply.status for reply in replies} == {204}
    async with database.unit_of_work() as session:
        user_id = await UserRepository(session).find_id(email)
        events = select(AuditEvent).where(AuditEvent.event == "email_verified", AuditEvent.user_id == user_id)
        assert len((await session.scalars(events)).all()) == 1


# case 48
@pytest.mark.parametrize(
    "email",
    [
        "eve@example.test\r\nBcc: mallory@example.test",
        "eve@example.test\nBcc: mallory@example.test",
        "eve\r\n@example.test",
        "eve@example.test%0d%0aBcc:mallory@example.test",
        "eve@example.test, mallory@example.test",
        "eve@example.test;mallory@example.test",
        "<mallory@example.test>eve@example.test",
        '"eve\r\nBcc: mallory@example.test"@example.test',
        "eve@example.test\u2028Bcc: mallory@example.test",
    ],
)
@pytest.mark.parametrize("path", ["/auth/register", "/auth/password/forgot", "/auth/email/verify/resend"])
def test_an_address_that_is_two_or_a_header_is_none(wire: Wire, path: str, email: str) -> None:
    password = {"password": PASSWORD} if path == "/auth/register" else {}

    reply = wire.post(path, {"email": email, **password})

    assert reply.outcome == (422, "invalid_email")

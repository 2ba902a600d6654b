"""Cases 34 to 39: refresh tokens that are raced, replayed, altered or expired."""

import asyncio
import base64
import subprocess
import time
from functools import partial

import asyncpg
import pytest

from app_auth.testing import PASSWORD, Account
from app_db import Database
from app_db.settings import DatabaseSettings
from app_runtime.testing.binaries import postgres_programs
from tests.attack.conftest import Connect, StartApi
from tests.attack.mails import token_mailed_to, told
from tests.attack.wire import Wire, at_once
from tests.e2e.processes import Api, MailSink, Worker

N = 20


async def age(database: Database, account: Account, column: str, seconds: float) -> None:
    """Set a time of all sessions of an account back by `seconds`."""
    connection = await asyncpg.connect(database.settings.direct_dsn)
    await connection.execute(
        f"UPDATE user_sessions SET {column} = {column} - make_interval(secs => $1) WHERE user_id = $2",
        seconds,
        account.id,
    )
    await connection.close()


async def events_of(database: Database, account: Account) -> list[str]:
    connection = await asyncpg.connect(database.settings.direct_dsn)
    rows = await connection.fetch("SELECT event FROM audit_events WHERE user_id = $1 ORDER BY id", account.id)
    await connection.close()
    return [row["event"] for row in rows]


# case 34
def test_twenty_refreshes_of_one_token_at_two_servers_get_one_successor(
    api: Api, twin: Api, connect: Connect, ada: Account
) -> None:
    _, token = connect().tokens(ada.email, ada.password)
    wires = [connect(to) for to in (api, twin) for _ in range(N // 2)]

    replies = at_once(lambda wire: wire.refresh(token), wires)

    assert [reply.status for reply in replies] == [200] * N
    assert len({reply.json["refresh_token"] for reply in replies}) == 1
    assert {connect().me(reply.json["access_token"]).status for reply in replies} == {200}


# case 34
def test_a_chain_of_raced_refreshes_never_breaks(api: Api, twin: Api, connect: Connect, ada: Account) -> None:
    _, token = connect().tokens(ada.email, ada.password)
    wires = [connect(to) for to in (api, twin) for _ in range(4)]

    for _ in range(10):
        replies = at_once(partial(Wire.refresh, token=token), wires)
        assert {reply.status for reply in replies} == {200}
        (token,) = {reply.json["refresh_token"] for reply in replies}


# case 35
async def test_a_stolen_refresh_token_ends_the_family_and_its_owner_hears_of_it(
    wire: Wire, ada: Account, database: Database, worker: Worker, mail_sink: MailSink
) -> None:
    _, stolen = wire.tokens(ada.email, ada.password)
    newest = wire.refresh(stolen).json
    other_access, _ = wire.tokens(ada.email, ada.password)
    await age(database, ada, "rotated_at", 12)

    assert wire.refresh(stolen).outcome == (400, "invalid_grant")

    assert wire.refresh(newest["refresh_token"]).outcome == (400, "invalid_grant")
    assert wire.me(newest["access_token"]).outcome == (401, "invalid_token")
    assert wire.me(other_access).status == 200
    assert "refresh_reused" in await events_of(database, ada)
    await told(mail_sink, ada.email, "Something happened")
    wire.reconnect()


# case 35
async def test_of_twenty_thieves_and_one_owner_nobody_keeps_the_session(
    api: Api, twin: Api, connect: Connect, ada: Account, database: Database
) -> None:
    wire = connect()
    _, stolen = wire.tokens(ada.email, ada.password)
    newest = wire.refresh(stolen).json
    await age(database, ada, "rotated_at", 12)
    thieves = [connect(to) for to in (api, twin) for _ in range(N // 2)]

    replies = at_once(lambda wire: wire.refresh(stolen), thieves)

    assert {reply.outcome for reply in replies} == {(400, "invalid_grant")}
    assert wire.refresh(newest["refresh_token"]).status == 400
    assert wire.me(newest["access_token"]).status == 401
    assert (await events_of(database, ada)).count("refresh_reused") == 1


def tampered_tokens(token: str) -> list[str]:
    flipped = [f"{token[:at]}{chr(ord(token[at]) ^ 1)}{token[at + 1 :]}" for at in (4, 20, 36, len(token) // 2)]
    return [*flipped, token[:-1], token + token, token + "A", token.upper(), f" {token}", "rt_", ""]


# case 36
def test_a_tampered_refresh_token_is_refused_and_does_the_family_no_harm(wire: Wire, ada: Account) -> None:
    access, token = wire.tokens(ada.email, ada.password)

    for other in tampered_tokens(token):
        assert wire.refresh(other).outcome == (400, "invalid_grant"), other

    assert wire.me(access).status == 200
    assert wire.refresh(token).status == 200


# case 37
async def test_what_is_no_refresh_token_is_no_grant(
    wire: Wire, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    wire.post("/auth/password/forgot", {"email": ada.email})
    one_time = await token_mailed_to(mail_sink, ada.email, "reset")
    wire.reconnect()

    for token in (access, one_time, ""):
        assert wire.refresh(token).outcome == (400, "invalid_grant")
    assert wire.refresh("x" * 2**20).outcome == (413, "payload_too_large")


def dumped(dsn: str) -> bytes:
    command = [str(postgres_programs() / "pg_dump"), "--inserts", dsn]
    return subprocess.run(command, capture_output=True, check=True).stdout


# case 38
async def test_a_dump_of_the_database_holds_nothing_usable(
    wire: Wire,
    ada: Account,
    worker: Worker,
    mail_sink: MailSink,
    database_settings: DatabaseSettings,
) -> None:
    access, refresh = wire.tokens(ada.email, ada.password)
    successor = wire.refresh(refresh).json
    wire.post("/auth/password/forgot", {"email": ada.email})
    one_time = await token_mailed_to(mail_sink, ada.email, "reset")
    wire.reconnect()

    dump = await asyncio.to_thread(dumped, database_settings.direct_dsn)

    assert str(ada.id).encode() in dump
    for token in (access, refresh, successor["access_token"], successor["refresh_token"], one_time):
        secret = token.rpartition(".")[2].encode()
        raw = base64.urlsafe_b64decode(secret + b"=" * (-len(secret) % 4))
        for spelling in (secret, raw.hex().encode(), base64.b64encode(raw), base64.b64encode(secret)):
            assert spelling not in dump
    assert PASSWORD.encode() not in dump


# case 39
@pytest.mark.slow  # a minute long
@pytest.mark.timeout(400)
def test_no_refresh_extends_a_session_beyond_its_absolute_lifetime_over_http(
    start_api: StartApi, connect: Connect, ada: Account
) -> None:
    wire = connect(start_api(APP_AUTH__REFRESH_ABSOLUTE="PT20S", APP_AUTH__REFRESH_IDLE="PT15S"))
    began = time.time()
    reply = wire.login(ada.email, ada.password)
    refused_after = 0.0

    while reply.status == 200:
        refused_after = time.time() - began
        assert reply.json["refresh_token_expires_at"] <= began + 21
        time.sleep(1)
        reply = wire.refresh(reply.json["refresh_token"])

    assert reply.outcome == (400, "invalid_grant")
    assert 17 <= refused_after <= 21


# case 39
@pytest.mark.slow  # a server of its own, and a wait
def test_a_session_that_nobody_refreshes_ends(start_api: StartApi, connect: Connect, ada: Account) -> None:
    wire = connect(start_api(APP_AUTH__REFRESH_IDLE="PT2S"))
    _, token = wire.tokens(ada.email, ada.password)
    time.sleep(3)

    assert wire.refresh(token).outcome == (400, "invalid_grant")

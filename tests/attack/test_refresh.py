"""Cases 34 to 43: refresh tokens that are raced, replayed, bent and outlived, and the sessions behind them."""

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
from app_db.testing.binaries import postgres_programs
from tests.attack.conftest import Connect, StartApi
from tests.attack.mails import token_mailed_to, told
from tests.attack.wire import Reply, Wire, at_once
from tests.e2e.processes import Api, MailSink, Worker

N = 20


async def age(database: Database, account: Account, column: str, seconds: float) -> None:
    """Move a moment in the life of all sessions of an account into the past."""
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


def bent(token: str) -> list[str]:
    flipped = [f"{token[:at]}{chr(ord(token[at]) ^ 1)}{token[at + 1 :]}" for at in (4, 20, 36, len(token) // 2)]
    return [*flipped, token[:-1], token + token, token + "A", token.upper(), f" {token}", "rt_", ""]


# case 36
def test_a_bent_refresh_token_is_refused_and_does_the_family_no_harm(wire: Wire, ada: Account) -> None:
    access, token = wire.tokens(ada.email, ada.password)

    for other in bent(token):
        reply = wire.refresh(other)
        assert reply.outcome in {(400, "invalid_grant"), (422, "validation_failed")}, other

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
@pytest.mark.timeout(180)
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


# case 40
def test_after_logging_out_neither_token_is_worth_anything(wire: Wire, ada: Account) -> None:
    access, refresh = wire.tokens(ada.email, ada.password)

    first = wire.post("/auth/logout", bearer=access)

    assert first.status == 204
    assert wire.me(access).status == 401
    assert wire.refresh(refresh).outcome == (400, "invalid_grant")
    assert wire.post("/auth/logout", bearer=access).status == 204


def sessions_of(wire: Wire, access: str) -> list[dict[str, object]]:
    reply = wire.get("/auth/sessions", bearer=access)
    assert reply.status == 200, reply.body
    listed: list[dict[str, object]] = reply.json["items"]
    return listed


# case 41
def test_a_user_sees_and_ends_their_own_sessions_one_by_one(connect: Connect, ada: Account) -> None:
    wires = [connect() for _ in range(3)]
    accesses = [wire.tokens(ada.email, ada.password)[0] for wire in wires]
    listed = sessions_of(wires[0], accesses[0])
    assert len(listed) == 3
    (current,) = [each for each in listed if each["current"]]
    second = next(each for each in sessions_of(wires[1], accesses[1]) if each["current"])

    ended = wires[0].request("DELETE", f"/auth/sessions/{second['id']}", bearer=accesses[0])

    assert ended.status == 204
    assert [wire.me(access).status for wire, access in zip(wires, accesses, strict=True)] == [200, 401, 200]
    assert current["id"] != second["id"]


# case 41
def test_nobody_ends_or_sees_the_session_of_another(wire: Wire, ada: Account, ben: Account) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    intruder, _ = wire.tokens(ben.email, ben.password)
    (hers,) = sessions_of(wire, access)

    reply = wire.request("DELETE", f"/auth/sessions/{hers['id']}", bearer=intruder)

    assert reply.outcome[0] == 404
    assert wire.me(access).status == 200
    assert hers["id"] not in {each["id"] for each in sessions_of(wire, intruder)}


# case 41
@pytest.mark.parametrize(("which", "left"), [("others", [200, 401, 401]), ("all", [401, 401, 401])])
def test_a_user_ends_all_sessions_or_all_others(connect: Connect, ada: Account, which: str, left: list[int]) -> None:
    wires = [connect() for _ in range(3)]
    accesses = [wire.tokens(ada.email, ada.password)[0] for wire in wires]

    assert wires[0].post(f"/auth/sessions/revoke-{which}", bearer=accesses[0]).status in {200, 204}

    assert [wire.me(access).status for wire, access in zip(wires, accesses, strict=True)] == left


# case 42
def test_a_new_password_ends_the_other_sessions_and_the_old_password(wire: Wire, ada: Account) -> None:
    current, _ = wire.tokens(ada.email, ada.password)
    other, other_refresh = wire.tokens(ada.email, ada.password)
    new = "an entirely new horse 43"

    change = {"current_password": ada.password, "new_password": new}
    assert wire.post("/auth/password/change", change, bearer=current).status == 204

    assert wire.me(current).status == 200
    assert wire.me(other).status == 401
    assert wire.refresh(other_refresh).outcome == (400, "invalid_grant")
    assert wire.login(ada.email, ada.password).outcome == (400, "invalid_grant")
    assert wire.login(ada.email, new).status == 200


# case 42
def test_guessing_the_current_password_counts_as_guessing_at_the_login(wire: Wire, ada: Account) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    guess = {"current_password": "a wrong one, surely", "new_password": "an entirely new horse 43"}

    refused = [wire.post("/auth/password/change", guess, bearer=access) for _ in range(6)]

    assert [reply.status for reply in refused] == [400] * 5 + [429]
    assert wire.login(ada.email, ada.password).status == 429
    assert wire.me(access).status == 200


# case 42
def test_of_two_password_changes_at_two_servers_one_wins(api: Api, twin: Api, connect: Connect, ada: Account) -> None:
    wires = [connect(to) for to in (api, twin) for _ in range(2)]
    accesses = [wire.tokens(ada.email, ada.password)[0] for wire in wires]
    passwords = [f"an entirely new horse {number}" for number in range(len(wires))]

    def change(one: tuple[Wire, str, str]) -> Reply:
        wire, access, new = one
        fields = {"current_password": ada.password, "new_password": new}
        return wire.post("/auth/password/change", fields, bearer=access)

    replies = at_once(change, list(zip(wires, accesses, passwords, strict=True)))

    statuses = [reply.status for reply in replies]
    assert statuses.count(204) == 1, statuses
    assert connect().login(ada.email, passwords[statuses.index(204)]).status == 200


# case 43
def test_the_fifty_first_login_ends_the_oldest_session(connect: Connect, ada: Account) -> None:
    first_access, first_refresh = connect().tokens(ada.email, ada.password)
    second_access, _ = connect().tokens(ada.email, ada.password)
    newer = [connect().tokens(ada.email, ada.password)[0] for _ in range(49)]

    wire = connect()
    assert wire.me(first_access).status == 401
    assert wire.refresh(first_refresh).outcome == (400, "invalid_grant")
    assert wire.me(second_access).status == 200
    assert len(sessions_of(wire, newer[-1])) == 50


# case 43
def test_sessions_that_start_at_once_at_two_servers_do_not_exceed_the_cap(
    api: Api, twin: Api, connect: Connect, ada: Account
) -> None:
    for _ in range(45):
        connect().tokens(ada.email, ada.password)
    wires = [connect(to) for to in (api, twin) for _ in range(N // 2)]

    replies = at_once(lambda wire: wire.login(ada.email, ada.password), wires)

    assert {reply.status for reply in replies} == {200}
    accesses = [reply.json["access_token"] for reply in replies]
    assert sum(connect().me(access).status == 200 for access in accesses) == N
    assert len(sessions_of(connect(), accesses[-1])) == 50

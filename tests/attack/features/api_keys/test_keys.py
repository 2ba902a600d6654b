"""Attacks with keys for machines, and with Idempotency-Keys, at two processes of one service."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from importlib.util import find_spec
from threading import Thread
from typing import Any

import asyncpg
import pytest_asyncio

from app_auth.testing import Account
from app_db import Database
from app_runtime.testing.processes import wait_until
from tests.attack.conftest import Connect, StartApi, count
from tests.attack.wire import Reply, Wire, at_once
from tests.e2e.processes import Api

ALL = ["account:export", "jobs:read", "jobs:write"]
REPEATED = {"Idempotency-Key": '"a first try, and its repetitions"'}


def make(
    wire: Wire, account: Account, *, scopes: list[str] | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    access, _ = wire.tokens(account.email, account.password)
    return wire.post("/auth/keys", {"name": "ci", "scopes": scopes or ALL}, bearer=access, headers=headers or {})


def key_of(reply: Reply) -> tuple[str, str]:
    assert reply.status == 201, reply.body
    return reply.json["id"], reply.json["key"]


def test_a_stolen_key_does_no_more_than_its_scopes(wire: Wire, ada: Account) -> None:
    _, key = key_of(make(wire, ada, scopes=["jobs:read"]))
    change = {"current_password": ada.password, "new_password": "a new one, long enough 7"}
    attempts: list[tuple[str, str, dict[str, Any] | None]] = [  # Any: JSON
        ("POST", "/auth/keys", {"name": "more", "scopes": ALL}),
        ("POST", "/auth/password/change", change),
        ("DELETE", "/auth/me", None),
        ("GET", "/auth/sessions", None),
        ("POST", "/auth/sessions/revoke-all", None),
        ("GET", "/audit", None),
    ]
    if find_spec("app_api.features.export"):
        attempts.append(("POST", "/auth/me/export", None))

    for method, path, body in attempts:
        reply = wire.post(path, body, bearer=key) if method == "POST" else wire.request(method, path, bearer=key)
        assert reply.status == 403, (path, reply.body)

    assert wire.post("/auth/refresh-token", {"refresh_token": key}).outcome == (400, "invalid_grant")
    assert wire.post("/auth/logout", bearer=key).outcome == (401, "invalid_token")
    assert wire.login(ada.email, ada.password).status == 200
    assert wire.get("/jobs", bearer=key).status == 200


def test_guesses_at_a_key_are_throttled_and_the_key_goes_on(wire: Wire, ada: Account) -> None:
    _, key = key_of(make(wire, ada))
    access, _ = wire.tokens(ada.email, ada.password)
    revoked_id, revoked = key_of(wire.post("/auth/keys", {"name": "cd", "scopes": ALL}, bearer=access))
    assert wire.request("DELETE", f"/auth/keys/{revoked_id}", bearer=access).status == 204

    outcomes = [wire.get("/jobs", bearer=revoked).outcome for _ in range(31)]

    assert outcomes[0] == (401, "invalid_token")
    assert outcomes[-1] == (429, "too_many_requests")
    assert wire.get("/jobs", bearer=key).status == 200


def test_a_revoked_key_is_dead_at_each_process_at_once(connect: Connect, twin: Api, ada: Account) -> None:
    here, there = connect(), connect(twin)
    key_id, key = key_of(make(here, ada))
    assert there.get("/jobs", bearer=key).status == 200

    access, _ = here.tokens(ada.email, ada.password)
    assert here.request("DELETE", f"/auth/keys/{key_id}", bearer=access).status == 204

    assert there.get("/jobs", bearer=key).outcome == (401, "invalid_token")


def test_of_repetitions_at_two_processes_one_makes_the_key(connect: Connect, twin: Api, ada: Account) -> None:
    wires = [connect(to) if to else connect() for to in (None, twin) * 5]
    access, _ = wires[0].tokens(ada.email, ada.password)
    new = {"name": "ci", "scopes": ALL}

    replies = at_once(lambda wire: wire.post("/auth/keys", new, bearer=access, headers=REPEATED), wires)

    assert {reply.outcome for reply in replies} <= {(201, None), (409, "request_under_way")}
    assert len({reply.body for reply in replies if reply.status == 201}) == 1
    assert sum(reply.headers["Idempotency-Replayed"] is None for reply in replies if reply.status == 201) == 1
    assert len(wires[0].get("/auth/keys", bearer=access).json["items"]) == 1


@pytest_asyncio.fixture(loop_scope="session")
async def slow_commit(database: Database) -> AsyncIterator[None]:
    """Let the COMMIT of each transaction that makes a key take a while."""
    connection = await asyncpg.connect(database.settings.direct_dsn)
    await connection.execute(
        "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN PERFORM pg_sleep(3); RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION at_commit()"
    )
    yield
    await connection.execute("DROP TRIGGER at_commit ON api_keys; DROP FUNCTION at_commit()")
    await connection.close()


async def test_what_was_done_by_a_process_that_was_killed_is_answered_by_another(
    connect: Connect, start_api: StartApi, ada: Account, database: Database, slow_commit: None
) -> None:
    victim, wire = start_api(), connect()
    access, _ = wire.tokens(ada.email, ada.password)
    lost = Wire(victim.url)
    new = {"name": "ci", "scopes": ALL}

    def ask() -> None:
        with suppress(OSError, HTTPException):  # nobody answers any more
            lost.post("/auth/keys", new, bearer=access, headers=REPEATED)

    asking = Thread(target=ask)
    asking.start()
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    deadline = time.monotonic() + 20
    while not await count(database, sleeping):
        assert time.monotonic() < deadline
    victim.kill()
    asking.join()
    during = wire.post("/auth/keys", new, bearer=access, headers=REPEATED)
    again: list[Reply] = []

    def is_done() -> bool:
        again.append(wire.post("/auth/keys", new, bearer=access, headers=REPEATED))
        return again[-1].status != 409

    assert wait_until(is_done, 20)

    assert during.outcome == (409, "request_under_way")
    assert again[-1].status == 201
    assert again[-1].headers["Idempotency-Replayed"] == "true"
    assert wire.get("/jobs", bearer=again[-1].json["key"]).status == 200
    assert len(wire.get("/auth/keys", bearer=access).json["items"]) == 1

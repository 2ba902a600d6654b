"""Cases 40 to 43: who may end which sessions, and how many a user may have."""

import pytest
from sqlalchemy import select

from app_auth.testing import Account
from app_db import Database
from app_db.models import AuditEvent
from tests.attack.conftest import Connect
from tests.attack.wire import Reply, Wire, at_once
from tests.e2e.processes import Api

N = 20


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


async def test_of_twenty_deletions_of_an_account_at_two_servers_one_is_done(
    api: Api, twin: Api, connect: Connect, ada: Account, database: Database
) -> None:
    """One 204 and one row of the audit; all other requests find no account any more."""
    wires = [connect(to) for to in (api, twin) for _ in range(N // 2)]
    access, _ = wires[0].tokens(ada.email, ada.password)

    replies = at_once(lambda wire: wire.request("DELETE", "/auth/me", bearer=access), wires)

    assert sorted(reply.status for reply in replies) == [204] + [401] * (N - 1)
    async with database.unit_of_work() as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.event == "account_deleted"))
        assert len(rows.all()) == 1


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

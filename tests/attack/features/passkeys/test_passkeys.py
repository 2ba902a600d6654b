"""Attacks on passkeys over real HTTP, with a software authenticator whose responses are genuine but for one thing."""

import pytest

from app_auth.testing import Account, MakeAccount
from app_db import Database
from packages.auth.tests.features.passkeys.authenticator import Authenticator, Credential, Json, new_key
from tests.attack.conftest import Connect, an_email, count
from tests.attack.wire import Reply, Wire, at_once
from tests.e2e.processes import Api

STRANGER = Credential(new_key("ES256"), b"s" * 32, b"s" * 32)


def registration(wire: Wire, bearer: str) -> Json:
    reply = wire.post("/auth/passkeys/options", bearer=bearer)
    assert reply.status == 200, reply.body
    return reply.json


def finish(wire: Wire, bearer: str, credential: Json) -> Reply:
    return wire.post("/auth/passkeys", {"name": "Laptop", "credential": credential}, bearer=bearer)


def device_of(wire: Wire, account: Account) -> Authenticator:
    """A device with a passkey of this account."""
    device = Authenticator()
    access, _ = wire.tokens(account.email, account.password)
    added = finish(wire, access, device.create(registration(wire, access)))
    assert added.status == 201, added.body
    return device


def options(wire: Wire) -> Json:
    return wire.post("/auth/passkeys/sign-in/options").json


def enter(wire: Wire, credential: Json) -> Reply:
    return wire.post("/auth/passkeys/sign-in", {"credential": credential})


def test_of_twenty_answers_to_one_challenge_at_two_servers_one_signs_in(
    api: Api, twin: Api, connect: Connect, ada: Account
) -> None:
    wires = [connect(to) for to in (api, twin) for _ in range(10)]
    device = device_of(wires[0], ada)
    credential = device.get(options(wires[0]))

    replies = at_once(lambda wire: enter(wire, credential), wires)

    assert sorted(reply.outcome for reply in replies) == [(200, None)] + [(400, "passkey_refused")] * 19


def test_of_a_passkey_and_its_copy_at_two_servers_one_signs_in(
    api: Api, twin: Api, connect: Connect, ada: Account
) -> None:
    wires = [connect(to) for to in (api, twin) for _ in range(3)]
    device = device_of(wires[0], ada)
    uses = [(wire, device.get(options(wire), counter=7)) for wire in wires]

    replies = at_once(lambda use: enter(*use), uses)

    assert sorted(reply.status for reply in replies) == [200] + [400] * 5


async def test_of_twenty_answers_to_one_registration_at_two_servers_one_is_taken(
    api: Api, twin: Api, connect: Connect, ada: Account, database: Database
) -> None:
    wires = [connect(to) for to in (api, twin) for _ in range(10)]
    access, _ = wires[0].tokens(ada.email, ada.password)
    asked = registration(wires[0], access)

    replies = at_once(lambda wire: finish(wire, access, Authenticator().create(asked)), wires)

    assert sorted(reply.status for reply in replies) == [201] + [400] * 19
    assert await count(database, "SELECT count(*) FROM passkeys") == 1


async def test_what_is_refused_says_nothing_about_passkeys(
    wire: Wire, ada: Account, make_account: MakeAccount, database: Database
) -> None:
    device = device_of(wire, ada)
    disabled = await make_account(email=an_email())
    theirs = device_of(wire, disabled)
    await count(database, "UPDATE users SET disabled_at = now() WHERE id = $1 RETURNING 1", disabled.id)
    used = device.get(options(wire))
    assert enter(wire, used).status == 200
    bent = ({"shown_id": b"x" * 32}, {"signer": STRANGER}, {"user_handle": b"x"}, {"flags": 1}, {"data": b""})

    replies = [enter(wire, device.get(options(wire), **each)) for each in bent]
    replies += [enter(wire, used), enter(wire, theirs.get(options(wire)))]

    assert replies[0].outcome == (400, "passkey_refused")
    assert len({str(reply.seen_by_a_stranger) for reply in replies}) == 1, [reply.body for reply in replies]


def test_a_challenge_dies_with_the_session_that_asked_for_it(wire: Wire, ada: Account) -> None:
    access, _ = wire.tokens(ada.email, ada.password)
    other, _ = wire.tokens(ada.email, ada.password)
    credential = Authenticator().create(registration(wire, access))
    change = {"current_password": ada.password, "new_password": "an entirely new horse 43"}
    assert wire.post("/auth/password/change", change, bearer=other).status == 204

    assert finish(wire, access, credential).status == 401
    assert finish(wire, other, credential).outcome == (400, "passkey_not_added")


def test_the_passkey_of_another_is_neither_seen_nor_removed(wire: Wire, ada: Account, ben: Account) -> None:
    device_of(wire, ada)
    access, _ = wire.tokens(ada.email, ada.password)
    intruder, _ = wire.tokens(ben.email, ben.password)
    (hers,) = wire.get("/auth/passkeys", bearer=access).json["items"]
    path = f"/auth/passkeys/{hers['id']}"

    assert wire.request("DELETE", path, bearer=intruder).outcome == (404, "passkey_not_found")
    assert wire.get("/auth/passkeys", bearer=intruder).json["items"] == []
    assert wire.get("/auth/passkeys", bearer=access).json["items"] == [hers]


@pytest.mark.parametrize("before", ["genuine", "bent"])
def test_no_more_passkeys_are_tried_from_one_address_than_passwords(
    connect: Connect, ada: Account, before: str
) -> None:
    device = device_of(connect(), ada)
    wire = connect()
    bent = {} if before == "genuine" else {"signer": STRANGER}

    replies = [enter(wire, device.get(options(wire), **bent)) for _ in range(31)]

    assert [reply.status for reply in replies[29:]] == [200 if before == "genuine" else 400, 429]
    assert enter(connect(), device.get(options(wire))).status == 200

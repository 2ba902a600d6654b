"""Attacks on sign-in with others: two processes of one service, and providers that tests bend, all over HTTP."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.responses import HTMLResponse, JSONResponse
from joserfc.jwk import RSAKey

from app_auth.testing import Account
from app_db import Database
from app_runtime.testing.processes import wait_until
from packages.api.tests.features.providers.forgeries import FORGERIES
from packages.api.tests.features.providers.issuer import CLIENT_SECRET, Issuer, open_issuer
from tests.attack.conftest import Connect, Environment, count
from tests.attack.features.providers.journeys import (
    NOBODY_IS_THERE,
    Browser,
    answer,
    answer_link,
    come_back,
    links,
    reset,
    sign_in,
    two_servers,
)
from tests.attack.wire import Wire, at_once
from tests.e2e.processes import Api

type Pair = tuple[Wire, Wire]

REFUSED = (400, "invalid_provider_answer")
TAKEN = (400, "invalid_state")
OUTAGE = (503, "provider_unavailable")
SESSIONS = "SELECT count(*) FROM user_sessions"
ACCOUNTS = "SELECT count(*) FROM users WHERE email = $1"


@pytest.fixture(scope="module")
def issuers() -> Iterator[dict[str, Issuer]]:
    """Two providers, which sign with the same key: only what their tokens say tells them apart."""
    with open_issuer() as acme, open_issuer() as globex:
        yield {"acme": acme, "globex": globex}


@pytest.fixture(scope="module")
def servers(
    environment: Environment, issuers: dict[str, Issuer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Api, Api]]:
    """Two processes that know both, and a third provider that nobody reaches."""
    urls = {name: issuer.url for name, issuer in issuers.items()} | {"gone": NOBODY_IS_THERE}
    yield from two_servers(environment, tmp_path_factory.mktemp("providers"), urls)


@pytest.fixture
def acme(issuers: dict[str, Issuer]) -> Issuer:
    """A provider that nobody has bent."""
    return reset(issuers["acme"])


@pytest.fixture
def globex(issuers: dict[str, Issuer]) -> Issuer:
    """The other one."""
    return reset(issuers["globex"])


@pytest.fixture
def pair(servers: tuple[Api, Api], connect: Connect, acme: Issuer) -> Pair:
    """A client at each of the two processes."""
    first, second = (connect(each) for each in servers)
    return first, second


@pytest.fixture
def wire(pair: Pair) -> Wire:
    """A client at one of them."""
    return pair[0]


def test_the_answer_of_one_provider_is_taken_from_no_other(wire: Wire, acme: Issuer, globex: Issuer) -> None:
    back = come_back(wire)

    assert answer(wire, back, "globex").outcome == TAKEN
    assert answer(wire, {**back, "iss": globex.url}).outcome == REFUSED
    assert answer(wire, {**come_back(wire), "iss": None}).outcome == REFUSED
    assert "/token" not in acme.asked + globex.asked  # no code is told to anybody
    acme.claims = {"iss": globex.url}
    assert answer(wire, come_back(wire)).outcome == REFUSED


def test_the_same_subject_at_another_provider_is_somebody_else(wire: Wire, acme: Issuer, globex: Issuer) -> None:
    mine = wire.me(sign_in(wire)).json
    globex.person = {**globex.person, "sub": acme.person["sub"]}

    theirs = wire.me(sign_in(wire, "globex")).json

    assert theirs["user_id"] != mine["user_id"]
    assert theirs["email"] == globex.person["email"]


async def test_an_answer_is_good_once_at_all_servers_together(pair: Pair, database: Database) -> None:
    back = come_back(pair[0])

    assert answer(pair[1], back).status == 200
    assert [answer(wire, back).outcome for wire in pair] == [TAKEN, TAKEN]
    assert await count(database, SESSIONS) == 1


async def test_of_one_answer_at_two_servers_at_once_one_signs_in(
    connect: Connect, servers: tuple[Api, Api], acme: Issuer, database: Database
) -> None:
    wires = [connect(each) for each in servers * 4]
    back = come_back(wires[0])

    replies = at_once(lambda wire: answer(wire, back), wires)

    assert Counter(reply.outcome for reply in replies) == {(200, None): 1, TAKEN: 7}
    assert acme.asked.count("/token") == 1
    assert await count(database, SESSIONS) == 1


async def test_a_new_person_at_two_servers_at_once_gets_one_account(
    connect: Connect, servers: tuple[Api, Api], acme: Issuer, database: Database
) -> None:
    wires = [connect(each) for each in servers * 3]
    backs = [come_back(wire) for wire in wires]

    replies = at_once(lambda each: answer(*each), [*zip(wires, backs, strict=True)])

    assert {reply.status for reply in replies} == {200}
    assert await count(database, ACCOUNTS, acme.person["email"]) == 1


async def test_a_stolen_code_is_of_no_use_in_another_browser(pair: Pair, database: Database) -> None:
    stolen, own = come_back(pair[0]), come_back(pair[1])

    assert answer(pair[1], {**stolen, "secret": own["secret"]}).outcome == TAKEN
    assert answer(pair[1], {**own, "code": stolen["code"]}).outcome == REFUSED
    assert answer(pair[0], stolen).outcome == REFUSED  # the provider has burnt the code that was tried
    assert await count(database, SESSIONS) == 0


def test_a_victim_who_is_sent_back_with_a_code_of_the_attacker_stays_out(connect: Connect, pair: Pair) -> None:
    returned = Browser(pair[0]).go()
    victim = Browser(pair[0])
    victim.go()  # with a secret of its own
    blank = Browser(pair[1])

    assert [browser.back(returned).status for browser in (victim, blank)] == [400, 400]
    assert not victim.is_signed_in
    assert not blank.is_signed_in


def test_an_identity_of_the_attacker_is_not_linked_with_a_victim(pair: Pair, ada: Account, ben: Account) -> None:
    attacker, _ = pair[0].tokens(ben.email, ben.password)
    victim, _ = pair[1].tokens(ada.email, ada.password)
    begun_to_link = come_back(pair[0], to="link", bearer=attacker)

    assert answer_link(pair[1], begun_to_link, victim).outcome == TAKEN
    assert answer_link(pair[1], come_back(pair[0]), victim).outcome == TAKEN
    assert answer(pair[1], begun_to_link).outcome == TAKEN
    assert links(pair[1], victim) == []


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/console/../auth/me", "/console%2f..", "/console\n"],
)
def test_no_sign_in_leads_elsewhere(wire: Wire, target: str) -> None:
    browser = Browser(wire)

    back = browser.back(browser.go(target))

    assert (back.status, back.headers["Location"]) == (303, "/console")
    assert browser.is_signed_in


@pytest.mark.parametrize("bent", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_token_signs_nobody_in(
    wire: Wire, acme: Issuer, database: Database, bent: dict[str, Any]
) -> None:
    vars(acme).update(bent)

    assert answer(wire, come_back(wire)).outcome == REFUSED
    assert await count(database, ACCOUNTS, acme.person["email"]) == 0


def test_a_new_key_is_found_by_each_server_and_one_that_is_not_published_by_none(pair: Pair, globex: Issuer) -> None:
    for wire in pair:
        sign_in(wire, "globex")
    for kid in ("2", "2"):  # the second is new under an id that was known
        globex.key = RSAKey.generate_key(2048, {"kid": kid})
        for wire in pair:
            sign_in(wire, "globex")

    globex.keys, globex.key = [globex.key.as_dict(private=False)], RSAKey.generate_key(2048, {"kid": "3"})

    assert [answer(wire, come_back(wire, "globex"), "globex").outcome for wire in pair] == [REFUSED, REFUSED]


def test_a_provider_that_is_down_takes_nothing_else_down(pair: Pair, acme: Issuer, ada: Account) -> None:
    for wire in pair:
        gone = wire.post("/auth/providers/gone/start")
        assert gone.outcome == OUTAGE
        assert gone.headers["Retry-After"]
        assert NOBODY_IS_THERE.encode() not in gone.body
        assert wire.login(ada.email, ada.password).status == 200
        sign_in(wire)
    for failing in (lambda: JSONResponse({}, 500), lambda: HTMLResponse("<h1>Maintenance</h1>")):
        acme.answers = {"/token": failing}
        assert answer(pair[0], come_back(pair[0])).outcome == OUTAGE


def test_a_frozen_provider_holds_up_nobody_else(
    connect: Connect, servers: tuple[Api, Api], acme: Issuer, ada: Account
) -> None:
    """More wait than may, and than there are connections to the database."""
    server, _ = servers
    waiting, other = [connect(server) for _ in range(25)], connect(server)
    backs = [come_back(wire) for wire in waiting]
    acme.frozen = {"/token"}
    with ThreadPoolExecutor(len(waiting)) as threads:
        asked = [threads.submit(answer, *each) for each in zip(waiting, backs, strict=True)]
        assert wait_until(lambda: acme.asked.count("/token") == 20, 10)

        access, _ = other.tokens(ada.email, ada.password)
        assert other.me(access).status == 200
        assert not all(each.done() for each in asked)
        outcomes = Counter(each.result().outcome for each in asked)

    assert outcomes == {OUTAGE: 25}
    acme.frozen = set()
    sign_in(other)


async def test_an_address_of_somebody_else_opens_and_links_nothing(
    pair: Pair, acme: Issuer, ada: Account, database: Database
) -> None:
    for email in (ada.email, ada.email.upper()):
        acme.person = {**acme.person, "email": email}
        assert answer(pair[0], come_back(pair[0])).outcome == (403, "provider_not_linked")

    assert await count(database, SESSIONS) == 0
    access, _ = pair[1].tokens(ada.email, ada.password)
    assert links(pair[1], access) == []


async def test_an_address_that_the_provider_does_not_vouch_for_makes_no_account(
    wire: Wire, acme: Issuer, database: Database
) -> None:
    for verified in (False, None, "false", "True", "yes", 1, ["true"]):
        acme.person = {**acme.person, "email_verified": verified}
        assert answer(wire, come_back(wire)).outcome == (403, "provider_address_unverified")

    assert await count(database, ACCOUNTS, acme.person["email"]) == 0


async def test_a_provider_does_not_spare_the_second_factor(pair: Pair, database: Database) -> None:
    generator_of = pytest.importorskip("pyotp").TOTP  # of a feature that may be removed
    access = sign_in(pair[0])
    generator = generator_of(pair[0].post("/auth/totp", bearer=access).json["secret"])
    code = generator.at(datetime.now(UTC))
    assert pair[0].post("/auth/totp/confirm", {"code": code}, bearer=access).status == 200

    browser = Browser(pair[0])
    browser.back(browser.go())
    asked = answer(pair[0], come_back(pair[0]))

    assert not browser.is_signed_in
    assert asked.outcome == (403, "second_factor_required")
    assert await count(database, SESSIONS) == 1
    code = generator.at(datetime.now(UTC), counter_offset=1)
    given = {"challenge": asked.json["challenge"], "code": code}
    assert pair[1].post("/auth/challenge", given).status == 200


async def test_a_provider_opens_no_disabled_account(pair: Pair, acme: Issuer, database: Database) -> None:
    sign_in(pair[0])
    await count(database, "UPDATE users SET disabled_at = now() WHERE email = $1 RETURNING 1", acme.person["email"])

    assert [answer(wire, come_back(wire)).outcome for wire in pair] == [(400, "invalid_grant")] * 2


def test_no_log_has_what_a_sign_in_is_made_of(pair: Pair, servers: tuple[Api, Api], acme: Issuer) -> None:
    browser = Browser(pair[0])
    returned = browser.go()
    assert browser.back(returned).status == 303
    back = come_back(pair[1])
    assert answer(pair[1], back).status == 200
    assert answer(pair[1], {**come_back(pair[1]), "code": "x"}).outcome == REFUSED

    logged = servers[0].output + servers[1].output
    secret = {*returned.values(), *back.values(), *browser.cookies.values(), CLIENT_SECRET, acme.person["email"]}
    assert not [each for each in secret - {acme.url} if each in logged]

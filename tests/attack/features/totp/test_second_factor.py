"""Attacks on one-time codes, at two processes of one service, by who has the password and has seen one code."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from pyotp import TOTP

from app_auth.testing import Account, new_key
from tests.attack.conftest import Connect, StartApi, ring_variable
from tests.attack.wire import Wire, at_once

type Pair = tuple[Wire, Wire]


@pytest.fixture
def pair(start_api: StartApi, connect: Connect) -> Pair:
    """Attackers at two processes that have the same keys for codes."""
    keys = ring_variable((new_key("totp"),))
    first, second = (connect(start_api(APP_TOTP__KEYS=keys)) for _ in range(2))
    return first, second


def turned_on(wire: Wire, account: Account) -> tuple[TOTP, list[str]]:
    """Turn codes on, by the code of this step."""
    access, _ = wire.tokens(account.email, account.password)
    generator = TOTP(wire.post("/auth/totp", bearer=access).json["secret"])
    shown = wire.post("/auth/totp/confirm", {"code": generator.at(datetime.now(UTC))}, bearer=access)
    assert shown.status == 200, shown.body
    return generator, shown.json["recovery_codes"]


def challenge(wire: Wire, account: Account) -> str:
    refused = wire.login(account.email, account.password)
    assert refused.status == 403, refused.body
    return str(refused.json["challenge"])


def answers(pair: Pair, challenges: list[str], code: str) -> Counter[int]:
    """Answer all challenges at the same time with one code, each in turn at another process."""
    wires = [pair[number % 2] for number in range(2)]
    sent = [{"challenge": each, "code": code} for each in challenges]
    replies = at_once(lambda each: each[0].post("/auth/challenge", each[1]), [*zip(wires, sent, strict=True)])
    return Counter(reply.status for reply in replies)


def test_one_code_at_two_servers_at_once_opens_one_session(pair: Pair, ada: Account) -> None:
    generator, _ = turned_on(pair[0], ada)
    code = generator.at(datetime.now(UTC), counter_offset=1)

    assert answers(pair, [challenge(wire, ada) for wire in pair], code) == {200: 1, 400: 1}


def test_one_recovery_code_at_two_servers_at_once_opens_one_session(pair: Pair, ada: Account) -> None:
    _, recovery = turned_on(pair[0], ada)

    assert answers(pair, [challenge(wire, ada) for wire in pair], recovery[0]) == {200: 1, 400: 1}


def test_one_challenge_at_two_servers_at_once_opens_one_session(pair: Pair, ada: Account) -> None:
    _, recovery = turned_on(pair[0], ada)
    waiting = challenge(pair[0], ada)
    sent = [{"challenge": waiting, "code": code} for code in recovery[:2]]

    replies = at_once(lambda each: each[0].post("/auth/challenge", each[1]), [*zip(pair, sent, strict=True)])

    assert sorted(reply.status for reply in replies) == [200, 400]


def test_a_challenge_is_no_token(pair: Pair, ada: Account) -> None:
    turned_on(pair[0], ada)
    waiting = challenge(pair[0], ada)

    assert pair[0].me(waiting).status == 401
    assert pair[0].refresh(waiting).status == 400
    assert pair[0].post("/auth/password/reset", {"token": waiting, "new_password": "a new one, 7 and 8"}).status == 400

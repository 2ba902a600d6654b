"""Cases 49 to 53: guesses one by one, in parallel, from many addresses, and from forged ones."""

import random
from time import sleep

import pytest
import pytest_asyncio

from app_auth.testing import PASSWORD, Account, MakeAccount
from tests.attack.conftest import Connect, StartApi, an_email
from tests.attack.mails import token_mailed_to
from tests.attack.wire import Reply, Wire, an_address, at_once
from tests.e2e.processes import Api, MailSink, Worker

WRONG = "a wrong password, surely"
N = 20
PER_ACCOUNT = 5
PER_ADDRESS = 30


def assert_throttled(reply: Reply) -> None:
    assert reply.outcome == (429, "too_many_requests")
    assert reply.headers["Retry-After"].isdecimal()
    assert 1 <= int(reply.headers["Retry-After"]) <= 300


@pytest_asyncio.fixture(loop_scope="session")
async def crowd(make_account: MakeAccount) -> list[Account]:
    """As many accounts as one address may try."""
    return [await make_account(email=an_email()) for _ in range(PER_ADDRESS)]


# cases 49, 50
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_the_sixth_guess_at_an_account_is_refused_and_so_is_the_right_password(
    connect: Connect, ada: Account, ben: Account, known: bool
) -> None:
    wire = connect()
    email = ada.email if known else an_email()

    replies = [wire.login(email, WRONG) for _ in range(PER_ACCOUNT)]

    assert {reply.outcome for reply in replies} == {(400, "invalid_grant")}
    assert_throttled(wire.login(email, WRONG))
    assert_throttled(wire.login(email.upper(), ada.password))
    assert wire.login(ben.email, ben.password).status == 200


# case 49
def test_the_owner_at_another_address_is_not_locked_out(connect: Connect, ada: Account) -> None:
    attacker = connect()
    for _ in range(PER_ACCOUNT + 1):
        attacker.login(ada.email, WRONG)

    assert connect().login(ada.email, ada.password).status == 200


# case 49
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_no_more_parallel_guesses_at_two_servers_are_tried_than_one_after_the_other(
    api: Api, twin: Api, connect: Connect, ada: Account, known: bool
) -> None:
    address, email = an_address(), ada.email if known else an_email()
    wires = [connect(to, address=address) for to in (api, twin) for _ in range(N // 2)]

    replies = at_once(lambda wire: wire.login(email, WRONG), wires)

    statuses = [reply.status for reply in replies]
    assert (statuses.count(400), statuses.count(429)) == (PER_ACCOUNT, N - PER_ACCOUNT), statuses


# case 49
@pytest.mark.slow  # a window of five seconds
def test_a_throttled_account_is_let_in_when_the_window_has_passed(
    start_api: StartApi, connect: Connect, ada: Account
) -> None:
    wire = connect(start_api(APP_THROTTLE__LOGIN_ACCOUNT="5/5s"))
    for _ in range(PER_ACCOUNT):
        assert wire.login(ada.email, WRONG).status == 400
    refused = wire.login(ada.email, ada.password)
    assert_throttled(refused)

    sleep(int(refused.headers["Retry-After"]))

    wire.reconnect()
    assert wire.login(ada.email, ada.password).status == 200


# case 49
def test_right_passwords_are_not_counted_against_the_account(wire: Wire, ada: Account) -> None:
    for _ in range(PER_ACCOUNT + 3):
        assert wire.login(ada.email, ada.password).status == 200


# case 51
def test_one_address_tries_thirty_accounts_and_no_more(connect: Connect, crowd: list[Account], ada: Account) -> None:
    wire = connect()
    for account in crowd:
        assert wire.login(account.email, WRONG).status == 400

    assert_throttled(wire.login(ada.email, ada.password))
    assert connect().login(ada.email, ada.password).status == 200


# case 51
def test_one_address_tries_no_more_accounts_in_parallel_at_two_servers(
    api: Api, twin: Api, connect: Connect, crowd: list[Account]
) -> None:
    address = an_address()
    wires = [connect(to, address=address) for to in (api, twin) for _ in range(PER_ADDRESS // 2 + 5)]
    emails = [account.email for account in crowd] + [an_email() for _ in range(10)]

    replies = at_once(lambda each: each[0].login(each[1], WRONG), list(zip(wires, emails, strict=True)))

    statuses = [reply.status for reply in replies]
    assert (statuses.count(400), statuses.count(429)) == (PER_ADDRESS, 10), statuses


# case 51
@pytest.mark.parametrize(
    ("path", "fields", "limit"),
    [
        ("/auth/register", {"email": "", "password": PASSWORD}, 10),
        ("/auth/password/forgot", {"email": ""}, 10),
        ("/auth/email/verify/resend", {"email": ""}, 10),
        ("/auth/email/verify", {"token": "x", "password": PASSWORD}, 30),
        ("/auth/password/reset", {"token": "x", "new_password": PASSWORD}, 30),
        ("/auth/refresh-token", {"refresh_token": "x"}, 150),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_strangers_may_do_is_limited_by_address(
    connect: Connect, path: str, fields: dict[str, str], limit: int
) -> None:
    wire = connect()

    def ask(which: Wire) -> Reply:
        return which.post(path, {name: text or an_email() for name, text in fields.items()})

    assert [ask(wire).status for _ in range(limit)].count(429) == 0
    refused = ask(wire)
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert ask(connect()).status != 429


# case 52
@pytest.mark.slow  # a server of its own
def test_an_address_that_a_stranger_claims_to_have_is_not_believed(
    start_api: StartApi, connect: Connect, ada: Account
) -> None:
    api = start_api(APP_HTTP__TRUSTED_PROXIES='["192.0.2.0/24"]')

    statuses = [connect(api, address=an_address()).login(ada.email, WRONG).status for _ in range(PER_ACCOUNT + 1)]

    assert statuses == [400] * PER_ACCOUNT + [429]


# case 52
@pytest.mark.parametrize("claimed", ["{random}, {own}", "unknown, {own}", "{random},{random}, {own}"])
def test_of_many_forwarded_addresses_the_rightmost_counts(connect: Connect, ada: Account, claimed: str) -> None:
    own = an_address()

    def said() -> str:
        return claimed.format(random=an_address(), own=own)

    statuses = [connect(address=said()).login(ada.email, WRONG).status for _ in range(PER_ACCOUNT + 1)]

    assert statuses == [400] * PER_ACCOUNT + [429]


# case 52
def test_a_proxy_that_names_itself_is_passed_over(connect: Connect, ada: Account) -> None:
    own = an_address()

    wires = [connect(address=f"{own}, 127.0.0.1") for _ in range(PER_ACCOUNT + 1)]

    assert [wire.login(ada.email, WRONG).status for wire in wires] == [400] * PER_ACCOUNT + [429]
    assert connect().login(ada.email, ada.password).status == 200


# case 52
def test_a_forwarded_address_that_is_none_is_not_one_of_its_own(connect: Connect, ada: Account) -> None:
    nonsense = ("unknown", "999.1.1.1", "evil", "::g", "1" * 5000, "198.18.0.1:80x", ",")

    statuses = [connect(address=each).login(ada.email, WRONG).status for each in nonsense]

    assert statuses == [400] * PER_ACCOUNT + [429] * (len(nonsense) - PER_ACCOUNT)


# case 52
def test_the_addresses_of_one_customer_are_one_address(connect: Connect, ada: Account) -> None:
    network = f"2001:db8:{random.randrange(2**16):x}:{random.randrange(2**16):x}"
    wires = [connect(address=f"{network}::{random.randrange(2**16):x}") for _ in range(PER_ACCOUNT + 1)]

    assert [wire.login(ada.email, WRONG).status for wire in wires] == [400] * PER_ACCOUNT + [429]


# case 53
@pytest.mark.slow  # two hundred guesses
async def test_a_victim_of_two_hundred_guesses_keeps_the_session_and_can_reset(
    connect: Connect, ada: Account, worker: Worker, mail_sink: MailSink
) -> None:
    victim = connect()
    access, refresh = victim.tokens(ada.email, ada.password)
    attackers = [connect() for _ in range(20)]

    statuses = [attacker.login(ada.email, WRONG).status for attacker in attackers for _ in range(10)]

    assert statuses.count(400) <= 100
    assert set(statuses) == {400, 429}
    victim.reconnect()
    assert victim.me(access).status == 200
    assert victim.refresh(refresh).status == 200
    assert victim.post("/auth/password/forgot", {"email": ada.email}).status == 202
    token = await token_mailed_to(mail_sink, ada.email, "reset")
    victim.reconnect()
    fields = {"token": token, "new_password": "an entirely new horse 53"}
    assert victim.post("/auth/password/reset", fields).status == 204


# case 53
@pytest.mark.slow  # more than a hundred guesses
def test_an_account_is_guessed_at_a_hundred_times_a_day_and_no_more(connect: Connect, ada: Account) -> None:
    statuses = []
    for _ in range(21):
        attacker = connect()
        statuses += [attacker.login(ada.email, WRONG).status for _ in range(PER_ACCOUNT)]

    assert (statuses.count(400), statuses.count(429)) == (100, 5)

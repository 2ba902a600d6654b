"""Cases 20 to 22: whether the time of an answer tells who has an account.

The requests come in pairs, in alternating order, so that other load on the machine slows both of a pair; the medians
are compared. A measurement on a busy machine may fail once: three in a row are a leak.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import asyncpg
import bcrypt
import pytest
import pytest_asyncio

from app_auth.auth import open_auth
from app_auth.settings import AuthSettings
from app_auth.testing import PASSWORD
from app_db import Database
from app_db.testing.plugin import MakeUser
from tests.attack.conftest import Environment, an_email
from tests.attack.wire import Reply, Wire, an_address
from tests.e2e.processes import Api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRIES = 3
WRONG = "a wrong password, surely"
ROUNDS = 12

type Ask = Callable[[str], Reply]


@pytest.fixture(scope="module")
def real_api(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose hashes cost what they cost in production."""
    told = {**environment, "APP_AUTH__BCRYPT_ROUNDS": str(ROUNDS)}
    api = Api(env=told, log=tmp_path_factory.mktemp("timing") / "log")
    yield api
    api.kill()


@pytest.fixture
def asking(real_api: Api, database: Database) -> Iterator[Wire]:
    """One connection, for all of a measurement."""
    wire = Wire(real_api.url)
    yield wire
    wire.close()


def from_anywhere(wire: Wire) -> Wire:
    """The same connection, as if from a new address, so that no limit is reached."""
    wire.address = an_address()
    return wire


def milliseconds(ask: Callable[[], Reply], status: int) -> float:
    began = time.perf_counter()
    reply = ask()
    took = time.perf_counter() - began
    assert reply.status == status, reply.body
    return took * 1000


def difference(ask: Ask, one: Sequence[str], other: Sequence[str], *, status: int) -> float:
    """Return by how many milliseconds the medians differ, over pairs of requests in alternating order."""
    times: tuple[list[float], list[float]] = ([], [])
    for number, pair in enumerate(zip(one, other, strict=True)):
        for which in (0, 1) if number % 2 else (1, 0):
            email = pair[which]
            times[which].append(milliseconds(lambda email=email: ask(email), status))  # type: ignore[misc]  # mypy infers no type for a lambda with a default
    return abs(statistics.median(times[0]) - statistics.median(times[1]))


def assert_indistinguishable(measure: Callable[[], float], *, within: float) -> None:
    differences = []
    for _ in range(TRIES):
        differences.append(measure())
        if differences[-1] <= within:
            return
    pytest.fail(f"medians differ by {differences} ms, each time by more than {within}")


def strangers(number: int) -> list[str]:
    return [an_email() for _ in range(number)]


@pytest_asyncio.fixture(loop_scope="session")
async def people(make_user: MakeUser, database: Database, auth_settings: AuthSettings) -> dict[str, list[str]]:
    """Addresses of accounts of every kind: verified, disabled, unverified, and with a hash of an older system."""

    with open_auth(auth_settings.model_copy(update={"bcrypt_rounds": ROUNDS})) as auth:
        ours = await auth.passwords.hash(PASSWORD)
    older = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(ROUNDS)).decode()
    kinds = {"verified": ours, "disabled": ours, "unverified": ours, "legacy": older}
    made = {
        kind: [(await make_user(email=an_email(), password_hash=stored)).email for _ in range(25)]
        for kind, stored in kinds.items()
    }
    connection = await asyncpg.connect(database.settings.direct_dsn)
    verified = made["verified"] + made["disabled"] + made["legacy"]
    await connection.execute("UPDATE users SET email_verified_at = now() WHERE email = ANY($1)", verified)
    await connection.execute("UPDATE users SET disabled_at = now() WHERE email = ANY($1)", made["disabled"])
    await connection.close()
    return made


# case 21
@pytest.mark.parametrize("kind", ["verified", "disabled", "unverified", "legacy"])
def test_a_refused_login_takes_as_long_for_an_account_as_for_none(
    asking: Wire, people: dict[str, list[str]], kind: str
) -> None:
    known = people[kind]

    def measure() -> float:

        return difference(
            lambda email: from_anywhere(asking).login(email, WRONG),
            [email for email in known for _ in range(4)],
            strangers(4 * len(known)),
            status=400,
        )

    assert_indistinguishable(measure, within=15)


# case 20
def test_registering_takes_as_long_for_an_account_as_for_none(asking: Wire, people: dict[str, list[str]]) -> None:
    known = people["verified"] + people["unverified"]

    def measure() -> float:
        return difference(
            lambda email: from_anywhere(asking).register(email, PASSWORD), known, strangers(len(known)), status=202
        )

    assert_indistinguishable(measure, within=15)


# case 22
@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/email/verify/resend"])
def test_asking_for_a_link_takes_as_long_for_an_account_as_for_none(
    asking: Wire, people: dict[str, list[str]], path: str
) -> None:
    known = [email for kind in people.values() for email in kind]

    def measure() -> float:
        return difference(
            lambda email: from_anywhere(asking).post(path, {"email": email}),
            known,
            strangers(len(known)),
            status=202,
        )

    assert_indistinguishable(measure, within=5)

"""The throttle of one process: the hits that it counts for addresses and accounts, and those that it gives back."""

import asyncio

import pytest

from app_auth.client import NOBODY, Client
from app_auth.errors import HashingBusy, InvalidCredentials, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.throttle import Throttle

ADA, GRACE = "ada@example.test", "grace@example.test"
HOME, CAFE = Client("192.0.2.1"), Client("198.51.100.7")


def throttle_of(**limits: str) -> Throttle:
    return Throttle(ThrottleSettings(**limits), secret=b"a secret")


async def fail(throttle: Throttle, client: Client, account: str, *, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(InvalidCredentials):
            async with throttle.login(client, account):
                raise InvalidCredentials


async def succeed(throttle: Throttle, client: Client, account: str) -> None:
    async with throttle.login(client, account):
        pass


async def test_without_valkey_a_full_bucket_refuses() -> None:
    throttle = throttle_of()
    await fail(throttle, HOME, ADA, times=5)

    with pytest.raises(Throttled):
        await succeed(throttle, HOME, ADA)


async def test_who_guesses_at_one_account_may_sign_in_to_another() -> None:
    throttle = throttle_of()
    await fail(throttle, HOME, ADA, times=5)

    await succeed(throttle, HOME, GRACE)


async def test_guesses_from_elsewhere_leave_the_owner_alone() -> None:
    throttle = throttle_of()
    await fail(throttle, CAFE, ADA, times=5)

    await succeed(throttle, HOME, ADA)


async def test_the_guesses_of_a_day_count_from_everywhere() -> None:
    throttle = throttle_of()
    for number in range(20):
        await fail(throttle, Client(f"203.0.113.{number}"), ADA, times=5)

    with pytest.raises(Throttled):
        await succeed(throttle, HOME, ADA)


async def test_a_check_that_succeeds_is_not_counted_for_the_account() -> None:
    throttle = throttle_of()
    for _ in range(6):
        await succeed(throttle, HOME, ADA)

    await fail(throttle, HOME, ADA, times=5)


@pytest.mark.parametrize("outage", [HashingBusy, ConnectionError])
async def test_a_check_that_could_not_be_carried_out_is_not_counted_for_the_account(outage: type[Exception]) -> None:
    throttle = throttle_of()
    for _ in range(6):
        with pytest.raises(outage):
            async with throttle.login(HOME, ADA):
                raise outage

    await succeed(throttle, HOME, ADA)


async def test_a_check_that_is_cancelled_stays_counted() -> None:
    throttle = throttle_of(login_account="1/5m")
    with pytest.raises(asyncio.CancelledError):
        async with throttle.login(HOME, ADA):
            raise asyncio.CancelledError

    with pytest.raises(Throttled):
        await succeed(throttle, HOME, ADA)


async def test_an_address_has_tried_whether_it_succeeds_or_not() -> None:
    throttle = throttle_of()
    for number in range(30):
        await succeed(throttle, HOME, f"{number}@example.test")

    with pytest.raises(Throttled):
        await succeed(throttle, HOME, ADA)


async def test_addresses_of_one_ipv6_network_share_their_limits() -> None:
    throttle = throttle_of()
    await fail(throttle, Client("2001:db8::1"), ADA, times=5)

    with pytest.raises(Throttled):
        await succeed(throttle, Client("2001:db8::2"), ADA)


async def test_whoever_has_no_address_is_limited_too() -> None:
    throttle = throttle_of(register_ip="1/h")
    await throttle.register(NOBODY)

    with pytest.raises(Throttled):
        await throttle.register(NOBODY)


@pytest.mark.parametrize(("name", "count"), [("register", 10), ("forgot", 10), ("refresh", 150), ("one_time", 30)])
async def test_each_thing_has_a_limit_of_its_own(name: str, count: int) -> None:
    throttle = throttle_of()
    for _ in range(count):
        await getattr(throttle, name)(HOME)

    with pytest.raises(Throttled):
        await getattr(throttle, name)(HOME)
    for other in {"register", "forgot", "refresh", "one_time"} - {name}:
        await getattr(throttle, other)(HOME)


@pytest.mark.parametrize(("limit", "seconds"), [("1/1s", 1), ("1/90s", 90), ("1/5m", 300), ("1/7d", 300)])
async def test_who_is_refused_is_told_whole_seconds(limit: str, seconds: int) -> None:
    throttle = throttle_of(register_ip=limit)
    await throttle.register(HOME)

    with pytest.raises(Throttled) as refusal:
        await throttle.register(HOME)

    assert refusal.value.retry_after == seconds

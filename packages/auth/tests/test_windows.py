"""Sliding windows in memory, compared with the plainest implementation."""

from hypothesis import given
from hypothesis import strategies as st

from app_auth.limits import Hit, Limit
from app_auth.windows import LocalWindows

type Seconds = list[tuple[int, bool]]

IP = Hit("ip", "ip:1", Limit(3, 10))
ACCOUNT = Hit("account", "account:1", Limit(2, 25))


def hits_within(stamps: list[int], limit: Limit, now: int) -> int:
    return sum(now - stamp < limit.seconds for stamp in stamps)


@given(st.lists(st.tuples(st.integers(min_value=0, max_value=12), st.booleans())))
def test_every_window_holds_what_is_allowed_and_no_less(steps: Seconds) -> None:
    windows, now = LocalWindows(), 0
    counted: dict[str, list[int]] = {IP.key: [], ACCOUNT.key: []}

    for pause, succeeds in steps:
        now += pause
        room = all(hits_within(counted[hit.key], hit.limit, now) < hit.limit.count for hit in (IP, ACCOUNT))
        assert (windows.hit((IP, ACCOUNT), now=now) == 0) == room
        if room:
            counted[IP.key].append(now)
            if succeeds:
                windows.give_back((ACCOUNT,), stamp=now)
            else:
                counted[ACCOUNT.key].append(now)


@given(st.lists(st.integers(min_value=0, max_value=12), min_size=1))
def test_after_the_wait_that_was_said_a_hit_is_allowed_and_no_sooner(pauses: list[int]) -> None:
    windows, now = LocalWindows(), 0.0

    for pause in pauses:
        now += pause
        if wait := windows.hit((IP, ACCOUNT), now=now):
            assert windows.hit((IP, ACCOUNT), now=now + wait - 0.5) == 0.5
            now += wait
            assert windows.hit((IP, ACCOUNT), now=now) == 0


def test_a_refused_hit_counts_nowhere() -> None:
    windows = LocalWindows()
    for now in range(2):
        windows.hit((IP, ACCOUNT), now=now)

    assert windows.hit((IP, ACCOUNT), now=2) > 0

    assert windows.hit((IP,), now=2) == 0  # its third, not its fourth


def test_a_bucket_that_was_given_back_whole_is_forgotten() -> None:
    windows = LocalWindows()
    windows.hit((ACCOUNT,), now=1)

    windows.give_back((ACCOUNT,), stamp=1)

    assert len(windows) == 0


def test_what_was_forgotten_can_still_be_given_back() -> None:
    windows = LocalWindows(most=1)
    windows.hit((ACCOUNT,), now=1)
    windows.hit((IP,), now=2)

    windows.give_back((ACCOUNT,), stamp=1)

    assert len(windows) == 1


def test_the_memory_of_the_limiter_is_bounded() -> None:
    windows = LocalWindows(most=10)

    for number in range(1000):
        windows.hit((Hit("ip", f"ip:{number}", Limit(1, 10)),), now=number)

    assert len(windows) == 10


def test_the_bucket_that_was_hit_last_is_forgotten_last() -> None:
    windows = LocalWindows(most=2)
    windows.hit((IP,), now=0)
    windows.hit((ACCOUNT,), now=1)
    windows.hit((IP,), now=2)

    windows.hit((Hit("ip", "ip:2", Limit(1, 10)),), now=3)

    assert windows.hit((IP,), now=3) == 0
    assert windows.hit((IP,), now=3) > 0

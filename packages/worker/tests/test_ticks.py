"""Ticks at changes of the clock, compared with a slow oracle: a clock that is looked at each second."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from app_worker.schedule import CatchUp, Cron

from .conftest import Note

SECOND = timedelta(seconds=1)

# Moments near which clocks changed: half an hour and two hours, over midnight and over a day, forward in winter.
CHANGES = [
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00Z"),
    ("America/Santiago", "2026-04-05T03:00Z"),
    ("America/Santiago", "2026-09-06T04:00Z"),
    ("America/St_Johns", "2006-10-29T02:31Z"),
    ("America/Nuuk", "2026-03-29T01:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00Z"),
    ("Antarctica/Casey", "2020-10-03T16:01Z"),
    ("America/Caracas", "2016-05-01T07:00Z"),
    ("Asia/Pyongyang", "2018-05-04T15:00Z"),
    ("Asia/Kathmandu", "1985-12-31T18:30Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"),
    ("Pacific/Apia", "2011-04-02T14:00Z"),
    ("Pacific/Chatham", "2026-04-04T14:00Z"),
    ("Africa/Monrovia", "1972-01-07T00:44:30Z"),
    ("UTC", "2026-03-29T01:00Z"),
]
AROUND = timedelta(hours=2)

type Field = tuple[str, frozenset[int]]

EACH_SECOND: list[Field] = [("0", frozenset({0})), ("*/20", frozenset({0, 20, 40})), ("5,59", frozenset({5, 59}))]
MINUTES: list[Field] = [
    ("*", frozenset(range(60))),
    ("*/7", frozenset(range(0, 60, 7))),
    ("0", frozenset({0})),
    ("30", frozenset({30})),
    ("5,45", frozenset({5, 45})),
    ("0-59/13", frozenset(range(0, 60, 13))),
]
HOURS: list[Field] = [
    ("*", frozenset(range(24))),
    ("*/2", frozenset(range(0, 24, 2))),
    ("0-4", frozenset(range(5))),
    ("2", frozenset({2})),
    ("1,3", frozenset({1, 3})),
    ("0,23", frozenset({0, 23})),
    ("0-23", frozenset(range(24))),
]


@cache
def looks(zone: str, change: datetime) -> list[tuple[datetime, datetime]]:
    """Return each second around a change, and the time that the clock shows then."""
    clock = ZoneInfo(zone)
    moments = [change - AROUND + second * SECOND for second in range(int(2 * AROUND / SECOND))]
    return [(moment, moment.astimezone(clock).replace(tzinfo=None)) for moment in moments]


def oracle(zone: str, change: datetime, *, second: Field, minute: Field, hour: Field) -> Iterator[datetime]:
    """Yield the ticks by looking at the clock each second."""

    def fits(shown: datetime) -> bool:
        return shown.second in second[1] and shown.minute in minute[1] and shown.hour in hour[1]

    is_interval = minute[0].startswith("*") or hour[0].startswith("*")
    seen = looks(zone, change)[0][1] - SECOND
    for moment, shown in looks(zone, change):
        if is_interval:
            if fits(shown):
                yield moment
        elif shown > seen:
            # Times that the clock has not shown before: one, or more where it was moved forward.
            passed = (seen + number * SECOND for number in range(1, int((shown - seen) / SECOND) + 1))
            if any(map(fits, passed)):
                yield moment
            seen = shown


@pytest.mark.parametrize(("zone", "changed_at"), CHANGES)
def test_ticks_are_those_of_a_clock_that_is_looked_at_each_second(zone: str, changed_at: str) -> None:
    """CronSim 2.8 loses ticks where clocks change by half an hour, and with seconds those of a skipped hour."""
    change = datetime.fromisoformat(changed_at)
    begin, end = change - AROUND - SECOND, change + AROUND - SECOND
    chance = random.Random(f"{zone} {changed_at}")  # so that a failure comes again
    fields = [(second, minute, hour) for second in EACH_SECOND for minute in MINUTES for hour in HOURS]

    for second, minute, hour in chance.sample(fields, 6):
        expression = f"{second[0]} {minute[0]} {hour[0]} * * *"
        expected = list(oracle(zone, change, second=second, minute=minute, hour=hour))
        crons = [Cron("test", expression, Note, timezone=zone, catch_up=CatchUp.ALL)]
        if second[0] == "0":
            crons.append(Cron("test", expression.removeprefix("0 "), Note, timezone=zone))
        for cron in crons:
            ticks = []
            tick = cron.next_tick(begin)
            while tick <= end:
                ticks.append(tick)
                tick = cron.next_tick(tick)  # a new question each time, also within an hour that is repeated
            assert ticks == expected, (cron.expression, zone)
            for asked in chance.sample(looks(zone, change), 8):
                after = next((tick for tick in expected if tick > asked[0]), None)
                assert after is None or cron.next_tick(asked[0] + timedelta(milliseconds=250)) == after


@pytest.mark.parametrize("expression", ["*/7 2 * * *", "5 */2 * * *", "*/10 * * * * *", "30 2 * * *"])
def test_what_is_yielded_in_one_go_is_what_single_questions_find(expression: str) -> None:
    cron = Cron("test", expression, Note, timezone="Australia/Lord_Howe", catch_up=CatchUp.ALL)
    begin, end = datetime(2026, 4, 4, 11, tzinfo=UTC), datetime(2026, 4, 4, 18, tzinfo=UTC)

    fired: list[datetime] = []
    seen = begin
    while due := cron.due_ticks(seen, end):
        fired += due
        seen = due[-1]

    single = []
    tick = cron.next_tick(begin)
    while tick <= end:
        single.append(tick)
        tick = cron.next_tick(tick)
    assert fired == single == sorted(set(single))


def test_rare_ticks_are_found_years_ahead() -> None:
    leap = Cron("test", "* 3 29 2 *", Note, timezone="America/New_York")

    assert leap.next_tick(datetime(2025, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, 8, tzinfo=UTC)


def test_a_rare_tick_right_at_a_change_is_found_from_far_away() -> None:
    """In 2026 the clocks of Berlin change on that day."""
    cron = Cron("test", "*/30 2 25 10 *", Note, timezone="Europe/Berlin")

    ticks = [cron.next_tick(datetime(2025, 11, 1, tzinfo=UTC))]
    while len(ticks) < 5:
        ticks.append(cron.next_tick(ticks[-1]))

    assert [tick.isoformat()[:16] for tick in ticks] == [
        "2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2027-10-25T00:00",
    ]  # fmt: skip

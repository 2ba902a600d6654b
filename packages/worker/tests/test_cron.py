"""When a cron ticks, and which of its ticks fire: time zones, changes of the clock, and missed ticks."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from app_db.jobs.timetables import MOST_AT_ONCE
from app_worker.crons import CRONS
from app_worker.schedule import CatchUp, Cron

from .conftest import Note


def test_every_cron_has_a_name_of_its_own() -> None:
    assert len({cron.name for cron in CRONS}) == len(CRONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expression": "61 * * * *"}, "'61 .*' has no ticks: Bad minute"),
        ({"expression": "* * *"}, "has no ticks: Wrong number of fields"),
        ({"expression": "0 0 30 2 *"}, "has no ticks: Bad day-of-month"),
        ({"expression": "0 0 */31 2 MON#5"}, "has no ticks: no such day"),
        ({"expression": "* 0 */31 2 MON#5"}, "has no ticks: no such day"),
        ({"timezone": "Europe/Atlantis"}, "no time zone 'Europe/Atlantis'"),
        ({"timezone": "../etc/localtime"}, "no time zone"),
        ({"priority": 32768}, "priority 32768 is not between -32768 and 32767"),
        ({"priority": -32769}, "priority -32769 is not between"),
        ({"catch_up": CatchUp.ALL, "overlap": False}, "must not overlap"),
    ],
)
def test_a_cron_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^cron test: .*{message}"):
        Cron("test", **{"expression": "* * * * *", "payload": Note, **options})


def at(text_: str) -> datetime:
    return datetime.fromisoformat(text_)


def test_the_next_tick_is_after_now() -> None:
    hourly = Cron("test.hourly", "0 * * * *", Note)

    assert hourly.next_tick(at("2026-11-23T05:00:00Z")) == at("2026-11-23T06:00:00Z")
    assert hourly.next_tick(at("2026-11-23T04:59:59.999999Z")) == at("2026-11-23T05:00:00Z")


def test_a_sixth_field_at_the_front_is_the_seconds() -> None:
    assert Cron("test", "*/20 * * * * *", Note).next_tick(at("2026-11-23T05:00:01Z")) == at("2026-11-23T05:00:20Z")


def every_minute(catch_up: CatchUp) -> Cron:
    return Cron("test.minutes", "* * * * *", Note, catch_up=catch_up)


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_tick_that_was_not_missed_fires_at_its_time(catch_up: CatchUp) -> None:
    seen, tick = at("2026-11-23T05:00Z"), at("2026-11-23T05:01Z")

    assert every_minute(catch_up).due_ticks(seen, tick) == [tick]


@pytest.mark.parametrize(
    ("catch_up", "ticks"),
    [
        (CatchUp.SKIP, ["2026-11-23T05:03Z"]),
        (CatchUp.ONE, ["2026-11-23T05:03Z"]),
        (CatchUp.ALL, ["2026-11-23T05:01Z", "2026-11-23T05:02Z", "2026-11-23T05:03Z"]),
    ],
)
def test_what_fires_of_missed_ticks_is_for_the_cron_to_say(catch_up: CatchUp, ticks: list[str]) -> None:
    seen, now = at("2026-11-23T05:00Z"), at("2026-11-23T05:03:30Z")

    assert every_minute(catch_up).due_ticks(seen, now) == [at(tick) for tick in ticks]


@pytest.mark.parametrize(("catch_up", "ticks"), [(CatchUp.SKIP, 0), (CatchUp.ONE, 1), (CatchUp.ALL, 1)])
def test_a_yearly_tick_that_was_missed_by_a_month_fires_unless_it_is_to_be_skipped(
    catch_up: CatchUp, ticks: int
) -> None:
    yearly = Cron("test.yearly", "0 0 1 1 *", Note, catch_up=catch_up)

    assert yearly.due_ticks(at("2025-01-01T00:00Z"), at("2026-02-01T00:00Z")) == [at("2026-01-01T00:00Z")] * ticks


def test_years_of_missed_ticks_are_caught_up_by_the_newest() -> None:
    seen, now = at("2016-11-23T05:00Z"), at("2026-11-23T05:03:30Z")

    assert every_minute(CatchUp.ONE).due_ticks(seen, now) == [at("2026-11-23T05:03Z")]


def test_at_most_a_hundred_ticks_fire_at_once_and_none_is_left_out() -> None:
    cron = every_minute(CatchUp.ALL)
    seen, now = at("2026-11-23T05:00Z"), at("2026-11-23T07:30Z")

    first = cron.due_ticks(seen, now)
    rest = cron.due_ticks(first[-1], now)

    assert len(first) == MOST_AT_ONCE
    assert first + rest == [seen + timedelta(minutes=minutes) for minutes in range(1, 151)]


def berlin(expression: str) -> Cron:
    return Cron("test.berlin", expression, Note, timezone="Europe/Berlin")


# On 29 March 2026 at 01:00 UTC the clocks of Berlin go from 02:00 to 03:00, on 25 October from 03:00 back to 02:00.


def test_a_time_that_a_spring_night_does_not_have_ticks_when_the_clock_has_jumped() -> None:
    nightly = berlin("30 2 * * *")

    assert nightly.next_tick(at("2026-03-28T12:00Z")) == at("2026-03-29T01:00Z")
    assert nightly.next_tick(at("2026-03-29T12:00Z")) == at("2026-03-30T00:30Z")


def test_a_time_that_an_autumn_night_has_twice_ticks_once() -> None:
    nightly = berlin("30 2 * * *")

    assert nightly.next_tick(at("2026-10-24T12:00Z")) == at("2026-10-25T00:30Z")
    assert nightly.next_tick(at("2026-10-25T00:30Z")) == at("2026-10-26T01:30Z")
    assert nightly.next_tick(at("2026-10-25T01:15Z")) == at("2026-10-26T01:30Z")  # in the second of the two hours


# The clocks of Cairo jump over midnight, those of Santiago fall back to before it.
NIGHTS = [
    ("Europe/Berlin", "2026-03-28T20:00Z"),
    ("Europe/Berlin", "2026-10-24T20:00Z"),
    ("Africa/Cairo", "2026-04-23T16:00Z"),
    ("America/Santiago", "2026-04-04T20:00Z"),
]


@pytest.mark.parametrize(("timezone", "night"), NIGHTS)
@pytest.mark.parametrize(
    "expression", ["*/10 * * * *", "15 * * * *", "30 2 * * *", "0 3 * * *", "5 0-3 * * *", "30 0 * * *", "0 0 * * SUN"]
)
def test_looks_at_any_time_of_such_a_night_fire_each_tick_once(expression: str, timezone: str, night: str) -> None:
    cron = Cron("test", expression, Note, timezone=timezone, catch_up=CatchUp.ALL)
    looks = [at(night) + timedelta(minutes=minutes, seconds=7) for minutes in range(0, 720, 5)]
    missed = cron.due_ticks(looks[0], looks[-1])

    seen, fired = looks[0], list[datetime]()
    for look in looks:
        fired += cron.due_ticks(seen, look)
        seen = look

    assert fired == missed == sorted(set(missed))


def test_an_interval_goes_on_through_the_hour_that_is_repeated() -> None:
    cron = berlin("*/30 * * * *")
    ticks = [at("2026-10-25T00:00Z")]

    while ticks[-1] < at("2026-10-25T02:00Z"):
        ticks.append(cron.next_tick(ticks[-1]))

    assert [tick.strftime("%H:%M") for tick in ticks] == ["00:00", "00:30", "01:00", "01:30", "02:00"]

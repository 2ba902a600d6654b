"""The ticks of a cron expression in a time zone, across changes of its clock.

CronSim finds the times that fit an expression on a clock that never changes; this module turns them into UTC.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

SECOND = timedelta(seconds=1)
LOOK_AHEAD = timedelta(days=7)
"""How far ahead one search for a change of the clock looks."""
STEP = timedelta(hours=1)
"""No zone has changed its clock twice within this time."""
CLOCKS_DIFFER = timedelta(days=2)
"""Two offsets of one zone differ by less than this, even where a zone skipped a day."""


def ticks_after(expression: str, zone: ZoneInfo, time: datetime) -> Iterator[datetime]:
    """Yield the moments after `time` at which an expression ticks, in UTC, each once and in order.

    If minute or hour begins with `*`, it ticks at all moments at which the clock of the zone shows a time that fits.
    Other times are fixed: each ticks when the clock first shows it, or has passed over it.

    Raises:
        CronSimError: for a wrong expression; the iteration ends where there are no ticks for fifty years.
    """
    minute_and_hour = expression.split()[-5:-3]
    is_interval = any(field.startswith("*") for field in minute_and_hour)
    begin = time.replace(microsecond=0)
    return (_of_an_interval if is_interval else _of_fixed_times)(expression, zone, begin)


def _of_fixed_times(expression: str, zone: ZoneInfo, time: datetime) -> Iterator[datetime]:
    last = time
    for shown in _times(expression, _shown(time, zone)):
        tick = _first_moment(shown, zone)
        # In a repeated hour the clock shows times that have ticked before; all times of a gap tick once, at its end.
        if tick <= last:
            continue  # guard: test_ticks_are_those_of_a_clock_that_is_looked_at_each_second
        last = tick
        yield tick


def _of_an_interval(expression: str, zone: ZoneInfo, time: datetime) -> Iterator[datetime]:
    """Go from change to change of the clock; between two changes it runs as CronSim expects."""
    while True:
        end = _end_of_stretch(time, zone)
        offset = _offset(time, zone)
        for shown in _times(expression, _shown(time, zone)):
            tick = shown.replace(tzinfo=UTC) - offset
            if tick >= end:
                break
            yield tick
        else:
            return  # none for fifty years
        if end - time >= LOOK_AHEAD:  # another offset moves this tick by less than CLOCKS_DIFFER
            end = max(end, tick - CLOCKS_DIFFER)
        time = end - SECOND
        if _offset(time, zone) != _offset(end, zone):
            yield from _at(expression, zone, end)
            time = end


def _at(expression: str, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    """Yield the moment of a change if the time that the clock then shows fits the expression."""
    shown = _shown(moment, zone)
    if next(_times(expression, shown - SECOND), None) == shown:
        yield moment


def _times(expression: str, shown: datetime) -> Iterator[datetime]:
    yield from CronSim(expression, shown)


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time, without its zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None, "zones have one"
    return offset


def _first_moment(shown: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which the clock shows this time, or the end of the gap that skips it."""
    moment = shown.replace(tzinfo=zone).astimezone(UTC)
    if _shown(moment, zone) == shown:
        return moment
    before, after = shown.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    return _change(before, after, zone)


def _end_of_stretch(time: datetime, zone: ZoneInfo) -> datetime:
    """Return the next change of the clock, or a later moment up to which there is none."""
    offset, end = _offset(time, zone), time + LOOK_AHEAD
    while time < end:
        later = min(time + STEP, end)
        if _offset(later, zone) != offset:
            return _change(time, later, zone)
        time = later
    return end


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole second after `before`, and not after `after`, whose offset is not that of `before`."""
    offset = _offset(before, zone)
    low, high = 0, int((after - before) / SECOND) + 1
    start = before.replace(microsecond=0)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(start + middle * SECOND, zone) == offset:
            low = middle
        else:
            high = middle
    return start + high * SECOND

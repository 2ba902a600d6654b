"""Cron expressions as sentences, for people; the next ticks, which workers compute, stand beside them."""

import re
from collections.abc import Sequence
from typing import Final

DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MOST_TIMES: Final = 6
"""More times of a day than this are told by minute and hour."""
_FIELDS: Final = (5, 6)


def in_words(expression: str) -> str:
    """Return what an expression says; what has no plain sentence is told field by field, as it was typed.

    Example:
        >>> in_words("*/10 * * * *"), in_words("30 2 * * 1-5"), in_words("0 0 13 * 5")
        ('every 10 minutes', 'at 02:30, Monday to Friday', 'at 00:00, on day 13 or on Friday')
    """
    fields = expression.upper().split()
    if len(fields) not in _FIELDS:
        return expression
    second, minute, hour, day, month, weekday = fields if len(fields) > min(_FIELDS) else ["0", *fields]
    time, days = _time(second, minute, hour), _days(day, month, weekday)
    if days:
        return f"{time}, {days}"
    return f"every day {time}" if time.startswith("at ") and hour != "*" else time


def _time(second: str, minute: str, hour: str) -> str:
    if second != "0":
        every = _every(second, "second", of=60) if (minute, hour) == ("*", "*") else None
        return every or f"{_time('0', minute, hour)}, at second {second}"
    if hour == "*":
        return _every(minute, "minute", of=60) or _of_each_hour(minute)
    minutes, hours = _numbers(minute), _numbers(hour)
    if minutes and hours and len(minutes) * len(hours) <= MOST_TIMES:
        return "at " + _and([f"{each:02}:{at:02}" for each in hours for at in minutes])
    if minute == "0" and (every := _every(hour, "hour", of=24)):
        return every
    return f"at minute {minute} of hour {hour}" if minute != "*" else f"every minute of hour {hour}"


def _of_each_hour(minute: str) -> str:
    return "every hour" if minute == "0" else f"at minute {minute} of each hour"


def _every(field: str, unit: str, *, of: int) -> str | None:
    """Return "every 5 minutes" for `*/5`; None where the steps are not even, because the last one is shorter."""
    if field == "*":
        return f"every {unit}"
    step = int(found[1]) if (found := re.fullmatch(r"\*/(\d{1,2})", field, re.ASCII)) else 0
    if not step or of % step:
        return None
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _days(day: str, month: str, weekday: str) -> str:
    of_month = "" if day == "*" else "on the last day" if day == "L" else f"on day {_listed(day, ())}"
    of_week = "" if weekday == "*" else _weekdays(weekday)
    both = " and " if day.startswith("*") or weekday.startswith("*") else " or "  # as in Debian's cron
    of_year = "" if month == "*" else f"in {_listed(month, ('', *MONTHS))}"
    return ", ".join(filter(None, (both.join(filter(None, (of_month, of_week))), of_year)))


def _weekdays(field: str) -> str:
    listed = _listed(field, DAYS)
    return listed if " to " in listed else f"on {listed}"


def _listed(field: str, names: Sequence[str]) -> str:
    """Return the parts of a field, with the names that numbers and abbreviations stand for."""
    return _and([" to ".join(_named(each, names) for each in part.split("-")) for part in field.split(",")])


def _named(value: str, names: Sequence[str]) -> str:
    if value.isdecimal() and value.isascii() and int(value) < len(names):
        return names[int(value)]
    return next((name for name in names if name and name[:3].upper() == value), value)


def _numbers(field: str) -> list[int]:
    """Return the numbers of a plain list, in order; none if there is anything else in it."""
    parts = field.split(",")
    plain = all(re.fullmatch(r"\d{1,2}", part, re.ASCII) for part in parts)
    return sorted({int(part) for part in parts}) if plain else []


def _and(parts: Sequence[str]) -> str:
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last

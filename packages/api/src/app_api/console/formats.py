"""How pages of operators write times, lengths of time, and JSON: the filters of their templates."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from app_api.console.cron_words import in_words
from app_db.types import utcnow

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MOST_SHOWN: Final = 100_000
"""Characters of a JSON text on a page."""


def duration(seconds: float | None) -> str:
    """Return a length of time in two digits or so, with its unit.

    Example:
        >>> duration(0.0042), duration(7.25), duration(95), duration(90_000), duration(None)
        ('4 ms', '7.2 s', '1 min', '1 d', '—')
    """
    if seconds is None:
        return "—"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004  # below it a digit behind the point says something
        return f"{seconds:.1f} s"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f"{seconds / size:.0f} {unit}" if unit == "s" else f"{int(seconds // size)} {unit}"


def ago(time: datetime) -> str:
    """Return how long ago a time was, or how soon it will be."""
    seconds = (utcnow() - time).total_seconds()
    return f"{_whole(seconds)} ago" if seconds >= 0 else f"in {_whole(-seconds)}"


def tick(time: datetime) -> str:
    """Return a time to come as people read it, in UTC, with its day of the week.

    Example:
        >>> tick(datetime(2026, 11, 30, 9, 5, tzinfo=UTC)), tick(datetime(2026, 11, 30, 9, 5, 30, tzinfo=UTC))
        ('Mon 30 Nov, 09:05 UTC', 'Mon 30 Nov, 09:05:30 UTC')
    """
    return f"{time.astimezone(UTC):{'%a %d %b, %H:%M:%S' if time.second else '%a %d %b, %H:%M'}} UTC"


def _whole(seconds: float) -> str:
    return duration(max(1, round(seconds))) if seconds >= 10 else f"{seconds:.0f} s"  # noqa: PLR2004  # as above


def share(progress: Any) -> int | None:  # Any: JSON of the handler's own
    """Return the per cent that a progress such as `{"done": 3, "of": 4}` means; None for any other."""
    match progress:
        case {"done": int() | float() as done, "of": int() | float() as of} if of > 0:
            return max(0, min(100, int(100 * done / of)))
        case _:
            return None


def pretty(value: Any) -> str:  # Any: JSON
    """Return JSON as people read it; a very long one ends in an ellipsis."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


FILTERS: Final = {"duration": duration, "ago": ago, "tick": tick, "cron": in_words, "share": share, "pretty": pretty}

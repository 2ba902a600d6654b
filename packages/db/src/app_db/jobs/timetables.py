"""When a cron ticks, and which of its ticks fire after nobody looked for a while."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSimError

from app_db.jobs.ticks import ticks_after

LATE = timedelta(minutes=1)
"""A tick that is found later than this was missed: `CatchUp.SKIP` skips it."""
CATCH_UP_FOR = timedelta(days=7)
"""How far back `CatchUp.ALL` goes, so that a cron that comes back after months does not enqueue months of jobs."""
SHOWN_AHEAD = 3
"""How many next ticks are written for pages."""
MOST_AT_ONCE = 100
"""How many ticks of a cron become jobs in one transaction; the next transaction takes the rest."""


class CatchUp(StrEnum):
    """What happens to ticks that were missed while no worker ran."""

    SKIP = "skip"
    """A tick that is found more than a minute late is skipped."""
    ONE = "one"
    """All missed ticks become one job, for the newest of them."""
    ALL = "all"
    """Each missed tick of the last week becomes a job, in order, and the newest one in any case."""


class NoTicks(ValueError):
    """An expression has no ticks."""


class UnknownZone(ValueError):
    """There is no time zone of this name."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """A cron expression in a time zone.

    When the clock goes forward, a time that it skips ticks right after the change. When it goes back, a time that it
    shows twice ticks the first time. As in Debian's cron, this holds for fixed times only: if minute or hour begins
    with `*`, each minute (or second) of real time that fits ticks.

    Example:
        nightly = Timetable("30 2 * * 1-5", "Europe/Berlin")
        friday = datetime(2026, 1, 2, 12, tzinfo=UTC)
        assert nightly.next_tick(friday) == datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
    """

    expression: str
    """Five fields as in Debian's cron, or six with the seconds first."""
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.ONE

    def check(self) -> None:
        """Refuse what never ticks.

        Raises:
            NoTicks: the expression is wrong, or fits no day.
            UnknownZone: there is no such time zone.
        """
        try:
            self.next_tick(datetime(2000, 1, 1, tzinfo=UTC))
        except (CronSimError, StopIteration) as error:
            raise NoTicks(str(error) or "no such day") from None
        except (KeyError, ValueError, OSError):
            raise UnknownZone(f"there is no time zone {self.timezone!r}") from None

    def next_tick(self, time: datetime) -> datetime:
        """Return the first tick after `time`."""
        return next(self._ticks_after(time))

    def next_ticks(self, time: datetime) -> list[datetime]:
        """Return the first ticks after `time`: `SHOWN_AHEAD`, or less if there are no more for fifty years."""
        return list(islice(self._ticks_after(time), SHOWN_AHEAD))

    def due_ticks(self, seen: datetime, now: datetime) -> list[datetime]:
        """Return which of the ticks after `seen` and up to `now` fire, the oldest first: at most `MOST_AT_ONCE`."""
        if self.catch_up is CatchUp.ONE:
            return self._newest_tick(seen, now)
        horizon = LATE if self.catch_up is CatchUp.SKIP else CATCH_UP_FOR
        ticks = list(islice(self._ticks_between(max(seen, now - horizon), now), MOST_AT_ONCE))
        return ticks if ticks or self.catch_up is CatchUp.SKIP else self._newest_tick(seen, now)

    def _newest_tick(self, seen: datetime, now: datetime) -> list[datetime]:
        # Years of ticks may lie between: look back further and further.
        span = LATE
        while not (ticks := list(self._ticks_between(max(seen, now - span), now))) and seen < now - span:
            span *= 4
        return ticks[-1:]

    def _ticks_between(self, time: datetime, now: datetime) -> Iterator[datetime]:
        return takewhile(lambda tick: tick <= now, self._ticks_after(time))

    def _ticks_after(self, time: datetime) -> Iterator[datetime]:
        return ticks_after(self.expression, ZoneInfo(self.timezone), time)

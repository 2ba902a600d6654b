"""The output of `crons`."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app_worker.command_line.output import Output, printable, table


class CronRow(BaseModel, frozen=True, from_attributes=True):
    """A cron in a list."""

    name: str
    expression: str
    timezone: str
    queue: str
    last_tick_at: datetime | None
    """The last tick for which a job was enqueued or skipped; null before a worker has seen the cron."""
    next_tick_at: datetime | None
    """Null while it is paused."""
    is_in_table: bool = False
    """Whether operators have added it: else it is code."""
    paused_at: datetime | None = None
    problem: str | None = None
    """Why its due tick becomes no job."""

    def cells(self) -> list[Any]:  # Any: as in `cell`
        """Return its columns in a table; the last one is empty for a cron in code."""
        notes = ("table" if self.is_in_table else None, "paused" if self.paused_at else None, self.problem)
        columns = (self.name, self.expression, self.timezone, self.queue, self.last_tick_at, self.next_tick_at)
        return [*columns, ", ".join(note for note in notes if note)]


class Crons(Output, frozen=True):
    """All crons."""

    crons: list[CronRow]

    def text(self) -> str:
        """Return a table."""
        headers = ("CRON", "EXPRESSION", "TIME ZONE", "QUEUE", "LAST TICK (UTC)", "NEXT TICK (UTC)", "NOTES")
        return table(headers, [row.cells() for row in self.crons])


class Done(Output, frozen=True):
    """What was done to something that is no longer there."""

    done: str
    name: str

    def text(self) -> str:
        """Return one line."""
        return f"{self.done}: {printable(self.name)}\n"

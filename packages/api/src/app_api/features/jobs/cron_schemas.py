"""Crons on the wire."""

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app_db.jobs.bounds import INTEGER, LONGEST_NAME, SMALLINT
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.timetables import CatchUp

CronText = Annotated[str, Field(max_length=LONGEST_NAME)]


class CronValues(BaseModel, extra="forbid"):
    """What a cron of the table enqueues, and when."""

    kind: CronText
    """Of the jobs, as in `sessions.prune`."""
    payload: dict[str, Any] = {}  # Any: JSON
    """Their fields; the class of the kind checks them."""
    expression: CronText
    """Five fields as in Debian's cron, or six with the seconds first."""
    timezone: CronText = "UTC"
    """When its clock goes forward, a fixed time that it skips ticks right after the change; when it goes back, a time
    that it shows twice ticks the first time. If minute or hour begins with `*`, real time counts."""
    queue: CronText = "default"
    priority: Annotated[int, Field(ge=-SMALLINT, lt=SMALLINT)] = 2
    catch_up: CatchUp = CatchUp.ONE
    """What becomes of ticks that came while no worker ran: none, one job for all, or one each for those of a week."""
    overlap: bool = True
    """If false, a tick enqueues no job while the job of an earlier one is open."""

    def to_values(self) -> ScheduleValues:
        """Return them for the table."""
        return ScheduleValues(
            self.kind,
            self.expression,
            json.dumps(self.payload),
            self.timezone,
            self.queue,
            self.priority,
            self.catch_up,
            overlap=self.overlap,
        )


class CronCreate(CronValues):
    """A new cron of the table."""

    name: CronText
    """One that no other cron has, in code or in the table."""


class CronUpdate(CronValues):
    """All values of a cron of the table, and which version of it they replace."""

    version: Annotated[int, Field(ge=1, lt=INTEGER)]


class CronScheduleRead(BaseModel):
    """What only a cron of the table has."""

    model_config = ConfigDict(from_attributes=True)

    payload: Any  # Any: JSON of the payload class
    priority: int
    catch_up: CatchUp
    overlap: bool
    version: int
    """Give it back with a change."""
    paused_at: datetime | None
    paused_by: str | None
    """The id of an operator, or `shell` for a command on a server; so are the next ones."""
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    problem: str | None
    """Why a worker could not enqueue the job of a due tick, which stays due."""
    is_shadowed: bool
    """Whether a cron in code has its name: then its ticks pass without jobs."""


class CronRead(BaseModel):
    """A cron, as its workers say or as the table has it. What is null, a release of before did not say."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    expression: str | None
    timezone: str | None
    queue: str | None
    kind: str | None
    last_tick_at: datetime
    """The newest tick that was handled; before the first one, since when ticks count."""
    next_ticks: list[datetime]
    """The next three, as far as there are any."""
    last_job_id: UUID | None
    """Its newest job, which may have been deleted since."""
    run_requested_at: datetime | None
    """When an operator asked for a job that no worker has enqueued yet."""
    seen_at: datetime | None
    is_served: bool
    """Whether a worker has had it within five minutes: else it was removed from the code, or no worker runs."""
    schedule: CronScheduleRead | None
    """Null for a cron in code."""


class CronList(BaseModel):
    """Every cron that a worker has ever had, and those of the table, by name."""

    items: list[CronRead]

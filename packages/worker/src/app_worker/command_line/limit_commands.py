"""The commands that show the limits of kinds, and set others while workers run."""

from argparse import Namespace
from datetime import datetime

from pydantic import BaseModel

from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_db import Database, Session
from app_db.jobs import limit_control
from app_db.jobs.limit_control import LimitRow
from app_worker.command_line.known_names import NameNotFound
from app_worker.command_line.output import Output, table


class KindLimit(BaseModel, frozen=True, from_attributes=True):
    """A limit as it holds now."""

    name: str
    per: str | None
    running: int | None
    rate: str | None
    keys: int
    """How many keys have jobs that wait for it."""
    set_at: datetime | None
    """When it was set by a command; null if it is as the code declares it."""
    set_by: str | None


class Limits(Output, frozen=True):
    """The limits of kinds."""

    limits: list[KindLimit]

    def text(self) -> str:
        """Return a table of the limits."""
        headers = ("KIND", "PER", "RUNNING", "RATE", "KEYS THAT WAIT", "SET AT (UTC)", "SET BY")
        return table(headers, [[value for _, value in row] for row in self.limits])


async def show_or_set_limits(database: Database, options: Namespace) -> Output:
    """List the limits, set another one for a kind, or let the one in the code hold again.

    Raises:
        NameNotFound: no worker has declared a limit of this kind.
    """
    if options.limit_command == "list":
        async with database.unit_of_work(read_only=True) as session:
            return _output(await limit_control.limits(session))
    async with database.unit_of_work() as session:
        now = await _require(session, options.kind)
        if options.limit_command == "reset":
            await limit_control.reset_limit(session, options.kind)
        else:
            running, rate = getattr(options, "running", now.running), getattr(options, "rate", now.rate)
            await limit_control.set_limit(session, options.kind, running=running, rate=rate, by=SHELL)
        changed = await limit_control.limits(session, options.kind)
        about = {"kind": options.kind, "max_running": changed[0].running, "rate": changed[0].rate}
        audit(session, Event.KIND_LIMITED, client=NOBODY, by=SHELL, **about)
        return _output(changed)


async def _require(session: Session, kind: str) -> LimitRow:
    known = {row.name: row for row in await limit_control.limits(session)}
    if kind not in known:
        raise NameNotFound("limit", kind, known)
    return known[kind]


def _output(rows: list[LimitRow]) -> Limits:
    return Limits(limits=[KindLimit.model_validate(row) for row in rows])

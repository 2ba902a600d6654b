"""The SQL of cron: workers claim ticks by compare-and-set, and describe their crons for those without their code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from app_db.errors import Conflict, NotFound
from app_db.jobs.after_commit import notify_after_commit
from app_db.session import Session

SEEN = timedelta(minutes=1)
"""How often workers write that they have a cron: one of them, whichever looks first."""
UNSEEN = timedelta(minutes=5)
"""A cron that no worker has seen for so long is not in the code any more, or no worker runs."""

# The first worker inserts the rows of new crons; the statement does not return the rows that it inserts.
_STATES = text("""
    WITH begun AS (
        INSERT INTO job_crons (name, last_tick_at)
        SELECT name, now() FROM unnest(CAST(:names AS text[])) AS cron (name)
        WHERE name NOT IN (SELECT name FROM job_crons)
        ON CONFLICT DO NOTHING
    )
    SELECT name, last_tick_at, run_requested_at, expression, timezone, queue,
        seen_at IS NULL OR seen_at < now() - CAST(:seen AS interval) AS is_unseen
    FROM job_crons WHERE name = ANY (:names)
""")

# SKIP LOCKED: another worker may hold the row for its tick, and then it sees the cron, too. The timeout is as below.
_DESCRIBE = text("""
    WITH cron AS (
        SELECT * FROM jsonb_to_recordset(CAST(:crons AS jsonb))
            AS cron (name text, expression text, timezone text, queue text, kind text, next_ticks timestamptz[])
    ), free AS (
        SELECT name FROM job_crons WHERE name IN (SELECT name FROM cron) FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE job_crons SET expression = cron.expression, timezone = cron.timezone, queue = cron.queue,
        kind = coalesce(cron.kind, job_crons.kind), next_ticks = cron.next_ticks, seen_at = now()
    FROM cron JOIN free USING (name) WHERE job_crons.name = cron.name
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")

_RECORDED_TICKS = text("SELECT name, last_tick_at FROM job_crons WHERE name = ANY (CAST(:names AS text[]))")

# The timeout ends the transaction of a worker that freezes: all others would wait for its row lock.
_ADVANCE = text("""
    UPDATE job_crons SET last_tick_at = :tick, next_ticks = CAST(:next_ticks AS timestamptz[])
    WHERE name = :name AND last_tick_at = :seen
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")

_HOLD = text("""
    SELECT set_config('idle_in_transaction_session_timeout', '5s', true) FROM job_crons WHERE name = :name
    FOR NO KEY UPDATE
""")

_REQUEST_RUN = text("""
    UPDATE job_crons SET run_requested_at = coalesce(run_requested_at, now())
    WHERE name = :name AND seen_at > now() - CAST(:unseen AS interval)
    RETURNING name
""")

_EXISTS = text("SELECT EXISTS (SELECT FROM job_crons WHERE name = :name)")

_TAKE_REQUEST = text("""
    UPDATE job_crons SET run_requested_at = NULL WHERE name = :name AND run_requested_at = :requested_at
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")

# A job that waits for its next attempt becomes due now. A job that snoozes keeps the time that its handler chose,
# unless somebody asks for it.
_HASTENED = """
    , hastened AS (
        UPDATE jobs SET claim_at = least(claim_at, now()), queue = :queue
        WHERE id = :id AND ((state = 'retryable' OR :is_asked_for AND state = 'scheduled') AND claim_at > now()
            OR state IN ('available', 'retryable') AND queue <> :queue)
        RETURNING id
    )
    SELECT state, attempt, created_at < now() AS is_older, EXISTS (SELECT FROM hastened) AS is_hastened
    FROM jobs WHERE id = :id
"""
_NOTE_JOB = text(f"""
    WITH noted AS (UPDATE job_crons SET last_job_id = :id, kind = :kind WHERE name = :name) {_HASTENED}
""")  # noqa: S608  # made of constants
_NOTE_JOB_OF_ROW = text(f"""
    WITH noted AS (UPDATE job_schedules SET last_job_id = :id WHERE name = :name) {_HASTENED}
""")  # noqa: S608  # made of constants

_NOTE_DONE = text("UPDATE job_crons SET done_at = now(), applied = CAST(:applied AS jsonb) WHERE name = :name")

_AGES = text("""
    SELECT name, CAST(extract(epoch FROM now() - done_at) AS float) AS age FROM job_crons WHERE name = ANY (:names)
""")


@dataclass(frozen=True, slots=True)
class OpenJob:
    """The job of an earlier tick, which has not ended."""

    state: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CronDescription:
    """What a worker knows of one of its crons, for pages and commands that cannot import it."""

    name: str
    expression: str
    timezone: str
    queue: str
    kind: str | None
    """The kind of its jobs; None if it is known with the first job only."""
    next_ticks: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class CronState:
    """What the ledger has about a cron of this worker."""

    last_tick_at: datetime
    run_requested_at: datetime | None
    """When an operator asked for a job besides the ticks; None if nobody did, or a worker has enqueued it."""
    terms: tuple[str | None, str | None, str | None]
    """The expression, the time zone and the queue that were described last."""
    is_unseen: bool
    """Whether no worker has described it for `SEEN`."""

    def is_described(self, *terms: str) -> bool:
        """Return whether a worker has described the cron lately, with this expression, time zone and queue."""
        return not self.is_unseen and self.terms == terms


class CronNotFound(NotFound):
    """There is no cron of this name."""

    code = "cron_not_found"


class CronNotServed(Conflict):
    """No worker has this cron: it was removed from the code, or no worker runs."""

    code = "cron_not_served"


async def hold_cron(session: Session, name: str) -> None:
    """Lock the row of a cron, as its ticks do, before another job of it is enqueued: else the two might deadlock."""
    await session.execute(_HOLD, {"name": name})


async def note_job(
    session: Session, name: str, job_id: UUID, *, kind: str, queue: str, is_asked_for: bool = False
) -> OpenJob | None:
    """Record the newest job of a cron; if it is the open job of an earlier tick, make it due now and return it.

    The tick ends the back-off of an open job, because a long back-off would stop all later ticks, and moves it to the
    queue that the cron has today. A job that snoozes keeps its time, unless somebody asks for a job. Returns None if
    the job was enqueued in this transaction.
    """
    about = {"name": name, "id": job_id, "kind": kind, "queue": queue, "is_asked_for": is_asked_for}
    return await _note_job(session, _NOTE_JOB, about)


async def note_job_of_row(
    session: Session, name: str, job_id: UUID, *, queue: str, is_asked_for: bool
) -> OpenJob | None:
    """Do the same for a cron in the table of schedules."""
    about = {"name": name, "id": job_id, "queue": queue, "is_asked_for": is_asked_for}
    return await _note_job(session, _NOTE_JOB_OF_ROW, about)


async def _note_job(session: Session, statement: TextClause, about: Mapping[str, Any]) -> OpenJob | None:  # Any: of SQL
    row = (await session.execute(statement, about)).one_or_none()
    if row is None or not row.is_older:
        return None
    if row.is_hastened:
        notify_after_commit(session)
    return OpenJob(row.state, row.attempt)


async def note_done(session: Session, name: str, *, applied: Mapping[str, float | bool | None] | None = None) -> None:
    """Record that a job of this cron has done its work, and the settings that it has applied, by name."""
    await session.execute(_NOTE_DONE, {"name": name, "applied": None if applied is None else json.dumps(applied)})


async def ages(session: Session, names: Sequence[str]) -> dict[str, float]:
    """Return, for each known cron, the seconds since one of its jobs last did its work."""
    return {row.name: row.age for row in await session.execute(_AGES, {"names": list(names)})}


async def cron_states(session: Session, names: Sequence[str]) -> dict[str, CronState]:
    """Return what the ledger has about each of these crons, by name.

    A new cron is inserted with the current time, and left out of the result: it has no due ticks yet.
    """
    rows = await session.execute(_STATES, {"names": list(names), "seen": SEEN})
    return {
        row.name: CronState(
            row.last_tick_at, row.run_requested_at, (row.expression, row.timezone, row.queue), row.is_unseen
        )
        for row in rows
    }


async def describe_crons(session: Session, descriptions: Sequence[CronDescription]) -> None:
    """Write what this worker knows of its crons, and that it has them; rows that others hold are left to them.

    Nobody waits for these rows for long: Postgres ends the transaction if it waits five seconds for its end.
    """
    crons = json.dumps([asdict(cron) for cron in descriptions], default=datetime.isoformat)
    await session.execute(_DESCRIBE, {"crons": crons})


async def recorded_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return the last handled tick of each cron that a worker has seen, by name."""
    return {row.name: row.last_tick_at for row in await session.execute(_RECORDED_TICKS, {"names": list(names)})}


async def advance_cron(
    session: Session, name: str, *, seen: datetime, tick: datetime, next_ticks: Sequence[datetime] = ()
) -> bool:
    """Claim the ticks after `seen` and up to `tick` for this transaction; return True to exactly one caller.

    Returns False if another caller has moved the cron past `seen`. Callers wait for the transaction of the first one;
    Postgres ends that transaction if it waits five seconds for its next statement.

    Args:
        session: its transaction enqueues the jobs of the ticks.
        name: the cron.
        seen: the last tick that the caller has read.
        tick: the newest tick that it claims.
        next_ticks: those that follow, for pages.
    """
    claimed = {"name": name, "seen": seen, "tick": tick, "next_ticks": list(next_ticks)}
    return (await session.execute(_ADVANCE, claimed)).one_or_none() is not None


async def request_run(session: Session, name: str) -> None:
    """Ask the workers for a job of this cron besides its ticks; one of them enqueues it within five seconds.

    The request is a column, because only workers have the payload. Requests that no worker has seen yet are one.

    Raises:
        CronNotFound: there is no such cron.
        CronNotServed: no worker has had it for `UNSEEN`.
    """
    if (await session.execute(_REQUEST_RUN, {"name": name, "unseen": UNSEEN})).one_or_none() is None:
        exists = (await session.scalars(_EXISTS, {"name": name})).one()
        raise CronNotServed if exists else CronNotFound


async def take_request(session: Session, name: str, *, requested_at: datetime) -> bool:
    """Take a request for this transaction, which enqueues the job; return True to exactly one caller."""
    taken = await session.execute(_TAKE_REQUEST, {"name": name, "requested_at": requested_at})
    return taken.one_or_none() is not None

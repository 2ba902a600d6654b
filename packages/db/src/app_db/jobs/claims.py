"""The SQL of the relay: it claims due jobs, and renews the leases of deliveries that wait."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import TextualSelect, column, text

from app_db.jobs.admission import OF_KEYS, OF_QUEUE
from app_db.jobs.ledger import STARTED, Delivery, StartedJob, Starter
from app_db.models import OPEN_STATES, JobState
from app_db.session import Session

MAX_CRASHES = 5
"""A job is discarded after so many crashes of its workers: it would crash all of them, one by one (ADR-0008)."""

SUSPICIOUS = 2
"""If so many workers died while they ran a job, the job may be the cause: a worker runs one such job at a time."""

LATENESS = timedelta(seconds=30)
"""A job whose transaction commits later than this after its beginning may have to wait for the next full claim."""

_ADD_QUEUE = text("INSERT INTO job_queues (name) VALUES (:queue) ON CONFLICT DO NOTHING")

# The row stays locked until the claim commits: a pause waits for it, and two relays cannot both fill the same gap.
_LIMITS = "SELECT paused_at IS NOT NULL AS is_paused, max_running FROM job_queues WHERE name = :queue FOR NO KEY UPDATE"

# The timeout ends the transaction of a relay that freezes: operators and all other relays would wait for its lock.
_LOCK_LIMITS = text(f"""
    SELECT max_running, set_config('idle_in_transaction_session_timeout', '5000', true) FROM ({_LIMITS}) AS limits
""")  # noqa: S608  # made of a constant
_ON_THEIR_WAY = text("""
    SELECT count(*) FROM jobs WHERE queue = :queue AND claim_at IS NOT NULL AND state IN ('dispatched', 'executing')
""")

# A failed tx attempt releases its row lock before the failure is recorded, and its lease may have expired by then. So
# skip jobs that a live worker still reports as held.
# A crash costs no attempt, because the handler did not fail; MAX_CRASHES ends a job that always crashes.
# Callers that have counted running jobs pass `is_counted`; without it, nothing is claimed from a queue with
# `max_running`.
#
# Jobs in lease mode that go to free slots of the caller's own process start at once: `slots` of the first, as far as
# that is its share of `all_slots`. Not suspicious ones: what has started when one of them kills the worker
# has crashed with it.
# Unless a job starts, the commit does not wait for the disk: the start of a delivery does, and flushes the log of its
# claim too. So a crash of Postgres undoes only claims whose deliveries no worker has started.
_CLAIM = """
    WITH limits AS MATERIALIZED ({limits}), due AS (
        SELECT id, priority, claim_at, kind = ANY(CAST(:leased AS text[]))
                AND crashes + CAST(state = 'executing' AS integer) < :suspicious AS may_start,
            state = 'executing' AND crashes + 1 >= :max_crashes AS is_poison,
            EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id) AS is_cancelled
        FROM jobs
        WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
            AND coalesce((SELECT NOT is_paused AND (max_running IS NULL OR :is_counted) FROM limits), true)
            AND (state NOT IN ('dispatched', 'executing') OR NOT EXISTS (
                SELECT FROM job_workers WHERE holds_until > now() AND jobs.id = ANY (holding)
            ))
            AND {which}
        LIMIT :max_jobs FOR NO KEY UPDATE SKIP LOCKED
    ), shared AS (
        SELECT id, is_poison, is_cancelled, is_poison OR is_cancelled AS ends, may_start,
            row_number() OVER (same ORDER BY priority, claim_at)
                <= least(:slots, (count(*) OVER same * :slots + :all_slots - 1) / :all_slots) AS is_own
        FROM due
        WINDOW same AS (PARTITION BY is_poison OR is_cancelled)
    ), decided AS (
        SELECT id, is_poison, is_cancelled, ends, is_own, is_own AND may_start AND NOT ends AS starts FROM shared
    ), claimed AS (
        UPDATE jobs SET
            state = CASE WHEN is_cancelled THEN 'cancelled' WHEN is_poison THEN 'discarded'
                WHEN starts THEN 'executing' ELSE 'dispatched' END,
            claim_at = CASE WHEN NOT ends THEN now() + CAST(:lease AS interval) END,
            finished_at = CASE WHEN ends THEN now() END,
            -- A counter at the limit of its type must not make the claim of all other jobs fail.
            fence = fence % 2147483647 + 1,
            redeliveries = least(redeliveries, 2147483646) + CAST(state = 'dispatched' AS integer),
            crashes = crashes + CAST(state = 'executing' AS integer),
            attempt = least(32767, attempt - CAST(state = 'executing' AS integer) + CAST(starts AS integer)),
            started_at = CASE WHEN starts THEN now() ELSE started_at END,
            worker_id = CASE WHEN starts THEN :worker_id ELSE worker_id END
        FROM decided WHERE jobs.id = decided.id
        RETURNING jobs.*, is_own, old.state AS was, old.attempt AS crashed_attempt, old.claim_at AS was_due_at
    ), crashed AS (
        INSERT INTO job_errors (id, job_id, attempt, error)
        SELECT uuidv7(), id, crashed_attempt, 'The worker died, or lost its lease, while it ran this attempt.'
        FROM claimed WHERE was = 'executing'
    )
    SELECT has_limit, may_admit, is_held_back, id, fence, state, was, is_own, {started}
    FROM (
        SELECT coalesce((SELECT max_running IS NOT NULL FROM limits), false), {of_keys}, CASE
            WHEN NOT EXISTS (SELECT FROM claimed WHERE state = 'executing')
            THEN set_config('synchronous_commit', 'off', true) END
    ) AS queue (has_limit, may_admit, is_held_back, waits_for_disk)
        LEFT JOIN claimed ON true
    ORDER BY priority, was_due_at
"""


def _claim_of(which: str) -> TextualSelect:
    sql = _CLAIM.format(limits=_LIMITS, of_keys=OF_KEYS, which=which, started=", ".join(STARTED.values()))
    return text(sql).columns(*map(column, (*OF_QUEUE, "id", "fence", "state", "was", "is_own", *STARTED)))


_CLAIM_DUE = _claim_of("claim_at >= coalesce(CAST(:since AS timestamptz), '-infinity') ORDER BY priority, claim_at")
# `priority + 0` keeps the planner off the due-jobs index; orphans are few and have a partial index.
_CLAIM_ORPHANS = _claim_of("state IN ('dispatched', 'executing') ORDER BY priority + 0, claim_at")

_OLDEST_DUE = text("""
    SELECT least(min(claim_at), now() - CAST(:lateness AS interval)) FROM jobs
    WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
""")

_IS_PAUSED = text("SELECT paused_at IS NOT NULL FROM job_queues WHERE name = :queue")

_GIVE_BACK = """
    UPDATE jobs SET claim_at = now(), state = 'available', attempt = attempt - CAST(state = 'executing' AS integer)
    FROM unsent WHERE jobs.id = unsent.id
"""
_MAKE_DUE = text(f"""
    WITH unsent AS (
        SELECT jobs.id FROM jobs JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS sent (id, fence)
            USING (id, fence)
        WHERE state = 'dispatched' FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    {_GIVE_BACK}
""")  # noqa: S608  # made of constants

# A lease that has run out is another's to judge: the job may have run, and its outcome was not recorded.
_MAKE_LOST_DUE = text(f"""
    WITH unsent AS (
        SELECT id FROM jobs
        WHERE queue = ANY(CAST(:queues AS text[])) AND claim_at > now()
            AND state = 'executing' AND worker_id = :worker_id AND NOT id = ANY(CAST(:held_ids AS uuid[]))
        FOR NO KEY UPDATE SKIP LOCKED
    )
    {_GIVE_BACK}
""")  # noqa: S608  # made of constants

# SKIP LOCKED: an executor may have taken the delivery meanwhile, and its handler may hold the row lock for minutes.
_EXTEND_WAITING = text("""
    WITH waiting AS (
        SELECT jobs.id FROM jobs JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS sent (id, fence)
            USING (id, fence)
        WHERE state = 'dispatched' FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    UPDATE jobs SET claim_at = now() + CAST(:lease AS interval) FROM waiting WHERE jobs.id = waiting.id
""")


@dataclass(frozen=True, slots=True)
class Claim:
    """The jobs that a relay has claimed in one statement."""

    deliveries: Sequence[Delivery] = ()
    """In the order in which they shall run."""
    own: Sequence[Delivery] = ()
    """Those for the free slots of the caller's own process, instead, in their order."""
    started: Mapping[Delivery, StartedJob] = field(default_factory=dict)
    """Those of `own` that have started: they are in lease mode."""
    redelivered: int = 0
    """How many jobs had been delivered before, and no worker had started them."""
    crashed: int = 0
    """How many jobs had lost their worker while it ran them."""
    more_due: bool = False
    """Whether due jobs may be left: `max_jobs` were claimed, or the queue or the limit of a key is reached."""
    has_limit: bool = False
    """Whether the queue has a `max_running`."""
    may_admit: bool = False
    """Whether jobs that wait for the limit of their key may be due after `admission.admit`."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The free slots of the caller's own process, for which a claim may start jobs."""

    starter: Starter
    own: int
    everywhere: int
    """Free slots of all processes: each gets its share of few jobs."""


NO_SLOTS = Slots(Starter(UUID(int=0), [], timedelta(0)), 0, 0)


async def claim(
    session: Session,
    *,
    queue: str,
    max_jobs: int,
    lease: timedelta,
    since: datetime | None = None,
    slots: Slots = NO_SLOTS,
) -> Claim:
    """Claim up to `max_jobs` due jobs for delivery; a job that no worker starts within `lease` is due again.

    They are returned in the order in which they shall run. Concurrent relays claim different jobs. If the lease of an
    executing job has expired, a crash is counted and the attempt is given back. A job with a cancellation request is
    cancelled instead of claimed.

    The claim is one statement, so a session in autocommit is enough. Nothing is claimed from a paused queue, nor from a
    queue with `max_running`: use `claim_within_limit` for that one.

    Args:
        session: commit its transaction before anything is pushed.
        queue: a queue without a row in `job_queues` has no limits.
        max_jobs: how many at most.
        lease: how long no other relay claims them.
        since: claim only jobs that became due after this time, a recent `oldest_due`: the statement then skips dead
            index entries that vacuum could not remove yet.
        slots: the jobs that are for these have started if they are in lease mode: run them, or `make_lost_due`.
    """
    take = partial(_take, session, queue=queue, lease=lease, slots=slots)
    return await take(_CLAIM_DUE, max_jobs=max_jobs, since=since, is_counted=False)


async def claim_within_limit(
    session: Session, *, queue: str, max_jobs: int, lease: timedelta, slots: Slots = NO_SLOTS
) -> Claim:
    """Claim as `claim` does, and keep to `max_running`: no more jobs are dispatched or executing than it allows.

    Jobs whose lease has expired are among those counted, so they are claimed even when the limit is reached. Needs a
    transaction: running jobs are counted while the row of the queue is locked.
    """
    max_running = await session.scalar(_LOCK_LIMITS, {"queue": queue})
    take = partial(_take, session, queue=queue, lease=lease, slots=slots, since=None, is_counted=True)
    if max_running is not None:
        free = max_running - await session.scalar(_ON_THEIR_WAY, {"queue": queue})
        if free <= 0:
            return replace(await take(_CLAIM_ORPHANS, max_jobs=max_jobs), more_due=True)
        max_jobs = min(max_jobs, free)  # guard: test_no_more_jobs_are_on_their_way_than_the_limit_allows
    return await take(_CLAIM_DUE, max_jobs=max_jobs)


async def add_queue(session: Session, queue: str) -> None:
    """Insert the row of a queue unless it exists, so that a pause waits for the claims in progress."""
    await session.execute(_ADD_QUEUE, {"queue": queue})


async def oldest_due(session: Session, queue: str) -> datetime:
    """Return `since` for the claims of the next seconds: when the oldest job became due, at least `LATENESS` ago."""
    parameters = {"queue": queue, "lateness": LATENESS}
    since: datetime = (await session.execute(_OLDEST_DUE, parameters)).scalar_one()
    return since


async def is_paused(session: Session, queue: str) -> bool:
    """Return whether an operator has paused the queue."""
    return bool(await session.scalar(_IS_PAUSED, {"queue": queue}))


async def make_due(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Make the jobs of deliveries that were withdrawn or never pushed due at once, instead of after their lease."""
    await session.execute(_MAKE_DUE, _ids_and_fences(deliveries))


async def make_lost_due(session: Session, queues: Sequence[str], *, worker_id: UUID, held_ids: Sequence[UUID]) -> None:
    """Make jobs due at once that claims have started for this worker, and that are not `held_ids`: no attempt counts.

    No claim for this worker may be under way in these queues.
    """
    await session.execute(_MAKE_LOST_DUE, {"queues": queues, "worker_id": worker_id, "held_ids": held_ids})


async def extend_waiting(session: Session, deliveries: Sequence[Delivery], *, lease: timedelta) -> None:
    """Renew the leases of deliveries that wait behind others, so that they are not claimed a second time."""
    await session.execute(_EXTEND_WAITING, {**_ids_and_fences(deliveries), "lease": lease})


async def _take(
    session: Session, statement: TextualSelect, *, max_jobs: int, slots: Slots, **parameters: Any
) -> Claim:  # Any: of SQL
    parameters |= {"max_jobs": max_jobs, "max_crashes": MAX_CRASHES, "suspicious": SUSPICIOUS}
    parameters |= {"slots": slots.own, "all_slots": max(slots.own, slots.everywhere, 1)}
    parameters |= {"leased": slots.starter.leased_kinds, "worker_id": slots.starter.worker_id}
    rows = (await session.execute(statement, parameters)).all()
    # If nothing was claimed, one row with id NULL still says what its queue has.
    taken = [row for row in rows if row.id is not None]
    found = {Delivery(row.id, row.fence): row for row in taken if row.state in OPEN_STATES}
    return Claim(
        tuple(delivery for delivery, row in found.items() if not row.is_own),
        tuple(delivery for delivery, row in found.items() if row.is_own),
        {each: StartedJob(*row[-len(STARTED) :]) for each, row in found.items() if row.state == JobState.EXECUTING},
        redelivered=sum(row.was == JobState.DISPATCHED for row in taken),
        crashed=sum(row.was == JobState.EXECUTING for row in taken),
        more_due=len(taken) == max_jobs or rows[0].is_held_back,
        has_limit=rows[0].has_limit,
        may_admit=rows[0].may_admit,
    )


def _ids_and_fences(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {"ids": [delivery.id for delivery in deliveries], "fences": [delivery.fence for delivery in deliveries]}

"""Enqueueing: a job is a row of the caller's transaction, so both are committed or neither."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Row, column, text
from sqlalchemy.dialects.postgresql import JSONB

from app_db.jobs.after_commit import count_after_commit
from app_db.jobs.bounds import SMALLINT, require_name, require_run_at
from app_db.jobs.encryption import JobCipher, PayloadLocked, keys_of, stored_json
from app_db.jobs.payload import JobPayload, limit_key
from app_db.jobs.unique import Unique
from app_db.session import Session
from app_db.types import new_id

type Trace = Callable[[Sequence[str]], AbstractContextManager[str]]

TRACE = "trace_enqueue"
"""Key of `session.info`, if traces are on: the function that gives new jobs their `traceparent`."""
UNIQUE_TRIES = 10

# Postgres's clock decides whether a job is due, never the clock of this process.
_INSERT = """
    INSERT INTO jobs (id, owner_id, kind, payload, payload_version, queue, priority, max_attempts, request_id,
        traceparent, batch_id, run_at, claim_at, state, unique_key, unique_states, limit_key)
    SELECT job.id, :owner_id, job.kind, CAST(job.payload AS jsonb), job.version, :queue, :priority, :max_attempts,
        :request_id, :traceparent, CAST(:batch_id AS uuid), due_at, due_at,
        CASE WHEN now() < due_at THEN 'scheduled' ELSE 'available' END, {unique}, job.limit_key
    FROM {jobs}, (SELECT coalesce(CAST(:run_at AS timestamptz), now()) AS due_at) AS due
"""
_ONE = """(
    SELECT CAST(:id AS uuid) AS id, CAST(:kind AS text) AS kind, CAST(:payload AS text) AS payload,
        CAST(:version AS smallint) AS version, CAST(:limit_key AS text) AS limit_key
) AS job"""
_MANY = """unnest(
    CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:payloads AS text[]), CAST(:versions AS smallint[]),
    CAST(:limit_keys AS text[])
) AS job (id, kind, payload, version, limit_key)"""

_ENQUEUE = text(_INSERT.format(jobs=_ONE, unique="NULL, NULL"))
_ENQUEUE_MANY = text(_INSERT.format(jobs=_MANY, unique="NULL, NULL"))

# SELECT before INSERT, because the INSERT would wait for a handler in tx mode that has locked the existing job. Of two
# transactions that find nothing, both insert: one waits for the other's commit, gets no row, and finds the job when it
# tries again. ON CONFLICT names no index, because during REINDEX CONCURRENTLY its copy may be violated too.
_ENQUEUE_UNIQUE = text(f"""
    WITH same AS (
        SELECT :digest || coalesce(
            ':' || floor(extract(epoch FROM now()) / extract(epoch FROM CAST(:period AS interval))), ''
        ) AS key
    ), existing AS (
        SELECT id, payload, payload_version FROM jobs
        WHERE unique_key = (SELECT key FROM same) AND unique_key IS NOT NULL AND state = ANY (unique_states)
    ), inserted AS (
        {_INSERT.format(jobs=_ONE, unique="(SELECT key FROM same), CAST(:states AS text[])")}
        WHERE NOT EXISTS (SELECT FROM existing)
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT id, payload, payload_version FROM existing UNION ALL SELECT id, NULL, NULL FROM inserted
""").columns(column("id"), column("payload", JSONB), column("payload_version"))  # noqa: S608  # made of constants


@dataclass(frozen=True, slots=True)
class Terms:
    """What all jobs of one call share; it checks the arguments of the caller."""

    run_at: datetime | None
    queue: str
    priority: int
    max_attempts: int | None
    owner_id: UUID | None
    batch_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.run_at is not None:
            require_run_at(self.run_at)
        require_name(self.queue, "the queue")
        if not -SMALLINT <= self.priority < SMALLINT:
            raise ValueError(f"priority {self.priority} is not between {-SMALLINT} and {SMALLINT - 1}")
        if self.max_attempts is not None and not 1 <= self.max_attempts < SMALLINT:
            raise ValueError(f"max_attempts {self.max_attempts} is not between 1 and {SMALLINT - 1}")

    def parameters(self, session: Session) -> dict[str, Any]:  # Any: of SQL
        """Return the columns of the jobs that they share."""
        return {
            "run_at": self.run_at,
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "owner_id": self.owner_id,
            "request_id": session.info.get("request_id"),
            "batch_id": self.batch_id,
        }


async def enqueue(
    session: Session,
    payload: JobPayload,
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 2,
    max_attempts: int | None = None,
    owner_id: UUID | None = None,
    unique: Unique | None = None,
) -> UUID:
    """Enqueue a job in the caller's transaction and return its id: one INSERT.

    A rollback removes the job; after the commit it runs, even if any process dies meanwhile (docs/how-to/jobs.md).

    Args:
        session: the job joins its transaction.
        payload: the values of the job; its class decides which handler runs.
        run_at: the earliest time to run, with a time zone, by Postgres's clock; now if absent.
        queue: the queue whose workers run it.
        priority: jobs with the lowest number run first.
        max_attempts: replaces the limit of the handler.
        owner_id: the user who may see the job under `GET /jobs`.
        unique: if an equal job exists, return its id instead.

    Raises:
        ValueError: before anything is sent, for a wrong argument or payload (`pydantic.ValidationError`).

    Example:
        async with database.unit_of_work() as session:
            job_id = await enqueue(session, EndSessions(user_id=ada.id), run_at=utcnow() + timedelta(days=1))
    """
    terms, new = Terms(run_at, queue, priority, max_attempts, owner_id), new_id()
    job = {"id": new, "kind": payload.kind, "payload": stored_json(session, new, payload), "version": payload.version}
    parameters = terms.parameters(session) | job | {"limit_key": limit_key(payload, owner_id)}
    with traced(session, [payload.kind]) as parameters["traceparent"]:
        job_id = await _insert(session, payload, unique, parameters)
    if job_id == new:
        await _accepted(session, [job_id], [payload.kind])
    return job_id


async def enqueue_many(
    session: Session,
    payloads: Iterable[JobPayload],
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 2,
    max_attempts: int | None = None,
    owner_id: UUID | None = None,
) -> list[UUID]:
    """Enqueue many jobs, of any kinds, in one statement, and return their ids in the order of `payloads`.

    Either all jobs are enqueued or none; see `enqueue` for arguments and errors. Ten thousand jobs take about 0.15 s,
    half of which blocks the event loop: call it several times for more.

    Example:
        async with database.unit_of_work() as session:
            jobs = [EndSessions(user_id=user.id) for user in (ada, bob)]
            job_ids = await enqueue_many(session, jobs, queue="maintenance")
    """
    jobs = {new_id(): payload for payload in payloads}
    await enqueue_all(session, jobs, Terms(run_at, queue, priority, max_attempts, owner_id))
    return list(jobs)


async def enqueue_all(session: Session, payloads: Mapping[UUID, JobPayload], terms: Terms) -> None:
    """Enqueue jobs with these ids in one statement."""
    jobs = [
        (job_id, job.kind, stored_json(session, job_id, job), job.version, limit_key(job, terms.owner_id))
        for job_id, job in payloads.items()
    ]
    if not jobs:
        return
    ids, kinds, stored, versions, keys = (list(column) for column in zip(*jobs, strict=True))
    columns = {"ids": ids, "kinds": kinds, "payloads": stored, "versions": versions, "limit_keys": keys}
    parameters = terms.parameters(session) | columns
    with traced(session, kinds) as parameters["traceparent"]:
        await session.execute(_ENQUEUE_MANY, parameters)
    await _accepted(session, ids, kinds)


def traced(session: Session, kinds: Sequence[str]) -> AbstractContextManager[str | None]:
    """Return a context with the `traceparent` of new jobs, if traces are on."""
    trace: Trace | None = session.info.get(TRACE)
    return nullcontext() if trace is None else trace(kinds)


async def _insert(
    session: Session,
    payload: JobPayload,
    unique: Unique | None,
    parameters: dict[str, Any],  # Any: of SQL
) -> UUID:
    """Return the id of the new job, or of the equal job that exists."""
    if unique is None:
        await session.execute(_ENQUEUE, parameters)
        return cast("UUID", parameters["id"])
    secret = keys_of(session).digesting(payload.kind) if payload.is_encrypted else None
    digest = unique.digest(payload, secret=secret)
    parameters |= {"period": unique.period, "states": sorted(unique.counted_states), "digest": digest}
    found = await _insert_or_find(session, payload, parameters)
    if found.id != parameters["id"] and not _is_same(session, unique, payload, found):
        # Another release enqueued that job, with another default for the same field.
        parameters["digest"] = unique.digest(
            payload, defaults=True, secret=secret
        )  # guard: test_a_job_that_was_enqueued_with_another_default_is_another_job
        found = await _insert_or_find(session, payload, parameters)
    return cast("UUID", found.id)


def _is_same(session: Session, unique: Unique, payload: JobPayload, found: Row[Any]) -> bool:  # Any: of SQL
    cipher = JobCipher(keys_of(session), found.id, payload.kind, payload.is_encrypted)
    try:
        return unique.means(payload, cipher.open("payload", found.payload), found.payload_version)
    except PayloadLocked:  # its digest is equal
        return True


async def _insert_or_find(session: Session, payload: JobPayload, parameters: dict[str, Any]) -> Row[Any]:  # Any: of SQL
    for _ in range(UNIQUE_TRIES):
        found = (await session.execute(_ENQUEUE_UNIQUE, parameters)).one_or_none()
        if found is not None:
            return found
    raise RuntimeError(f"{payload.kind}: an equal job was enqueued and ended {UNIQUE_TRIES} times meanwhile")


async def _accepted(session: Session, ids: list[UUID], kinds: list[str]) -> None:
    """Notify and count after the commit; for a test with `inline` (app_worker.testing), run the jobs at once."""
    count_after_commit(session, kinds)
    if (run_inline := session.info.get("run_inline")) is not None:
        for job_id in ids:
            await run_inline(session, job_id)

"""Jobs of the fault tests: some leave one effect each, some misbehave.

`accept` writes a row and enqueues its job in one transaction. At the end there must be one effect for each committed
row, and no other. No constraint prevents a second effect: an effect that happens twice leaves two rows.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog
from pydantic import Field
from sqlalchemy import text

from app_db import Session
from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.jobs.outbox import enqueue, enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.types import new_id
from app_worker.context import Discard, Fenced, JobContext
from app_worker.registry import Handler, Mode, handles

log = structlog.get_logger(__name__)

CREATE_TABLES = """
    CREATE TABLE chaos_rows (id uuid PRIMARY KEY);
    CREATE TABLE chaos_starts (job_id uuid NOT NULL);
    CREATE TABLE chaos_effects (row_id uuid NOT NULL, key text NOT NULL);
    CREATE INDEX ON chaos_effects (key);
"""
DROP_TABLES = "DROP TABLE chaos_rows, chaos_starts, chaos_effects"

WRITE_ROW = "INSERT INTO chaos_rows VALUES (:row)"
LEAVE_EFFECT = "INSERT INTO chaos_effects (row_id, key) SELECT CAST(:row AS uuid), CAST(:key AS text)"
COUNT_EFFECTS = "SELECT count(DISTINCT row_id) FROM chaos_effects WHERE row_id = ANY(CAST(:rows AS uuid[]))"
LEAVE_EFFECT_ONCE = f"{LEAVE_EFFECT} WHERE NOT EXISTS (SELECT FROM chaos_effects WHERE key = :key)"


class Owed(JobPayload):
    """A job that owes its row an effect."""

    row: UUID = Field(default_factory=new_id)


class TxEffect(Owed):
    """One effect, in tx mode."""

    kind = "chaos.tx"
    seconds: float = 0
    """How long it takes; if above 0, each run first commits a row in `chaos_starts`."""
    hiccups: float = 0
    """The probability that an attempt fails."""
    after: list[UUID] = Field(default_factory=list)
    """The rows whose effects have to be there before: of the job before it in a chain, or of all jobs of its batch."""


class LeaseEffect(Owed):
    """One effect, in lease mode."""

    kind = "chaos.lease"
    seconds: float = 0
    hiccups: float = 0


class StepsEffect(Owed):
    """One effect, in lease mode, in the second of three steps, or with the second move of a cursor."""

    kind = "chaos.steps"
    by_cursor: bool = False
    seconds: float = 0
    hiccups: float = 0


class Straggler(Owed):
    """Its first run waits until the test makes a file, and then writes, even if another worker has run the job."""

    kind = "chaos.straggler"
    held_until: Path
    blocks: bool = False
    """Whether it blocks the event loop meanwhile, heartbeat included."""
    is_naive: bool = False
    """The negative control: it writes without checking the fence."""


class TxPoison(Owed):
    """Always kills its worker."""

    kind = "chaos.poison.tx"


class LeasePoison(Owed):
    """Always kills its worker."""

    kind = "chaos.poison.lease"


class Departure(Owed):
    """Kills its worker as soon as its effect is committed."""

    kind = "chaos.departure"


class SteppedDeparture(Owed):
    """Kills its worker as soon as the step with its effect is committed."""

    kind = "chaos.departure.step"


class Failure(Owed):
    """Always fails; its next attempt is due in an hour."""

    kind = "chaos.failure"


class Hiccup(Exception):
    """A passing error: the next attempt may succeed."""


async def accept(session: Session, payload: Owed, *, run_at: datetime | None = None) -> UUID:
    """Write a row and enqueue the job that owes it an effect; return the job's id."""
    await session.execute(text(WRITE_ROW), {"row": payload.row})
    return await enqueue(session, payload, run_at=run_at)


async def accept_many(session: Session, payloads: Sequence[Owed]) -> list[UUID]:
    """As `accept`, all jobs in one statement."""
    await session.execute(text(WRITE_ROW), [{"row": payload.row} for payload in payloads])
    return await enqueue_many(session, payloads)


async def accept_batch(session: Session, payloads: Sequence[Owed], *, hiccups: float) -> None:
    """As `accept_many`, in a batch whose last job owes an effect too, after those of all others."""
    last = TxEffect(after=[payload.row for payload in payloads], hiccups=hiccups)
    await session.execute(text(WRITE_ROW), [{"row": payload.row} for payload in (*payloads, last)])
    await enqueue_batch(session, payloads, then=last)


async def accept_chain(session: Session, *, links: int, hiccups: float) -> None:
    """As `accept_many`, in a chain: each effect comes after the one before."""
    payloads = [TxEffect(hiccups=hiccups)]
    for _ in range(links - 1):
        payloads.append(TxEffect(after=[payloads[-1].row], hiccups=hiccups))
    await session.execute(text(WRITE_ROW), [{"row": payload.row} for payload in payloads])
    await enqueue_chain(session, *payloads)


def soon(attempt: int) -> timedelta:
    """Retry after 0.1 s, so that the tests need not wait."""
    return timedelta(milliseconds=100)


@handles(TxEffect, max_attempts=1000, backoff=soon)
async def leave_effect(job: JobContext, payload: TxEffect) -> None:
    """The effect and the completion are one commit, so an error after the effect rolls it back."""
    if payload.after:
        there = await job.session.scalar(text(COUNT_EFFECTS), {"rows": payload.after})
        if there < len(payload.after):
            raise Discard(f"it came too early: of {len(payload.after)} effects {there} are there")
    await job.session.execute(text(LEAVE_EFFECT), {"row": payload.row, "key": job.idempotency_key})
    await _take_time(job, payload.seconds)
    _hiccup(payload.hiccups)


@handles(LeaseEffect, mode=Mode.LEASE, max_attempts=1000, backoff=soon)
async def leave_effect_with_lease(job: JobContext, payload: LeaseEffect) -> None:
    """The effect and the completion are one commit, so an error after the effect changes nothing."""
    await _take_time(job, payload.seconds)
    _hiccup(payload.hiccups)
    async with job.last_transaction() as session:
        await session.execute(text(LEAVE_EFFECT), {"row": payload.row, "key": job.idempotency_key})
    _hiccup(payload.hiccups)


@handles(StepsEffect, mode=Mode.LEASE, max_attempts=1000, backoff=soon)
async def leave_effect_in_steps(job: JobContext, payload: StepsEffect) -> None:
    """The effect and its step, or the cursor, are one commit: an attempt after it does not repeat it."""
    effect = {"row": payload.row, "key": job.idempotency_key}
    if payload.by_cursor:
        for number in range(job.cursor or 0, 3):
            async with job.transaction(cursor=number + 1) as session:
                if number == 1:
                    await session.execute(text(LEAVE_EFFECT), effect)
                _hiccup(payload.hiccups)
            _hiccup(payload.hiccups)
        return
    async with job.step("before") as step:
        step.result = str(payload.row)
    assert step.result == str(payload.row)
    async with job.step("effect") as step:
        if step.is_due:
            await _take_time(job, payload.seconds)
            await (await step.session()).execute(text(LEAVE_EFFECT), effect)
        _hiccup(payload.hiccups)
    async with job.step("after"):
        _hiccup(payload.hiccups)


@handles(Straggler, mode=Mode.LEASE)
async def straggle(job: JobContext, payload: Straggler) -> None:
    """Shielded, like a call that another system is executing: cancellation cannot stop it, so the fence must."""
    await asyncio.shield(_straggle(job, payload))


async def _straggle(job: JobContext, payload: Straggler) -> None:
    is_first = await _note_start(job) == 1
    while is_first and not payload.held_until.exists():
        if payload.blocks:
            time.sleep(0.02)  # noqa: ASYNC251  # what nobody should do, and somebody will
        else:
            await asyncio.sleep(0.02)
    try:
        await (_write_past_the_fence(job, payload.row) if payload.is_naive else _write(job, payload.row))
    except Fenced:
        log.warning("straggler_fenced")
    else:
        log.warning("straggler_wrote")


@handles(TxPoison)
async def die_in_tx(job: JobContext, payload: TxPoison) -> None:
    """End the process as a segmentation fault or the out-of-memory killer would."""
    os._exit(9)


@handles(LeasePoison, mode=Mode.LEASE)
async def die_with_lease(job: JobContext, payload: LeasePoison) -> None:
    """End the process as a segmentation fault or the out-of-memory killer would."""
    os._exit(9)


@handles(Departure, mode=Mode.LEASE)
async def depart(job: JobContext, payload: Departure) -> None:
    """Die right after the commit, before the worker can report it."""
    async with job.last_transaction() as session:
        await session.execute(text(LEAVE_EFFECT), {"row": payload.row, "key": job.idempotency_key})
    os._exit(9)


@handles(SteppedDeparture, mode=Mode.LEASE)
async def depart_between_steps(job: JobContext, payload: SteppedDeparture) -> None:
    """Die right after the commit of a step, before the next one."""
    async with job.step("effect") as step:
        if step.is_due:
            effect = {"row": payload.row, "key": job.idempotency_key}
            await (await step.session()).execute(text(LEAVE_EFFECT), effect)
    if step.is_due:
        os._exit(9)


@handles(Failure, mode=Mode.LEASE, backoff=lambda _: timedelta(hours=1))
async def fail(job: JobContext, payload: Failure) -> None:
    """Leave the job in the state retryable."""
    raise Hiccup


HANDLERS: tuple[Handler, ...] = (
    leave_effect,
    leave_effect_with_lease,
    leave_effect_in_steps,
    straggle,
    die_in_tx,
    die_with_lease,
    depart,
    depart_between_steps,
    fail,
)


async def _write(job: JobContext, row: UUID) -> None:
    async with job.transaction() as session:
        await session.execute(text(LEAVE_EFFECT_ONCE), {"row": row, "key": job.idempotency_key})


async def _write_past_the_fence(job: JobContext, row: UUID) -> None:
    async with job.database.sessions.begin() as session:
        await session.execute(text(LEAVE_EFFECT), {"row": row, "key": job.idempotency_key})


async def _take_time(job: JobContext, seconds: float) -> None:
    if seconds:
        await _note_start(job)
        await asyncio.sleep(seconds)


async def _note_start(job: JobContext) -> int:
    """Commit a record that a run has begun, and return how many have."""
    async with job.database.sessions.begin() as session:
        await session.execute(text("INSERT INTO chaos_starts VALUES (:id)"), {"id": job.id})
        starts = await session.scalars(text("SELECT count(*) FROM chaos_starts WHERE job_id = :id"), {"id": job.id})
        return int(starts.one())


def _hiccup(likelihood: float) -> None:
    if random.random() < likelihood:
        raise Hiccup

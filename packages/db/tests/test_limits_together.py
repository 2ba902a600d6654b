"""Several relays and many ends at once: no limit is exceeded, nothing waits for ever, and waiting costs nothing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import text

from app_db import Database, Session
from app_db.jobs import admission, claims, control, ledger, limit_control
from app_db.jobs.ledger import Delivery, Starter
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue, enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.models import JobState
from app_db.types import new_id

from .ledger_steps import LEASE

pytestmark = pytest.mark.usefixtures("declared")

RUNNING, RATE, PERIOD = 2, 4, 1.0
CLAIMERS = 4
WAYS = ("tx", "lease", "fail", "crash", "roll back", "give back", "cancel")
"""How a job ends."""
OVER = text("""
    SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND due_at IS NULL AND finished_at IS NULL
        GROUP BY limit_key HAVING count(*) > :running
    ) AS over
""")
ENDED = text("SELECT id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND finished_at IS NOT NULL")
OPEN = text("SELECT count(*) FROM jobs WHERE finished_at IS NULL")
GO_ON = text("UPDATE jobs SET claim_at = now() WHERE state = 'retryable' AND due_at > now()")
LOSE = text("UPDATE jobs SET claim_at = now() WHERE id = :id AND fence = :fence AND state = 'executing'")


class Call(JobPayload, limit=Limit(running=RUNNING, per="clinic")):
    """A job with a limit."""

    kind = "test"
    clinic: int


class Mail(JobPayload, limit=Limit(rate=f"{RATE}/s", per="owner_id")):
    """A job with a rate."""

    kind = "test.mail"


class Claimers:
    """Relays and runners that work at the same time; each ends its jobs in a way chosen at random."""

    def __init__(self, database: Database, seed: int, ways: Sequence[str] = WAYS) -> None:
        self.database = database
        self.chance = Random(seed)
        self.ways = ways
        self.running: dict[str, set[UUID]] = defaultdict(set)
        self.starts: list[float] = []
        self.most = 0
        self.over = 0

    async def work(self) -> None:
        """Claim and run until no job is open."""
        async with self.database.sessions() as session:
            while (await session.scalars(OPEN)).one():
                self.over += (await session.scalars(OVER, {"running": RUNNING})).one()
                await session.rollback()
                for delivery in await self._claim(session):
                    await self._run(session, delivery)
                await asyncio.sleep(0)

    async def _claim(self, session: Session) -> list[Delivery]:
        claim = await claims.claim(session, queue="default", max_jobs=self.chance.randint(1, 5), lease=LEASE)
        await session.commit()
        if claim.may_admit:
            await admission.admit(session, queue="default", max_jobs=self.chance.randint(1, 5))
            await session.commit()
        await session.execute(GO_ON)
        await session.commit()
        return list(claim.deliveries)

    async def _run(self, session: Session, delivery: Delivery) -> None:
        key = (await session.scalars(text("SELECT limit_key FROM jobs WHERE id = :id"), {"id": delivery.id})).one()
        self.running[key].add(delivery.id)
        # A claim discards a job that has crashed too often, which frees its place.
        self.running[key] -= set(await session.scalars(ENDED, {"ids": list(self.running[key])}))
        self.most = max(self.most, len(self.running[key]))
        how = self.chance.choice(self.ways)
        if how == "give back":
            self.running[key].discard(delivery.id)
            await claims.make_due(session, [delivery])
            await session.commit()
            return
        if how == "cancel":
            await control.cancel(session, delivery.id)
            self.running[key].discard(delivery.id)
            await session.commit()
            return
        await self._start(session, delivery, key, how)

    async def _start(self, session: Session, delivery: Delivery, key: str, how: str) -> None:
        self.starts.append(time.time())
        leased = [] if how in {"tx", "roll back"} else ["test", "test.mail"]
        started = await ledger.start(session, delivery, Starter(new_id(), leased, LEASE))
        assert started is not None
        await asyncio.sleep(self.chance.uniform(0, 0.005))
        if how == "roll back":
            await session.rollback()
        elif how != "tx" or started.is_marked:
            await session.commit()
        if how == "crash":  # its place is kept
            await session.execute(LOSE, {"id": delivery.id, "fence": delivery.fence})
            await session.commit()
            return
        self.running[key].discard(delivery.id)
        if how in {"fail", "roll back"}:
            about = {"state": JobState.RETRYABLE, "due_in": timedelta(hours=1)}
            await ledger.finish(session, delivery, **about)  # type: ignore[arg-type]  # of finish
        elif how == "lease" or started.is_marked:
            await ledger.finish(session, delivery, state=JobState.COMPLETED)
        await session.commit()


@pytest.fixture
async def declared(database: Database) -> None:
    """Declare the limits as a worker does when it starts."""
    async with database.sessions.begin() as session:
        await limit_control.declare(session, [Call, Mail])


@pytest.mark.parametrize("seed", [1, 2])
async def test_four_relays_never_exceed_a_limit_whatever_ends_their_jobs(
    database: Database, session: Session, seed: int
) -> None:
    chance = Random(seed)
    await enqueue_many(session, [Call(clinic=chance.randrange(8)) for _ in range(250)])
    await session.commit()
    claimers = Claimers(database, seed)

    async with asyncio.timeout(60):
        await asyncio.gather(*(claimers.work() for _ in range(CLAIMERS)))

    assert (claimers.most, claimers.over) == (RUNNING, 0)


async def test_four_relays_never_exceed_a_rate(database: Database, session: Session) -> None:
    await enqueue_many(session, [Mail() for _ in range(RATE * 4)])
    await session.commit()
    # A job starts again after a crash, whatever its rate.
    claimers = Claimers(database, 3, ways=("tx", "lease", "roll back"))

    async with asyncio.timeout(60):
        await asyncio.gather(*(claimers.work() for _ in range(CLAIMERS)))

    starts = sorted(claimers.starts)
    closest = min(later - earlier for earlier, later in zip(starts, starts[RATE:], strict=False))
    assert closest >= PERIOD - 0.002


async def test_enqueuers_that_commit_late_leave_no_job_behind(database: Database, session: Session) -> None:
    async def enqueue_slowly(number: int) -> None:
        async with database.sessions.begin() as caller:
            await enqueue(caller, Call(clinic=number % 3))
            await asyncio.sleep(0.01 * (number % 7))

    claimers = Claimers(database, 4)
    await enqueue(session, Call(clinic=1))
    await session.commit()
    slow = [asyncio.create_task(enqueue_slowly(number)) for number in range(12)]

    async with asyncio.timeout(60):
        await asyncio.gather(claimers.work(), *slow)
        await claimers.work()

    assert (await session.scalars(OPEN)).one() == 0


async def test_a_claim_beside_many_jobs_that_wait_reads_none_of_them(session: Session) -> None:
    await enqueue_many(session, [Call(clinic=1)] * 5000)
    await session.commit()
    while (await claims.claim(session, queue="default", max_jobs=10, lease=LEASE)).may_admit:
        await admission.admit(session, queue="default")
        await session.commit()
    await session.execute(text("ANALYZE jobs"))
    await session.commit()
    parameters = {
        "queue": "default", "max_jobs": 10, "lease": LEASE, "max_crashes": 5, "suspicious": 2, "since": None,
        "slots": 0, "all_slots": 1, "leased": [], "worker_id": new_id(), "is_counted": False,
    }  # fmt: skip

    explain = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + str(claims._CLAIM_DUE))
    (plan,) = (await session.execute(explain, parameters)).scalar_one()

    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100

"""Limits and pauses of queues, deliveries that wait in Valkey, and how far back a claim looks."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app_db import Database, Session
from app_db.jobs import claims, ledger
from app_db.jobs.claims import LATENESS, Claim
from app_db.jobs.ledger import Delivery, Starter
from app_db.models import Job, JobQueue, JobState
from app_db.types import new_id

from .ledger_steps import LEASE, MakeJob, claim, claimed, executing, let_lease_run_out, stored, take

PAUSED = {"paused_at": func.now()}
PARAMETERS = {
    "queue": "default", "max_jobs": 10, "lease": LEASE, "max_crashes": 5, "suspicious": 2,
    "slots": 5, "all_slots": 5, "leased": ["test"], "worker_id": new_id(),
}  # fmt: skip


async def set_queue(session: Session, **columns: object) -> None:
    await session.merge(JobQueue(name="default", **columns))
    await session.commit()


async def test_a_paused_queue_delivers_nothing(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, **PAUSED)

    assert await claim(session) == []


async def test_a_queue_that_is_resumed_delivers_again(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, **PAUSED)
    await set_queue(session, paused_at=None)

    assert len(await claim(session)) == 1


async def test_a_pause_of_one_queue_leaves_the_others_alone(session: Session, make_job: MakeJob) -> None:
    await make_job(queue="mail")
    await set_queue(session, **PAUSED)

    assert len(await claim(session, queue="mail")) == 1


async def test_a_pause_waits_for_the_claim_that_is_in_progress(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    await set_queue(session)
    async with database.sessions() as relay:
        await claims.claim(relay, queue="default", max_jobs=1, lease=LEASE)

        pause = asyncio.create_task(set_queue(session, **PAUSED))
        await asyncio.wait([pause], timeout=0.2)
        assert not pause.done()
        await relay.commit()
        await pause

    assert await claim(session) == []


async def test_a_claim_that_was_frozen_lets_the_operator_in(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await set_queue(session, max_running=1)
    async with database.sessions() as relay:
        await claims.claim_within_limit(relay, queue="default", max_jobs=1, lease=LEASE)

        limit = (await relay.scalars(text("SHOW idle_in_transaction_session_timeout"))).one()

    assert limit == "5s"


async def test_only_the_claim_itself_does_not_wait_for_the_disk(database: Database, session: Session) -> None:
    await set_queue(session)

    async with database.autocommit_sessions() as relay:
        await relay.execute(text("SET synchronous_commit = on"))  # servers of tests have it off
        await claims.claim(relay, queue="default", max_jobs=1, lease=LEASE)
        later = (await relay.scalars(text("SHOW synchronous_commit"))).one()
        await relay.execute(text("RESET synchronous_commit"))

    assert later == "on"


async def test_a_queue_is_put_on_record_once_and_keeps_its_limits(session: Session) -> None:
    await set_queue(session, max_running=3)

    await claims.add_queue(session, "default")
    await claims.add_queue(session, "mail")

    rows = await session.execute(select(JobQueue.name, JobQueue.max_running).order_by(JobQueue.name))
    assert [tuple(row) for row in rows] == [("default", 3), ("mail", None)]


async def test_no_more_jobs_are_on_their_way_than_the_limit_allows(session: Session, make_job: MakeJob) -> None:
    for _ in range(5):
        await make_job()
    await set_queue(session, max_running=2)

    assert [len(await claim(session)) for _ in range(3)] == [2, 0, 0]


async def test_without_counting_nothing_is_taken_from_a_queue_with_a_limit(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, max_running=2)

    claim = await claims.claim(session, queue="default", max_jobs=1, lease=LEASE)

    assert (claim.deliveries, claim.has_limit) == ((), True)


async def test_a_limit_that_was_taken_away_meanwhile_limits_nothing(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, max_running=None)

    claim = await claims.claim_within_limit(session, queue="default", max_jobs=5, lease=LEASE)

    assert (len(claim.deliveries), claim.has_limit) == (1, False)


async def test_what_runs_counts_towards_the_limit(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await executing(session)
    for _ in range(2):
        await make_job()
    await set_queue(session, max_running=2)

    assert len(await claim(session)) == 1


async def test_jobs_of_other_queues_do_not_count_towards_the_limit(session: Session, make_job: MakeJob) -> None:
    await make_job(queue="mail")
    await claim(session, queue="mail")
    await make_job()
    await set_queue(session, max_running=1)

    assert len(await claim(session)) == 1


async def test_a_job_that_ended_makes_room_for_another(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, max_running=1)
    delivery = await executing(session)
    await make_job()
    await ledger.finish(session, delivery, state=JobState.COMPLETED)
    await session.commit()

    assert len(await claim(session)) == 1


async def test_two_relays_together_stay_below_the_limit(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    for _ in range(20):
        await make_job()
    await set_queue(session, max_running=3)

    async def relay() -> int:
        async with database.sessions() as own:
            return len((await take(own)).deliveries)

    assert sum(await asyncio.gather(*(relay() for _ in range(4)))) == 3


@pytest.mark.parametrize("max_running", [1, 0])
async def test_an_orphan_does_not_block_its_own_queue(session: Session, make_job: MakeJob, max_running: int) -> None:
    job_id = await make_job()
    delivery = await claimed(session)
    await make_job(due_in=timedelta(seconds=-10))
    await let_lease_run_out(session, job_id)
    await set_queue(session, max_running=max_running)

    assert await claim(session) == [Delivery(job_id, delivery.fence + 1)]


async def test_a_claim_says_whether_it_may_have_left_due_jobs_behind(session: Session, make_job: MakeJob) -> None:
    for _ in range(2):
        await make_job()

    assert [(await take(session, max_jobs=max_jobs)).more_due for max_jobs in (1, 2)] == [True, False]


async def test_a_claim_that_is_limited_may_have_left_due_jobs_behind(session: Session, make_job: MakeJob) -> None:
    for _ in range(2):
        await make_job()
    await set_queue(session, max_running=1)

    assert [(await take(session)).more_due for _ in range(2)] == [True, True]


async def test_a_pause_leaves_nothing_to_come_back_for(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await set_queue(session, **PAUSED)

    assert await take(session) == Claim()


async def test_a_claim_counts_lost_deliveries_and_lost_workers(session: Session, make_job: MakeJob) -> None:
    crashed = await make_job()
    await executing(session)
    lost = await make_job()
    await claimed(session)
    for job_id in (crashed, lost):
        await let_lease_run_out(session, job_id)
    await make_job()

    claim = await take(session)

    assert (len(claim.deliveries), claim.redelivered, claim.crashed) == (3, 1, 1)


# --- looking back --------------------------------------------------------------------------------------------------


async def test_a_claim_looks_no_further_back_than_it_is_told(session: Session, make_job: MakeJob) -> None:
    await make_job(due_in=timedelta(minutes=-2))
    recent = await make_job(due_in=timedelta(seconds=-1))
    since = (await session.scalars(select(func.now() - timedelta(minutes=1)))).one()

    claim = await claims.claim(session, queue="default", max_jobs=10, lease=LEASE, since=since)

    assert claim.deliveries == (Delivery(recent, 1),)


async def test_claims_have_to_look_back_as_far_as_the_oldest_due_job(session: Session, make_job: MakeJob) -> None:
    oldest = await make_job(due_in=timedelta(hours=-1), priority=3)
    await make_job(due_in=timedelta(minutes=-1), priority=0)
    await make_job(due_in=timedelta(hours=-2), queue="mail")

    assert await claims.oldest_due(session, "default") == (await stored(session, oldest)).claim_at


async def test_claims_always_look_back_as_far_as_a_commit_may_be_late(session: Session, make_job: MakeJob) -> None:
    await make_job(due_in=timedelta(seconds=-1))

    since = await claims.oldest_due(session, "default")

    assert since == (await session.scalars(select(func.now() - LATENESS))).one()


async def test_orphans_are_found_by_the_index_of_what_runs(session: Session, make_job: MakeJob) -> None:
    await session.execute(
        text(
            "INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)"
            " SELECT uuidv7(), 'test', '{}', 1, 'available', now() FROM generate_series(1, 5000)"
        )
    )
    await session.execute(text("ANALYZE jobs"))

    statement = "EXPLAIN " + str(claims._CLAIM_ORPHANS)
    parameters = {**PARAMETERS, "is_counted": True}
    plan = await session.scalars(text(statement), parameters)

    assert "ix_jobs_on_their_way" in "\n".join(plan)


async def test_a_claim_of_few_of_many_due_jobs_reads_few(session: Session) -> None:
    await session.execute(
        text(
            "INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)"
            " SELECT uuidv7(), 'test', '{}', 1, 'available', now() FROM generate_series(1, 5000)"
        )
    )
    await session.execute(text("ANALYZE jobs"))

    statement = text("EXPLAIN " + str(claims._CLAIM_DUE))
    parameters = {**PARAMETERS, "is_counted": False, "since": None}
    plan = "\n".join(await session.scalars(statement, parameters))

    assert "Index Scan using ix_jobs_claim on jobs" in plan
    assert "Seq Scan on jobs" not in plan


STATEMENTS_ABOUT_ONE_JOB = {
    "start": ledger._START,
    "finish": ledger._FINISH,
    "lock": ledger._LOCK,
    "progress": ledger._PROGRESS,
    "extend": ledger._EXTEND,
}


@pytest.mark.parametrize("name", STATEMENTS_ABOUT_ONE_JOB)
async def test_a_job_is_found_by_its_id_and_by_no_index_that_may_be_full_of_dead_entries(
    session: Session, make_job: MakeJob, name: str
) -> None:
    await session.execute(
        text(
            "INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)"
            " SELECT uuidv7(), 'test', '{}', 1, 'available', now() FROM generate_series(1, 5000)"
        )
    )
    await session.execute(text("ANALYZE jobs"))
    parameters = {
        "id": new_id(), "fence": 1, "leased": ["test"], "leased_only": True, "lease": LEASE, "worker_id": new_id(),
        "state": "completed", "due_in": None, "costs_attempt": True, "result": None, "progress": None,
        "idle": "1000", "total": "1000",
    }  # fmt: skip
    statement = text("EXPLAIN " + str(STATEMENTS_ABOUT_ONE_JOB[name]))

    plan = "\n".join(await session.scalars(statement, {key: parameters[key] for key in statement._bindparams}))

    assert "Index Scan using pk_jobs on jobs" in plan
    assert "ix_jobs_" not in plan


# --- what waits ----------------------------------------------------------------------------------------------------


async def test_what_waits_is_not_due_while_it_is_renewed(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await claimed(session)
    await let_lease_run_out(session, job_id)

    await claims.extend_waiting(session, [delivery], lease=LEASE)

    assert await claim(session) == []


async def test_the_lease_of_a_job_that_was_started_is_its_workers(session: Session, make_job: MakeJob) -> None:
    delivery = await make_executing(session, make_job)
    before = (await stored(session, delivery.id)).claim_at

    await claims.extend_waiting(session, [delivery], lease=LEASE * 2)

    assert (await stored(session, delivery.id)).claim_at == before


async def test_an_older_delivery_renews_nothing(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await claimed(session)
    await let_lease_run_out(session, job_id)
    await claimed(session)
    await let_lease_run_out(session, job_id)

    await claims.extend_waiting(session, [old], lease=LEASE)

    assert len(await claim(session)) == 1


@pytest.mark.parametrize("what", ["extend_waiting", "make_due"])
async def test_a_relay_does_not_wait_for_a_job_that_runs_in_a_transaction(
    database: Database, session: Session, make_job: MakeJob, what: str
) -> None:
    await make_job()
    await make_job()
    running, waiting = await claim(session)
    await session.execute(update(Job).values(claim_at=func.now()))
    await session.commit()

    async with database.sessions() as runner:
        await ledger.start(runner, running, Starter(new_id(), [], LEASE))
        if what == "make_due":
            await claims.make_due(session, [running, waiting])
        else:
            await claims.extend_waiting(session, [running, waiting], lease=LEASE)
        await session.commit()

        state = JobState.AVAILABLE if what == "make_due" else JobState.DISPATCHED
        assert (await stored(session, waiting.id)).state is state


async def make_executing(session: Session, make_job: MakeJob) -> Delivery:
    await make_job()
    return await executing(session)

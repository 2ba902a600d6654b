"""Deleting old rows: in batches, in its own queue that no pause of another stops, and on record."""

import asyncio
from datetime import timedelta

from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database
from app_db.features.retention.payloads import PruneJobs, PruneSessions
from app_db.features.retention.settings import RetentionSettings
from app_db.jobs import control, crons
from app_db.jobs.retention import QUEUE
from app_db.models import JobState
from app_db.repositories.expiry import BATCH
from app_db.settings import DatabaseSettings
from app_db.testing.plugin import MakeUser
from app_worker.crons import CRONS
from app_worker.features.retention.handlers import prune_sessions
from app_worker.handlers import HANDLERS
from app_worker.pruning import serve_retention
from app_worker.resources import supplied
from app_worker.schedule import fire_due
from app_worker.telemetry import PRUNES

from .conftest import LEASE, Jobs, MakeRunner, eventually, until
from .proxy import Proxy, over

EXPIRED_SESSIONS = text("""
    INSERT INTO user_sessions (id, user_id, refresh_key_id, idle_expires_at, expires_at)
    SELECT uuidv7(), id, 'k1', now() - interval '1 second', now() + interval '1 day'
    FROM users, generate_series(1, :count)
""")
EXPIRED_TOKENS = text("""
    INSERT INTO one_time_tokens (id, user_id, purpose, email_canonical, key_id, expires_at)
    SELECT uuidv7(), id, 'verify_email', email_canonical, 'k1', now() - interval '1 second'
    FROM users, generate_series(1, :count)
""")
SHORT = timedelta(milliseconds=20)


async def test_what_has_expired_goes_in_batches_that_are_committed_each_for_itself(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    """Deleting a million rows at once took 543 MB of ids, and three million never ended."""
    await make_user()
    async with jobs.database.sessions.begin() as session:
        await session.execute(EXPIRED_SESSIONS, {"count": BATCH + 1})
        await session.execute(EXPIRED_TOKENS, {"count": BATCH + 2})
    delivery = await jobs.deliver(PruneSessions())

    await make_runner(prune_sessions).run(delivery)

    assert (await jobs.get(delivery)).result == {"sessions": BATCH + 1, "one_time_tokens": BATCH + 2, "answers": 0}
    assert (
        await jobs.scalar("SELECT (SELECT count(*) FROM user_sessions) + (SELECT count(*) FROM one_time_tokens)") == 0
    )


async def test_a_prune_that_was_interrupted_keeps_what_it_has_done(
    jobs: Jobs, make_runner: MakeRunner, make_user: MakeUser
) -> None:
    await make_user()
    async with jobs.database.sessions.begin() as session:
        await session.execute(EXPIRED_SESSIONS, {"count": 2 * BATCH})
    runner = make_runner(prune_sessions)
    running = asyncio.create_task(runner.run(await jobs.deliver(PruneSessions())))

    await eventually(lambda: jobs.scalar(f"SELECT count(*) <= {BATCH} FROM user_sessions"))
    running.cancel()
    await asyncio.wait([running])

    assert await jobs.scalar("SELECT count(*) FROM user_sessions") <= BATCH


async def test_each_prune_puts_on_record_that_it_is_done(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    async with database.sessions.begin() as session:
        assert await crons.ages(session, PRUNES) == {}
        await crons.cron_states(session, PRUNES)
        await session.execute(text("UPDATE job_crons SET done_at = now() - interval '1 day'"))

    await make_runner(prune_sessions).run(await jobs.deliver(PruneSessions()))

    async with database.sessions.begin() as session:
        ages = await crons.ages(session, PRUNES)
    assert ages[PruneSessions.kind] < 3600 < ages[PruneJobs.kind]


async def test_retention_goes_on_while_every_other_queue_is_paused(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    async with database.sessions.begin() as session:
        await control.pause(session, "default")
        await crons.cron_states(session, [cron.name for cron in CRONS])
        await session.execute(text("UPDATE job_crons SET last_tick_at = now() - interval '1 hour'"))
    await fire_due(database, CRONS)

    handlers = supplied(HANDLERS, {RetentionSettings: RetentionSettings()})
    serving = asyncio.create_task(serve_retention(make_runner(*handlers), lease=LEASE, poll=SHORT))
    await eventually(
        lambda: jobs.scalar(f"SELECT count(*) = {len(CRONS)} FROM jobs WHERE state = '{JobState.COMPLETED}'")
    )
    serving.cancel()
    await asyncio.wait([serving])

    assert await jobs.scalar("SELECT array_agg(DISTINCT queue) FROM jobs") == [QUEUE]


async def test_retention_is_served_again_after_an_outage(
    database_settings: DatabaseSettings, make_runner: MakeRunner
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        await proxy.cut()
        with capture_logs() as logs:
            serving = asyncio.create_task(
                serve_retention(make_runner(prune_sessions, database=database), lease=LEASE, poll=SHORT)
            )
            await until(lambda: len(logs) > 1)
        assert not serving.done()
        serving.cancel()
        await asyncio.wait([serving])

    assert {log["event"] for log in logs} == {"queue_not_served"}

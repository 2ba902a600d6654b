"""Jobs end to end: accepted over HTTP, run by worker processes, seen by the user. Killed processes lose nothing."""

import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from redis.asyncio import Redis
from sqlalchemy import text

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.jobs.outbox import enqueue
from app_db.testing.plugin import MakeUser
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from app_worker.delivery_queue import DeliveryQueue, connect
from app_worker.metrics import Metrics
from app_worker.relay import Relay

from .conftest import LEASE_SECONDS, StartWorker
from .processes import MailSink, Worker, eventually, until

ROLLED_BACK = "rolled-back@example.test"
REFUSE = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'"
REFUSE_AT_COMMIT = f"""
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON users INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.email = '{ROLLED_BACK}') EXECUTE FUNCTION refuse()
"""


async def test_registering_sends_a_mail_in_text_and_html(
    http: AsyncClient, worker: Worker, mail_sink: MailSink
) -> None:
    await register(http, "ada@example.test")

    await until(lambda: mail_sink.to("ada@example.test"), "the mail is there")
    (mail,) = mail_sink.to("ada@example.test")
    assert mail["From"] == "Groundwork <hello@groundwork.test>"
    assert mail["Subject"] == "Welcome to Groundwork"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert all("https://groundwork.test/" in part.get_content() for part in mail.iter_parts())


async def test_a_mail_is_sent_although_the_worker_was_killed_while_sending_it(
    http: AsyncClient, start_worker: StartWorker, mail_sink: MailSink, database: Database
) -> None:
    mail_sink.stalling = True
    worker = start_worker()
    await register(http, "ada@example.test")
    await until(lambda: mail_sink.stalled, "the mail is being sent")

    worker.kill()
    mail_sink.stalling = False
    start_worker()

    await all_jobs_end(database)
    assert_sent_once(mail_sink, "ada@example.test")


async def test_a_mail_is_sent_although_valkey_forgot_the_job(
    http: AsyncClient, start_worker: StartWorker, mail_sink: MailSink, database: Database, valkey: ValkeyServer
) -> None:
    await register(http, "ada@example.test")
    await dispatch_and_die(database, valkey.url)

    async with Redis.from_url(valkey.url) as client:
        await client.flushall()
    start_worker()

    await all_jobs_end(database)
    assert_sent_once(mail_sink, "ada@example.test")


async def test_a_mail_is_sent_although_valkey_was_down(
    http: AsyncClient, worker: Worker, mail_sink: MailSink, database: Database, valkey: ValkeyServer
) -> None:
    os.kill(valkey.pid, signal.SIGKILL)
    await register(http, "ada@example.test")
    await until(lambda: worker.has_logged("claim_failed"), "the worker has noticed")

    valkey.stop()
    valkey.start()

    await all_jobs_end(database)
    assert_sent_once(mail_sink, "ada@example.test")


async def test_a_registration_that_was_rolled_back_sends_nothing(
    http: AsyncClient, worker: Worker, mail_sink: MailSink, database: Database, commit_fails_for: str
) -> None:
    answer = await http.post("/auth/register", json={"email": commit_fails_for, "password": PASSWORD})
    await register(http, "later@example.test")

    await all_jobs_end(database)
    assert answer.status_code == 500
    assert mail_sink.to(commit_fails_for) == []
    assert_sent_once(mail_sink, "later@example.test")


async def test_a_user_follows_an_export_to_its_result(http: AsyncClient, worker: Worker) -> None:
    await register(http, "ada@example.test")
    headers = await sign_in(http, "ada@example.test")

    accepted = await http.post("/auth/me/export", headers=headers)

    assert accepted.status_code == 202
    job_url = accepted.headers["Location"]
    seen = []

    async def completed() -> bool:
        seen.append((await http.get(job_url, headers=headers)).json())
        return bool(seen[-1]["state"] == "completed")

    await eventually(completed, "the export is complete")
    steps = [job["progress"]["done"] for job in seen if job["progress"]]
    assert steps == sorted(steps)
    assert steps[-1] == seen[-1]["progress"]["of"]
    assert seen[-1]["result"]["account"]["email"] == "ada@example.test"
    assert len(seen[-1]["result"]["sessions"]) == 1


async def test_a_tick_fires_once_with_two_worker_processes(start_worker: StartWorker, database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("INSERT INTO job_crons VALUES ('sessions.prune', now() - interval '1 day')"))
    async with database.sessions.begin() as session:
        # Hold the lock for as long as the workers take to start.
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        await session.execute(text("SELECT 1 FROM job_crons FOR UPDATE"))
        for _ in range(2):  # both want the tick, and wait for our lock
            start_worker(APP_DATABASE__LOCK_TIMEOUT="PT60S", APP_DATABASE__REQUEST_TIMEOUT="PT60S")
        await eventually(lambda: two_wait_for_a_lock(database), "both have come for it")
        began = await scalar(database, "SELECT clock_timestamp()::text")

    await eventually(lambda: none_is_left_since(database, began), "both have had their turn")
    assert await scalar(database, "SELECT count(*) FROM jobs WHERE kind = 'sessions.prune'") == 1


async def test_a_stopped_worker_gives_its_job_back_with_the_attempt(
    http: AsyncClient, start_worker: StartWorker, mail_sink: MailSink, database: Database
) -> None:
    mail_sink.stalling = True
    worker = start_worker()
    await register(http, "ada@example.test")
    await until(lambda: mail_sink.stalled, "the mail is being sent")

    exit_code = worker.stop()

    assert exit_code == 0, worker.output
    assert await scalar(database, "SELECT state || attempt FROM jobs WHERE queue = 'default'") == "available0"
    mail_sink.stalling = False
    start_worker()
    await all_jobs_end(database)
    assert await scalar(database, "SELECT state || attempt FROM jobs WHERE queue = 'default'") == "completed1"
    assert_sent_once(mail_sink, "ada@example.test")


async def test_control_a_lost_mail_would_be_seen(
    worker: Worker, mail_sink: MailSink, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="lost@example.test")
    async with database.sessions.begin() as session:
        await enqueue(session, WelcomeEmail(user_id=user.id))
        await session.execute(text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now()"))

    await all_jobs_end(database)
    with pytest.raises(AssertionError, match="sent 0 times"):
        assert_sent_once(mail_sink, "lost@example.test")


async def test_control_a_doubled_mail_would_be_seen(
    worker: Worker, mail_sink: MailSink, database: Database, make_user: MakeUser
) -> None:
    user = await make_user(email="doubled@example.test")
    async with database.sessions.begin() as session:
        await enqueue(session, WelcomeEmail(user_id=user.id))
    await all_jobs_end(database)

    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET state = 'available', claim_at = now(), finished_at = NULL"))

    await all_jobs_end(database)
    with pytest.raises(AssertionError, match="sent 2 times"):
        assert_sent_once(mail_sink, "doubled@example.test")
    first, second = mail_sink.to("doubled@example.test")
    assert first["Message-ID"] == second["Message-ID"]


@pytest_asyncio.fixture(loop_scope="session")
async def commit_fails_for(database: Database) -> AsyncIterator[str]:
    """An address whose registration does everything, the job included, and then fails at COMMIT."""
    async with database.sessions.begin() as session:
        await session.execute(text(REFUSE))
        await session.execute(text(REFUSE_AT_COMMIT))
    yield ROLLED_BACK
    async with database.sessions.begin() as session:
        await session.execute(text("DROP FUNCTION refuse() CASCADE"))


async def register(http: AsyncClient, email: str) -> None:
    answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text


async def sign_in(http: AsyncClient, email: str) -> dict[str, str]:
    answer = await http.post("/auth/access-token", data={"username": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def dispatch_and_die(database: Database, valkey_url: str) -> None:
    """Move a job from Postgres to Valkey, as a worker does that then dies."""

    async with connect(ValkeySettings.model_validate({"url": valkey_url, "timeout": timedelta(seconds=5)})) as valkey:
        delivery_queue = DeliveryQueue(valkey, "default")
        await delivery_queue.take("an executor with a free slot", 1)
        metrics = Metrics(kinds=(), queues=())
        relay = Relay(database, delivery_queue, timedelta(seconds=LEASE_SECONDS), lambda: True, metrics)
        assert await relay.claim_and_push() == 1


async def all_jobs_end(database: Database) -> None:
    """Wait until every job has ended."""

    async def no_job_is_open() -> bool:
        return await scalar(database, "SELECT NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)") is True

    await eventually(no_job_is_open, "all jobs have ended")


def assert_sent_once(mail_sink: MailSink, address: str) -> None:
    """Call this when all jobs have ended, so that no further mail can come."""
    times = len(mail_sink.to(address))
    assert times == 1, f"the mail to {address} was sent {times} times"


async def two_wait_for_a_lock(database: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'worker' AND wait_event_type = 'Lock'"
    return bool(await scalar(database, waiting) == 2)


async def none_is_left_since(database: Database, began: str) -> bool:
    """Whether all transactions of workers that had begun by then have ended."""
    left = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'worker' AND xact_start <= '{began}'"
    return bool(await scalar(database, left) == 0)


async def scalar(database: Database, query: str) -> Any:
    """Ask Postgres directly, past our own repositories."""
    async with database.read_sessions() as session:
        return (await session.scalars(text(query))).one()

"""Workers that die between the statement that starts their jobs and the first line of the handlers."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app_db import Database
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import LeaseEffect
from tests.e2e.chaos.observing import accepted, all_jobs_end, found_wrong, seen
from tests.e2e.processes import Process, connected, eventually
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

JOBS = 30
KILLS = 2  # after so many crashes a job is suspicious, and no claim starts it
# Notifications are sent when the start is committed, before the worker has the reply.
TELL = """
    CREATE FUNCTION tell_start() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('started', ''); RETURN NULL; END $$;
    CREATE TRIGGER tell_start AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (NEW.fence <> OLD.fence AND NEW.state = 'executing') EXECUTE FUNCTION tell_start();
"""
SAY_NO_MORE = "DROP TRIGGER IF EXISTS tell_start ON jobs; DROP FUNCTION IF EXISTS tell_start"
CRASHED = "SELECT count(*) FROM jobs WHERE crashes > 0 AND attempt = 1 AND state = 'completed'"


@asynccontextmanager
async def killing_at_the_start(database: Database, workers: list[Process]) -> AsyncIterator[None]:
    """Kill the last of these workers as soon as a claim has started jobs."""

    def kill(*_: object) -> None:
        workers[-1].signal(signal.SIGKILL)

    async with connected(database.settings.direct_dsn) as connection:
        await connection.execute(TELL)
        await connection.add_listener("started", kill)
        try:
            yield
        finally:
            await connection.remove_listener("started", kill)
            await connection.execute(SAY_NO_MORE)


async def test_jobs_whose_worker_is_killed_when_their_claim_has_started_them_run_once_again(
    database: Database, start_worker: StartWorker
) -> None:
    for _ in range(JOBS):
        await accepted(database, LeaseEffect())
    workers: list[Process] = []

    async with killing_at_the_start(database, workers):
        for _ in range(KILLS):
            workers.append(start_worker(ready="", APP_WORKER__LEASE="PT2S"))
            await eventually(lambda: dead(workers[-1]), "the worker is dead")
    start_worker(APP_WORKER__LEASE="PT2S")

    await all_jobs_end(database)
    assert await found_wrong(database) == {}
    assert await seen(database, CRASHED) >= KILLS


async def dead(worker: Process) -> bool:
    return not worker.is_running()

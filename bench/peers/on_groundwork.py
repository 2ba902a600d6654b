"""The product itself: its worker process, with the jobs of this bench in the mode that BENCH_MODE names."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from app_db import Database, open_database
from app_db.jobs.outbox import enqueue, enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.settings import DatabaseSettings
from app_runtime.configuration import load
from app_runtime.telemetry.logs import configure_logging
from app_worker.context import JobContext
from app_worker.handlers import HANDLERS
from app_worker.process import run_worker
from app_worker.registry import Mode, handles
from app_worker.settings import ELSEWHERE, WorkerSettings
from bench.peers import inside

MODE = Mode(inside.told("MODE"))
INSERT = text("INSERT INTO bench_effects (number) VALUES (:number)")


class Nothing(JobPayload):
    """No work at all."""

    kind = "peers.nothing"
    number: int


class Effect(JobPayload):
    """One row."""

    kind = "peers.effect"
    number: int


class Start(JobPayload):
    """Tells when it was started."""

    kind = "peers.start"


@handles(Nothing, mode=MODE)
async def do_nothing(job: JobContext, payload: Nothing) -> None:
    """Return at once."""
    inside.nothing(payload.number)


@handles(Effect, mode=MODE)
async def write_effect(job: JobContext, payload: Effect) -> None:
    """Write a row in the transaction that completes the job."""
    values: dict[str, Any] = {"number": payload.number}  # Any: as execute takes it
    with inside.marked(payload.number):
        if MODE is Mode.TX:
            await job.session.execute(INSERT, values)
            return
        async with job.last_transaction() as session:
            await session.execute(INSERT, values)


@handles(Start, mode=MODE)
async def tell_start(job: JobContext, payload: Start) -> None:
    """Tell the bench that it runs."""
    inside.write_start()


KINDS: dict[str, type[Nothing | Effect]] = {"nothing": Nothing, "effect": Effect}


async def worker() -> None:
    """Run until SIGTERM."""
    settings = load(WorkerSettings, os.environ, elsewhere=ELSEWHERE)
    configure_logging(settings.log)
    logging.getLogger("arq").setLevel(logging.WARNING)
    await run_worker(settings, handlers=[*HANDLERS, do_nothing, write_effect, tell_start])


class Client:
    """Enqueue through a pool of sessions, as an API process does."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        async with self.database.sessions.begin() as session:
            await enqueue_many(session, [KINDS[kind](number=number) for number in range(count)])

    async def one(self, number: int) -> None:
        """Enqueue one."""
        async with self.database.sessions.begin() as session:
            await enqueue(session, Nothing(number=number))

    async def start(self) -> None:
        """Enqueue one that tells."""
        async with self.database.sessions.begin() as session:
            await enqueue(session, Start())


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    settings = DatabaseSettings.model_validate({"url": os.environ["APP_DATABASE__URL"]})
    async with open_database(settings, name="bench") as database:
        yield Client(database)

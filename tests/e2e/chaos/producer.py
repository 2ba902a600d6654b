"""`python -m tests.e2e.chaos.producer`: accepts jobs until it is killed, and prints the jobs whose COMMIT has returned.

With `--die-after-commit` it kills itself when its first COMMIT has returned, before the notification of its job.
"""

import asyncio
import os
import random
import signal
import sys
from typing import NoReturn
from uuid import UUID

import uvloop
from pydantic import BaseModel

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_runtime.configuration import PREFIX, load
from tests.e2e.chaos.jobs import (
    LeaseEffect,
    Owed,
    StepsEffect,
    TxEffect,
    accept,
    accept_batch,
    accept_chain,
    accept_many,
)
from tests.e2e.chaos.limited_jobs import LimitedEffect

WRITERS = 4
LONGEST_PAUSE = 0.04
"""Seconds between two transactions of a writer: some 150 a second, so that the backlog stays small."""
ROLLED_BACK = 0.15
BATCHES = 0.05
BATCH = 5
CHAINS = 0.05
"""How many are chains, and how many are batches."""
HICCUPS = 0.03
STEPS = 0.3
LIMITED = 0.2
KEYS = 5
SLOW = 0.01
SLOW_SECONDS = 0.5


class ProducerSettings(BaseModel):
    """Of all settings of the workers beside it, it needs only those of the database."""

    database: DatabaseSettings


class Regret(Exception):
    """Rolls a transaction back after all was written."""


async def accept_some(database: Database) -> None:
    """Write a row or a few with a job each, in one transaction that is rolled back now and then.

    Some of them are a chain, or a batch with a last job.
    """
    async with database.sessions.begin() as session:
        jobs: list[UUID] = []
        if (chance := random.random()) < CHAINS:
            await accept_chain(session, links=BATCH, hiccups=HICCUPS)
        elif chance < 2 * CHAINS:
            await accept_batch(session, [some_payload() for _ in range(BATCH)], hiccups=HICCUPS)
        elif random.random() < BATCHES:
            jobs = await accept_many(session, [some_payload() for _ in range(BATCH)])
        else:
            jobs = [await accept(session, some_payload())]
        if random.random() < ROLLED_BACK:
            raise Regret
    for job_id in jobs:
        say(f"committed {job_id}")


def some_payload() -> Owed:
    seconds = SLOW_SECONDS if random.random() < SLOW else 0
    if random.random() < LIMITED:
        return LimitedEffect(key=random.randrange(KEYS), fails_first=random.random() < HICCUPS)
    if random.random() < STEPS:
        return StepsEffect(seconds=seconds, hiccups=HICCUPS, by_cursor=random.random() < 0.5)
    payload_class: type[TxEffect | LeaseEffect] = random.choice((TxEffect, LeaseEffect))
    return payload_class(seconds=seconds, hiccups=HICCUPS)


async def accept_for_ever(database: Database) -> NoReturn:
    """Go on after every error of the database; only the rows can tell whether a failed COMMIT took effect."""
    while True:
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
        try:
            await accept_some(database)
        except Regret:
            say("rolled back")
        except Exception as error:
            say(f"failed {error!r}")
            await asyncio.sleep(0.1)


async def accept_and_die(database: Database) -> None:
    """Die right after the commit: the notification is sent some milliseconds later."""
    async with database.sessions.begin() as session:
        await accept(session, TxEffect())
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    settings = load(ProducerSettings, os.environ, elsewhere=[PREFIX]).database
    async with open_database(settings, name="producer") as database:
        if "--die-after-commit" in sys.argv:
            await accept_and_die(database)
        await asyncio.gather(*(accept_for_ever(database) for _ in range(WRITERS)))


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # what it prints is read when it is dead


if __name__ == "__main__":
    asyncio.run(main(), loop_factory=uvloop.new_event_loop)

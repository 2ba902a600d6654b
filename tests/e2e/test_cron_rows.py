"""A cron that a command line adds, beside two running workers: each tick is one job, until a pause, and after it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import text

from app_db import Database
from tests.e2e.conftest import Environment, StartWorker
from tests.e2e.processes import eventually

NAME = "tidy.each_second"
TICKS = text("SELECT run_at FROM jobs WHERE queue = 'tidy' ORDER BY run_at")


async def crons(environment: Environment, *arguments: str) -> Any:  # Any: JSON
    """Run `python -m app_worker crons`, and return what it says."""
    command = (sys.executable, "-m", "app_worker", "crons", *arguments, "--json")
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def ticks(database: Database) -> list[datetime]:
    async with database.unit_of_work(read_only=True) as session:
        return list(await session.scalars(TICKS))


async def test_each_tick_of_a_cron_that_a_command_adds_is_one_job(
    database: Database, start_worker: StartWorker, worker_environment: Environment
) -> None:
    for _ in range(2):
        start_worker()
    options = ("--queue", "tidy", "--catch-up", "all")
    [added] = (await crons(worker_environment, "add", NAME, "sessions.prune", "* * * * * *", *options))["crons"]

    async def has_ticked(often: int = 8) -> bool:
        return len(await ticks(database)) >= often

    await eventually(has_ticked, "ticks become jobs")
    [paused] = (await crons(worker_environment, "pause", NAME))["crons"]
    before = await ticks(database)
    await asyncio.sleep(3)
    during = await ticks(database)
    await crons(worker_environment, "resume", NAME)
    [changed] = (await crons(worker_environment, "change", NAME, "--priority", "7"))["crons"]
    await eventually(lambda: has_ticked(len(before) + 3), "ticks become jobs again")
    await crons(worker_environment, "delete", NAME)

    assert (added["is_in_table"], paused["next_tick_at"], changed["paused_at"]) == (True, None, None)
    assert during == before
    assert {later - earlier for earlier, later in pairwise(before)} == {timedelta(seconds=1)}
    after = (await ticks(database))[len(before) :]
    assert after[0] - before[-1] >= timedelta(seconds=3), "what was missed during the pause is not made up"
    assert {later - earlier for earlier, later in pairwise(after)} == {timedelta(seconds=1)}

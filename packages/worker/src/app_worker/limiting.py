"""Tells the ledger which limits the payload classes of this worker declare (ADR-0081)."""

import asyncio

import structlog

from app_db.jobs import limit_control
from app_worker.runner import Runner

log = structlog.get_logger(__name__)

PAUSE = 1.0
"""Seconds between two tries while Postgres is away."""


async def declare(runner: Runner) -> None:
    """Write the limits of the kinds that this runner has handlers for; a kind without one loses the limit it had."""
    async with runner.database.unit_of_work() as session:
        await limit_control.declare(session, [each.payload_class for each in runner.registry.by_kind.values()])


async def declare_limits(runner: Runner, *, pause: float = PAUSE) -> None:
    """Declare once, as soon as Postgres answers, then wait until cancelled: until then new kinds with limits wait.

    Once, so that of two releases that run at the same time the newer one has the last word.
    """
    while True:
        try:
            await declare(runner)
            break
        except Exception as error:
            log.warning("limits_not_declared", cause=repr(error))
            await asyncio.sleep(pause)
    await asyncio.Event().wait()

"""Faults as in tests/e2e/chaos, with a PgBouncer in between that dies as well."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from app_runtime.testing.servers import PostgresServer
from tests.e2e.chaos.figures import show, wrong
from tests.e2e.chaos.fire import DRAIN_SECONDS, run_under_fire
from tests.e2e.chaos.test_outages import crash, go_on_after, shut_down_fast
from tests.e2e.pgbouncer import require_pgbouncer
from tests.e2e.pooled.site import POOLED_WEIGHTS, PooledSite

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10_000))


@pytest.mark.timeout(SECONDS + DRAIN_SECONDS + 240)
async def test_nothing_is_lost_and_nothing_happens_twice_behind_a_pooler_under_fire(tmp_path: Path) -> None:
    require_pgbouncer()
    figures = await run_under_fire(tmp_path, seconds=SECONDS, seed=SEED, place=PooledSite, weights=POOLED_WEIGHTS)

    print(f"seed {SEED}: {figures}")  # noqa: T201  # what the run has shown
    show("everything, at random, behind a pooler", figures.counts)
    assert figures.counts["committed"]
    assert wrong(figures.counts) == {}, f"with CHAOS_SEED={SEED}"


@pytest.mark.parametrize("end", [shut_down_fast, crash])
async def test_workers_behind_a_pooler_go_on_after_postgres_came_back(
    tmp_path: Path, end: Callable[[PostgresServer], None]
) -> None:
    require_pgbouncer()
    name = test_workers_behind_a_pooler_go_on_after_postgres_came_back.__name__
    await go_on_after(end, PooledSite(tmp_path, workers=2), name=name)

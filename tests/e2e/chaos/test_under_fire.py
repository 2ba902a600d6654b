"""All faults at random. The longer runs: `python -m tests.e2e.chaos --seconds 600`."""

import os
import random
from pathlib import Path

import pytest

from tests.e2e.chaos.figures import show, wrong
from tests.e2e.chaos.fire import DRAIN_SECONDS, run_under_fire
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10_000))


@pytest.mark.timeout(SECONDS + DRAIN_SECONDS + 240)
async def test_nothing_is_lost_and_nothing_happens_twice_under_fire(tmp_path: Path) -> None:
    figures = await run_under_fire(tmp_path, seconds=SECONDS, seed=SEED)

    print(f"seed {SEED}: {figures}")  # noqa: T201  # what the run has shown
    show("everything, at random", figures.counts)
    assert figures.counts["committed"]
    assert wrong(figures.counts) == {}, f"with CHAOS_SEED={SEED}"

"""`python -m tests.e2e.chaos`, from the root of the checkout: a run under fire of any length, and its figures."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.chaos.figures import wrong
from tests.e2e.chaos.fire import run_under_fire

TEN_MINUTES = 600


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos", description="Runs jobs under fire, and counts.")
    parser.add_argument("--seconds", type=float, default=TEN_MINUTES)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    arguments = parser.parse_args()
    print(f"{arguments.seconds:.0f} s under fire, seed {arguments.seed}", flush=True)  # noqa: T201  # its purpose
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run_under_fire(Path(folder), seconds=arguments.seconds, seed=arguments.seed))
    print(figures)  # noqa: T201  # its purpose
    sys.exit(f"wrong: {found}" if (found := wrong(figures.counts)) else 0)


if __name__ == "__main__":
    main()

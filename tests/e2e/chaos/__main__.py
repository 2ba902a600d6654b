"""`python -m tests.e2e.chaos`, from the root of the checkout: the long runs, and their figures."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.chaos.figures import wrong
from tests.e2e.chaos.fire import run_forgotten, run_under_fire


def main() -> None:
    """Run, print the figures, and fail if a figure of MUST_BE_ZERO is not zero."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos", description="Runs jobs under fire, and counts.")
    parser.add_argument("--seconds", type=float, default=600, help="how long it burns")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the faults")
    parser.add_argument("--longest-outage", type=float, help="of Valkey, in seconds; else a twentieth of the run")
    parser.add_argument(
        "--forgotten", action="store_true",
        help="instead: 300 jobs of 3 s on 2 slots, while Valkey is emptied ten times (8 minutes)",
    )  # fmt: skip
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = (
            run_forgotten(Path(name), jobs=300, seconds=3, slots=2, flushes=10)
            if arguments.forgotten
            else run_under_fire(
                Path(name), seconds=arguments.seconds, seed=arguments.seed, longest_outage=arguments.longest_outage
            )
        )
        figures = asyncio.run(run)
    how = "forgotten" if arguments.forgotten else f"{arguments.seconds:.0f} s, seed {arguments.seed}"
    print(f"{how}: {figures}")  # noqa: T201  # its purpose
    sys.exit(f"wrong: {found}" if (found := wrong(figures.counts)) else 0)


if __name__ == "__main__":
    main()

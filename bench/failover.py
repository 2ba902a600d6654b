"""The cost of losing a host under load: which requests fail, for how long, and which data is lost (bench/README.md).

python -m bench.failover [--asynchronous] [--frozen] [--aftermath 5]
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.e2e.hosts import LOSSES, freeze_the_primary, play


async def main() -> None:
    """Play once and print a line for each loss, then the figures at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asynchronous", action="store_true", help="commits do not wait for the standby")
    parser.add_argument("--frozen", action="store_true", help="the primary stops answering instead of dying")
    parser.add_argument("--aftermath", type=float, default=5.0, help="seconds to look on after each loss")
    given = parser.parse_args()
    losses = LOSSES | ({"the primary": freeze_the_primary} if given.frozen else {})
    with tempfile.TemporaryDirectory() as folder:
        played = await play(Path(folder), aftermath=given.aftermath, losses=losses, synchronous=not given.asynchronous)
    for name in LOSSES:
        print(played.acts[name])
    print(f"the standby took writes {played.promotion:.1f} s after the loss of the primary")
    print(
        f"of {played.accounts} confirmed registrations {played.unknown_accounts} lost, {played.unmailed} without mail"
    )
    print("jobs:", ", ".join(f"{count} {name}" for name, count in played.counts.items()))


if __name__ == "__main__":
    asyncio.run(main())

"""One process of one system, in that system's environment.

python -m bench.peers.run SYSTEM setup | worker | seed KIND COUNT | enqueue COUNT | starts SAMPLES
"""

import asyncio
import importlib
import logging
import sys
from typing import Any

import uvloop

from bench.peers.inside import measure_enqueue, measure_starts


async def main(system: str, what: str, *arguments: str) -> None:
    """Do one thing with the adapter of the system."""
    adapter: Any = importlib.import_module(f"bench.peers.on_{system}")  # Any: modules that look alike
    if what in {"setup", "worker"}:
        await getattr(adapter, what)()
        return
    async with adapter.client() as client:
        if what == "seed":
            await client.seed(arguments[0], int(arguments[1]))
        elif what == "enqueue":
            await measure_enqueue(client, int(arguments[0]))
        else:
            await measure_starts(client, int(arguments[0]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(*sys.argv[1:]), loop_factory=uvloop.new_event_loop)

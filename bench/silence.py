"""What it costs when a network forgets the API's connections to Postgres (bench/README.md).

python -m bench.silence
"""

import asyncio
import tempfile
from pathlib import Path

from tests.e2e.conftest import api_environment
from tests.e2e.http_site import HttpSite
from tests.e2e.test_silence import silence


async def main() -> None:
    """Let it happen once, and print status and seconds of each request behind it."""
    with tempfile.TemporaryDirectory() as folder:
        async with HttpSite(Path(folder), api_environment) as site:
            asked = await silence(site)
    for name, answers in asked.items():
        print(f"{name:7}", " ".join(f"{status} {seconds:.2f}" for status, seconds in answers))


if __name__ == "__main__":
    asyncio.run(main())

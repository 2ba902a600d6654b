"""The cost of a network that drops the connections of API and workers to Postgres (bench/README.md).

python -m bench.silence
"""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

from app_db import open_database
from app_db.settings import DatabaseSettings
from tests.e2e.conftest import api_environment, environment_of_workers
from tests.e2e.http_site import HttpSite
from tests.e2e.processes import MailSink, Worker
from tests.e2e.test_silence import first_job, silence


async def main() -> None:
    """Drop the connections of each once; print status and seconds of each request after that, and of the first job."""
    with tempfile.TemporaryDirectory() as folder:
        async with HttpSite(Path(folder), api_environment) as site:
            asked = await silence(site)
            seconds = await seconds_of_first_job(site)
    for name, answers in asked.items():
        print(f"{name:7}", " ".join(f"{status} {seconds:.2f}" for status, seconds in answers))
    print(f"job     {seconds:.2f}")


async def seconds_of_first_job(site: HttpSite) -> float:
    """Let one worker lose its connections while it is idle, and return the seconds of its next job."""
    settings = DatabaseSettings.model_validate({"url": site.dsn})
    with ExitStack() as stack:
        environment = environment_of_workers(site.dsn, site.valkey.url, mail_url=stack.enter_context(MailSink()).url)

        def start(**different: str) -> Worker:
            worker = Worker(env={**environment, **different}, log=site.folder / "worker.log")
            stack.callback(worker.kill)
            return worker

        async with open_database(settings, name="bench") as database:
            [user] = await site.ask("SELECT id FROM users LIMIT 1")
            return await first_job(start, database, user["id"])


if __name__ == "__main__":
    asyncio.run(main())

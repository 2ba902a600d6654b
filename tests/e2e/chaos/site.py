"""A Groundwork that a test may break: its own Postgres and Valkey, workers, and a producer that accepts jobs."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Self

from app_auth.testing import new_key
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.docs.checkout import ROOT
from tests.e2e.chaos.jobs import CREATE_TABLES
from tests.e2e.processes import Process, connected, eventually

LEASE_SECONDS = 2


class Site:
    """Used with `async with`, which kills its processes at the end.

    Both servers keep their ports, so that clients find them again after a restart. Postgres is durable: a confirmed
    commit must outlive an immediate shutdown. Valkey keeps nothing.
    """

    def __init__(self, folder: Path, *, workers: int, longest_outage: float = 1.0, accepting: bool = True) -> None:
        self.folder = folder
        self.longest_outage = longest_outage
        """Seconds for which a server may be down."""
        self.postgres = PostgresServer(folder / "postgres", port=free_port())
        self.valkey = ValkeyServer(folder / "valkey", port=free_port(), durable=False)
        self.environment: dict[str, str] = {}
        self.worker_count = workers
        self.accepting = accepting
        self.workers: list[Process] = []  # faults replace those that they kill
        self.producers: list[Process] = []
        """One process, until `stop_accepting`."""
        self._frozen: dict[Process, float] = {}
        self._started = 0

    async def __aenter__(self) -> Self:
        self.valkey.start()
        url = await self._open_database()
        self.settings = DatabaseSettings.model_validate({"url": url})
        self.dsn = self.settings.direct_dsn
        self.environment = self._environment(url)
        async with connected(self.dsn) as connection:
            await connection.execute(CREATE_TABLES)
        self.workers = [self.start_worker() for _ in range(self.worker_count)]
        if self.accepting:
            self.start_producer()
        return self

    async def _open_database(self) -> str:
        self.postgres.start()
        url = await databases.recreate(self.postgres.url("postgres"), "app_chaos_test")
        await databases.migrate(url, root=ROOT)
        return url

    def _environment(self, url: str) -> dict[str, str]:
        return {**environment(url, self.valkey.url), "APP_LOG__LEVEL": "WARNING"}

    async def __aexit__(self, *_: object) -> None:
        for process in (*self.workers, *self.producers):
            process.kill()
        self.valkey.stop()
        self.postgres.stop()
        self.postgres.erase()

    async def ask(self, query: str, *arguments: object) -> list[Any]:  # Any: asyncpg's records
        """Ask Postgres directly, on a new connection."""
        async with connected(self.dsn) as connection:
            return list(await connection.fetch(query, *arguments))

    def start_worker(self, **different: str) -> Process:
        """Start one more worker, without waiting for it; keyword arguments are environment variables that differ."""
        return self._start("worker", **different)

    def start_producer(self) -> None:
        """Start the process that accepts jobs."""
        self.producers.append(self._start("producer"))

    def kill_producer(self) -> None:
        """kill -9 the producer; its log stays."""
        self.producers.pop().kill()

    def check_that_all_live(self) -> None:
        """Fail if a process has ended by itself, because the figures would then look better than they are.

        Raises:
            AssertionError: with the end of the process's log.
        """
        for process in (*self.workers, *self.producers):
            assert process.is_running(), f"{process.name} has ended by itself:\n{process.output[-4000:]}"

    def said(self, word: str) -> list[str]:
        """Return what follows this word in the logs of all producers, dead ones too, on lines that start with it."""
        lines = (line for log in self.folder.glob("producer-*.log") for line in log.read_text().splitlines())
        return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]

    async def stop_accepting(self) -> None:
        """Kill the producer and wait until Postgres has ended its sessions: a COMMIT that it had sent still counts."""
        self.kill_producer()

        async def it_is_gone() -> bool:
            return not await self.ask("SELECT FROM pg_stat_activity WHERE application_name = 'producer'")

        await eventually(it_is_gone, "the producer's sessions have ended")

    def freeze(self, worker: Process, *, seconds: float) -> None:
        """SIGSTOP a worker; `thaw` resumes it once `seconds` have passed."""
        worker.signal(signal.SIGSTOP)
        self._frozen.setdefault(worker, time.monotonic() + seconds)

    def thaw(self, *, all_of_them: bool = False) -> None:
        """SIGCONT the workers that have been frozen for long enough, or all; dead ones stay dead."""
        for worker, until in list(self._frozen.items()):
            if all_of_them or until < time.monotonic():
                worker.signal(signal.SIGCONT)
                del self._frozen[worker]

    def _start(self, module: str, **different: str) -> Process:
        self._started += 1
        log = self.folder / f"{module}-{self._started}.log"
        return Process(f"tests.e2e.chaos.{module}", ready="", env={**self.environment, **different}, log=log)


_KEY = new_key()
TOKEN_KEYS = json.dumps([{"kid": _KEY.kid, "secret": _KEY.secret.get_secret_value()}])


def environment(database_url: str, valkey_url: str) -> dict[str, str]:
    """The environment variables that all processes of the fault tests get."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "APP_ENV": "test",
        "APP_AUTH__TOKEN_KEYS": TOKEN_KEYS,
        "APP_DATABASE__URL": database_url,
        "APP_REDIS__URL": valkey_url,
        "APP_WORKER__LEASE": f"PT{LEASE_SECONDS}S",
        "APP_WORKER__GRACE": "PT1S",
    }

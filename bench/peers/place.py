"""Where the systems run: a database each on the shared servers, their worker processes, and the marks of their jobs."""

import json
import mmap
import os
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from redis import Redis
from sqlalchemy import make_url

from app_auth.testing import new_key
from app_db.testing import databases
from app_runtime.testing.processes import spawn
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.jobs_place import Cpu, cpu_of_family
from bench.peers.inside import HEAD
from bench.peers.systems import ROOT, System

PATIENCE = 300.0
"""Seconds after which a system that does not go on is given up."""
EFFECTS = "CREATE TABLE bench_effects (id uuid PRIMARY KEY DEFAULT uuidv7(), number integer NOT NULL)"

type Connection = "asyncpg.Connection[asyncpg.Record]"


class Worker:
    """A worker process of a system, and what its jobs have noted."""

    def __init__(self, process: "subprocess.Popen[bytes]", marks: Path) -> None:
        self.process = process
        with marks.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return int(HEAD.unpack_from(self.map, 0)[0])

    @property
    def first_began(self) -> int:
        """When the first job began, in nanoseconds."""
        return int(HEAD.unpack_from(self.map, 0)[1])

    def in_flight(self) -> int:
        """How many jobs have begun and not ended."""
        return sum(1 for begin, end in struct.iter_unpack(HEAD.format, self.map[HEAD.size :]) if begin and not end)

    def stop(self) -> None:
        """Ask it to end; after a few seconds it is made to."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as kill -9 does, with its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Place:
    """The two servers, and the templates that are there already."""

    postgres: PostgresServer
    valkey: ValkeyServer
    templates: set[str] = field(default_factory=set)
    files: int = 0

    async def fresh(self, system: System) -> str:
        """Return the URL of a database with nothing but the system's tables; Valkey is empty too."""
        Redis.from_url(self.valkey.url).flushall()
        template = f"peers_{system.adapter}_template_test"
        if system.adapter not in self.templates:
            url = await databases.recreate(self.postgres.url("postgres"), template)
            if system.requires:
                self.call(system, url, "setup")
            else:
                await databases.migrate(url, root=ROOT)
            connection = await connect(url)
            await connection.execute(EFFECTS)
            await connection.close()
            self.templates.add(system.adapter)
        return await databases.recreate(
            self.postgres.url("postgres"), f"peers_{system.adapter}_test", template=template
        )

    def call(self, system: System, url: str, *arguments: str, **more: str) -> list[float]:
        """Let a process of the system do one thing; return the figures that it prints."""
        run = subprocess.run(
            self._command(system, *arguments),
            env=self._environment(system, url, more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if run.returncode:
            raise RuntimeError(f"{system.adapter} {arguments[0]}: {run.stderr.strip().rpartition('\n')[2]}")
        return [float(line) for line in run.stdout.split()]

    @contextmanager
    def worker(self, system: System, url: str, *, jobs: int, **more: str) -> Iterator[Worker]:
        """Run one worker process, which has room to note `jobs` jobs."""
        self.files += 1
        marks = self.valkey.folder / f"marks{self.files}"
        marks.write_bytes(bytes(HEAD.size * (jobs + 1)))
        environment = self._environment(system, url, {**more, "BENCH_MARKS": str(marks)})
        with (self.valkey.folder / f"{system.adapter}{self.files}.log").open("w+b") as log:
            worker = Worker(spawn(self._command(system, "worker"), env=environment, cwd=ROOT, output=log), marks)
            try:
                yield worker
            except TimeoutError as late:
                raise RuntimeError(f"{system.adapter} does not go on: {Path(log.name).read_text()[-2000:]}") from late
            finally:
                if worker.process.poll() is None:
                    worker.stop()

    async def left(self, system: System, connection: Connection) -> int:
        """Count the jobs that have not ended."""
        if not system.left.startswith("SELECT"):
            return int(str(Redis.from_url(self.valkey.url).zcard(system.left)))
        return int(await connection.fetchval(system.left))

    def cpu(self, worker: Worker) -> Cpu:
        """Return the CPU seconds that the worker and the servers have used so far."""
        pids = (worker.process.pid, self.postgres.pid, self.valkey.pid)
        return Cpu(*(cpu_of_family(pid) for pid in pids))

    @staticmethod
    def _command(system: System, *arguments: str) -> list[str | Path]:
        return [system.python, "-m", "bench.peers.run", system.adapter, *arguments]

    def _environment(self, system: System, url: str, more: Mapping[str, str]) -> dict[str, str]:
        own = {
            "BENCH_POSTGRES": dsn(url),
            "BENCH_VALKEY": self.valkey.url,
            "BENCH_SLOTS": str(system.slots),
            "BENCH_MODE": system.mode,
        }
        if not system.requires:
            key = new_key()
            ring = json.dumps([{"kid": key.kid, "secret": key.secret.get_secret_value()}])
            own |= {"APP_ENV": "test", "APP_AUTH__TOKEN_KEYS": ring, "APP_DATABASE__URL": url}
            own |= {"APP_REDIS__URL": self.valkey.url, "APP_WORKER__CONCURRENCY": str(system.slots)}
        return {**os.environ, **own, **more}


def dsn(url: str) -> str:
    """Return the URL as drivers take it, without SQLAlchemy's name of one."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def connect(url: str) -> Connection:
    """Open a connection of the bench's own."""
    return await asyncpg.connect(dsn(url))

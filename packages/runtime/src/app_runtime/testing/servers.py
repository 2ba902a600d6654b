"""Real PostgreSQL and Valkey for tests, `make dev` and bench/: from wheels, as any user, on 127.0.0.1 only.

    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey:
        run(postgres.url("app_test"), valkey.url)

A server ends with the process that started it (see `processes.spawn`). If one was left behind all the same, the
next server on the same folder ends it. Nothing is cached between starts: initdb takes 0.4 s, a copy 0.2 s.
"""

import signal
import socket
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from shutil import chown, rmtree
from typing import ClassVar

from app_runtime.testing.base import ENVIRONMENT, Server
from app_runtime.testing.binaries import (
    SHARED_FOLDER,
    UNPRIVILEGED_USER,
    is_root,
    postgres_major,
    postgres_programs,
    require_a_name,
    valkey_program,
)
from app_runtime.testing.errors import FolderInUse, PortTaken, ServerDied, ServerError, WrongPostgresVersion
from app_runtime.testing.processes import spawn

__all__ = [
    "FolderInUse",
    "PortTaken",
    "PostgresServer",
    "ServerDied",
    "ServerError",
    "ValkeyServer",
    "WrongPostgresVersion",
]

FAST_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "260",
}

# The wheel has no ICU, and macOS no locale C.UTF-8: only this locale is the same everywhere; compose.yaml has it.
BY_CODE_POINTS = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class PostgresServer(Server):
    """PostgreSQL 18. The user is `app`, a superuser; only the database `postgres` is there at first."""

    name = "PostgreSQL"
    user: ClassVar[str | None] = UNPRIVILEGED_USER
    end_signal = signal.SIGINT  # "fast": ends the clients' sessions, then writes a checkpoint

    @classmethod
    def _placed(cls, folder: Path) -> Path:
        """Return the place of the data: as root, a folder that the user of Postgres can reach, named by a hash."""
        return SHARED_FOLDER / f"app-{sha256(bytes(folder)).hexdigest()[:16]}" if is_root() else folder

    @property
    def programs(self) -> Path:
        """The folder of psql, pg_dump and the others."""
        return postgres_programs()

    def url(self, database: str) -> str:
        """For SQLAlchemy with asyncpg; the database need not exist."""
        return f"postgresql+asyncpg://app:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        """Make an empty database; one that exists is left alone."""
        unless_there = "WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name')"
        subprocess.run(  # noqa: S603
            [self.programs / "psql", "-Xqv", "ON_ERROR_STOP=1", "-v", f"name={name}", "postgres", "app"],
            input=rf"SELECT format('CREATE DATABASE %I', :'name') {unless_there} \gexec",
            env={**ENVIRONMENT, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGPASSWORD": self.password},
            text=True,
            check=True,
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        if not self._data.exists():
            self._initialize()
        written_by = int((self._data / "PG_VERSION").read_text())
        if written_by != postgres_major(self.programs):
            raise WrongPostgresVersion(
                f"{self.folder} was written by PostgreSQL {written_by}, this is {postgres_major(self.programs)}: "
                "start over with an empty one, or point APP_PG_BIN at the programs of the old version and dump it"
            )
        # The old server has ended. If another process has its pid by now, Postgres would not start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _initialize(self) -> None:
        require_a_name()
        workplace = self.folder / "unfinished"
        rmtree(workplace, ignore_errors=True)  # of an initdb that was killed
        workplace.mkdir(mode=0o700)
        password = workplace / "password"
        password.write_text(self._new_password())
        if user := self._run_as():  # pragma: no branch  depends on who runs the tests
            for path in (workplace, password):
                chown(path, user)
        options = ["--username=app", f"--pwfile={password}", "--auth=scram-sha-256", "--no-instructions", "--no-sync"]
        options += BY_CODE_POINTS
        # Iterations slow down guessing; nobody guesses 192 random bits, and asyncpg computes them in Python.
        options += ["--set=scram_iterations=1"]
        command = [str(self.programs / "initdb"), f"--pgdata={workplace / 'data'}", *options]
        with self._new_log() as log:
            done = spawn(command, env=ENVIRONMENT, cwd=workplace, output=log, user=user)
            if done.wait():
                raise ServerDied(f"initdb failed; the end of {self.log}:\n{self.log_end()}")
        (workplace / "data").rename(self._data)
        rmtree(workplace)

    def _command(self) -> list[str]:
        settings = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        settings |= {"timezone": "UTC", "log_timezone": "UTC"}
        settings |= {} if self.durable else FAST_NOT_DURABLE
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.programs / "postgres"), "-D", str(self._data), *options]

    def _is_ready(self) -> bool:
        try:  # as pg_ctl does; Postgres writes this last line when it accepts connections
            return (self._data / "postmaster.pid").read_text().rstrip().endswith("ready")
        except FileNotFoundError:
            return False


class ValkeyServer(Server):
    """Valkey 9; a durable one logs every write and keeps it across restarts."""

    name = "Valkey"
    more: ClassVar[Sequence[str]] = ()
    """Lines of its configuration that a subclass adds."""

    @property
    def url(self) -> str:
        """With the password: workers execute the jobs of a queue, so no other user of the machine may write to it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        if not (self.folder / "password").exists():
            self._new_password()

    def _command(self) -> list[str]:
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {_quoted(self.folder)}", f"requirepass {self.password}"]
        # A full queue must refuse writes rather than evict deliveries.
        lines += ["maxmemory-policy noeviction", 'save ""', f"appendonly {'yes' if self.durable else 'no'}"]
        lines += self.more
        config = self.folder / "valkey.conf"  # not arguments: all users see these in the list of processes
        config.touch(mode=0o600)
        config.write_text("\n".join(lines))
        return [str(valkey_program()), str(config)]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                # One answer per line. Another program here would refuse the password; a loading Valkey refuses PING.
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return (answers.readline(), answers.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False


def _quoted(path: Path) -> str:
    """Return a path as a text in Valkey's configuration: in quotes, with the escapes of C."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f'"{"".join(escapes.get(character, character) for character in str(path))}"'

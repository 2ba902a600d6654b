"""Two real Postgres servers, one of which follows the other and can take over."""

import os
import signal
import subprocess
from pathlib import Path
from shutil import chown

from app_runtime.testing.base import ENVIRONMENT
from app_runtime.testing.processes import spawn
from app_runtime.testing.servers import PostgresServer, ServerDied

from .processes import connected

FOLLOWED = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


class Primary(PostgresServer):
    """Confirms a commit when its standby has it, once `wait_for_standby` was called."""

    def _command(self) -> list[str]:
        # Tests kill the processes, not the machine, so writes need not reach the disk.
        return [*super()._command(), "--fsync=off", "--max_connections=200", "--idle_replication_slot_timeout=0"]

    async def wait_for_standby(self) -> None:
        """From now on, confirm a commit only when the standby has it, too."""
        async with connected(dsn_of(self)) as connection:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await connection.execute("SELECT pg_reload_conf()")

    def lose(self) -> None:
        """kill -9 to all its processes, as if its machine had lost its power; nothing more is written or answered."""
        self._signal_all(signal.SIGKILL)
        self.stop()

    def freeze(self) -> None:
        """SIGSTOP to all its processes: connections stay open, and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self.pid, *children(self.pid)):
            os.kill(pid, number)

    def come_back_stale(self) -> None:
        """Start again with its old data, read-only: it follows no primary and lacks every later commit."""
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        if user := self._run_as():
            chown(signal_file, user)
        self.start()

    def _is_ready(self) -> bool:
        return _accepts_reads(self._data)


class Standby(Primary):
    """Made from a backup of a running primary, which it follows until it is promoted."""

    def __init__(self, folder: Path, primary: PostgresServer, *, port: int) -> None:
        super().__init__(folder, port=port)
        self.primary = primary

    def _initialize(self) -> None:
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.primary.password)
        self._data.mkdir(mode=0o700)
        if user := self._run_as():
            chown(self._data, user)
        source = f"host=127.0.0.1 port={self.primary.port} user=app password={self.primary.password}"
        self._do("pg_basebackup", "-d", source, "-D", str(self._data), "-R", "-c", "fast", "--no-sync")

    def promote(self) -> None:
        """Take over; returns when it accepts writes."""
        self._do("pg_ctl", "promote", "-w", "-D", str(self._data))

    def _do(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("wb") as output:
            command = [str(self.programs / program), *arguments]
            done = spawn(command, env=ENVIRONMENT, cwd=self._data, output=output, user=self._run_as())
        if done.wait():
            raise ServerDied(f"{program} failed:\n{Path(output.name).read_text()}")


def dsn_of(server: PostgresServer, database: str = "postgres") -> str:
    """The address of this server alone, for asyncpg."""
    return server.url(database).replace("+asyncpg", "")


def _accepts_reads(folder: Path) -> bool:
    try:
        return (folder / "postmaster.pid").read_text().rstrip().endswith(("ready", "standby"))
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]

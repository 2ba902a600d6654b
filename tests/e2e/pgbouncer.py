"""A real PgBouncer in transaction pooling, in front of the test's Postgres."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from app_db.pooler import carried_by_role
from app_db.roles import Roles, make_roles, roles_sql
from app_db.settings import DatabaseSettings
from app_db.testing.databases import AppRole
from app_runtime.testing.binaries import UNPRIVILEGED_USER, is_root
from app_runtime.testing.processes import free_port, spawn, wait_until

from .processes import connected

OLDEST = (1, 21)
"""PgBouncer's first release that knows prepared statements."""
LONGEST_JOB = 3600
"""Seconds that a statement of a worker may take."""


@dataclass(frozen=True, slots=True)
class PooledDatabase:
    """A database with a role for the API and one for workers, which carry what a pooler loses."""

    administrator: str
    migrator: URL
    app: URL
    worker: URL

    def environment(self, user: URL, port: int) -> dict[str, str]:
        """Return the variables that lead this role through the pooler at this port."""
        return {
            "APP_DATABASE__URL": text_of(user.set(port=port)),
            "APP_DATABASE__DIRECT_URL": text_of(user),
            "APP_DATABASE__POOLER": "transaction",
        }

    def direct(self, user: URL) -> dict[str, str]:
        """Return the variables that lead this role to Postgres itself."""
        return {"APP_DATABASE__URL": text_of(user)}


def text_of(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def with_worker(role: AppRole, **limits: int) -> PooledDatabase:
    """Give the roles their settings, and workers a role, as `database roles --pooler transaction` does.

    Args:
        role: the application's.
        limits: of workers, in seconds, where they differ.
    """
    roles = Roles(role.roles.migrator, role.roles.app, role.roles.readonly, worker=_worker_of(role))
    limits = {
        "statement_timeout": LONGEST_JOB, "transaction_timeout": LONGEST_JOB, "idle_in_transaction_timeout": 0, **limits
    }  # fmt: skip
    of_worker = DatabaseSettings.model_validate({"url": role.settings.url, **limits})
    carried = {roles.app: carried_by_role(role.settings), roles.worker: carried_by_role(of_worker)}
    password = SecretStr("of-the-test")
    passwords = dict.fromkeys((roles.migrator, roles.worker), password)
    await make_roles(role.administrator, roles_sql(roles, passwords=passwords, carried=carried))
    app = role.settings.sqlalchemy_url
    migrator, worker = (app.set(username=name, password=password.get_secret_value()) for name in passwords)
    return PooledDatabase(role.administrator.dsn, migrator, app, worker)


async def drop_worker(role: AppRole) -> None:
    """Drop the role that `with_worker` has made."""
    async with connected(role.administrator.dsn) as administrator:
        await administrator.execute(f"DROP OWNED BY {_worker_of(role)}; DROP ROLE {_worker_of(role)}")


def _worker_of(role: AppRole) -> str:
    return f"{role.roles.app}_worker"


def program_or_none() -> str | None:
    """Return the path of PgBouncer on PATH, if it is new enough."""
    program = shutil.which("pgbouncer")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found, said
    return program if (int(found[1]), int(found[2])) >= OLDEST else None


def require_pgbouncer() -> str:
    """Return the path of PgBouncer on PATH; skip the test if there is none, or an old one."""
    program = program_or_none()
    if program is None:
        pytest.skip("no pgbouncer from 1.21 on is on PATH")
    return program


class PgBouncer:
    """PgBouncer in front of a server; it keeps its port, so that clients find it again after a restart."""

    def __init__(self, folder: Path, server: URL, *users: URL, **options: str) -> None:
        """Write its configuration.

        Args:
            folder: for its files.
            server: where Postgres is.
            users: URLs with the names and passwords that may connect.
            options: settings that differ, as in `pgbouncer.ini`.
        """
        self.port = free_port()
        self._folder = folder
        folder.mkdir(mode=0o755)
        (folder / "users.txt").write_text("".join(f'"{user.username}" "{user.password}"\n' for user in users))
        (folder / "pgbouncer.ini").write_text(_configuration(folder, server, self.port, options))

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and return when it accepts clients."""
        # It refuses to run as root, and drops its rights itself once it has read its files.
        rights = ["-u", UNPRIVILEGED_USER] if is_root() else []
        log = self._folder / "log"
        with log.open("wb") as output:
            command = [require_pgbouncer(), *rights, str(self._folder / "pgbouncer.ini")]
            process = spawn(command, env=dict(os.environ), cwd=self._folder, output=output)
        assert wait_until(lambda: "process up" in log.read_text() or process.poll() is not None, 20), log.read_text()
        assert process.poll() is None, log.read_text()
        self._process = process
        return process

    def kill(self) -> None:
        """kill -9: all its clients and sessions are cut off."""
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        """End it when the transactions that are open have ended."""
        self._process.terminate()
        self._process.wait(20)


@contextmanager
def pgbouncer(folder: Path, server: URL, *users: URL, **options: str) -> Iterator[int]:
    """Run PgBouncer in front of a server until the end of the block, and yield its port; the rest is as there."""
    with pgbouncer_process(folder, server, *users, **options) as (port, _):
        yield port


@contextmanager
def pgbouncer_process(
    folder: Path, server: URL, *users: URL, **options: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run PgBouncer as `pgbouncer` does, and yield the process too."""
    require_pgbouncer()
    pooler = PgBouncer(folder, server, *users, **options)
    process = pooler.start()
    try:
        yield pooler.port, process
    finally:
        pooler.stop()


def _configuration(folder: Path, server: URL, port: int, options: Mapping[str, str]) -> str:
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users.txt"),
        "pool_mode": "transaction",
        "default_pool_size": "4",
        "max_client_conn": "200",
        # By default it refuses clients for 15 s after a failure, although Postgres is back.
        "server_login_retry": "1",
        **options,
    }
    place = f"* = host={server.host} port={server.port}"
    return "\n".join(["[databases]", place, "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())])

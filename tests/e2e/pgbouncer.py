"""A real PgBouncer in transaction pooling, in front of the test's Postgres."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from app_runtime.testing.binaries import UNPRIVILEGED_USER, is_root
from app_runtime.testing.processes import free_port, spawn, wait_until

OLDEST = (1, 21)
"""PgBouncer's first release that knows prepared statements."""


def require_pgbouncer() -> str:
    """Return the path of PgBouncer on PATH; skip the test if there is none, or an old one."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("no pgbouncer on PATH")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found, said
    if (int(found[1]), int(found[2])) < OLDEST:
        pytest.skip(f"{found[0]} is older than 1.21")
    return program


@contextmanager
def pgbouncer(folder: Path, server: URL, *users: URL, **options: str) -> Iterator[int]:
    """Run PgBouncer in front of a server until the end of the block, and yield its port.

    Args:
        folder: for its files.
        server: where Postgres is.
        users: URLs with the names and passwords that may connect.
        options: settings that differ, as in `pgbouncer.ini`.
    """
    program, port = require_pgbouncer(), free_port()
    folder.mkdir(mode=0o755)
    (folder / "users.txt").write_text("".join(f'"{user.username}" "{user.password}"\n' for user in users))
    config = folder / "pgbouncer.ini"
    config.write_text(_configuration(folder, server, port, options))
    # It refuses to run as root, and drops its rights itself once it has read its files.
    command = [program, *(["-u", UNPRIVILEGED_USER] if is_root() else []), str(config)]
    with (folder / "log").open("wb") as output:
        process = spawn(command, env=dict(os.environ), cwd=folder, output=output)
    try:
        log = folder / "log"
        assert wait_until(lambda: "process up" in log.read_text() or process.poll() is not None, 20), log.read_text()
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


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
        **options,
    }
    place = f"* = host={server.host} port={server.port}"
    return "\n".join(["[databases]", place, "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())])

"""Three nodes of PostgreSQL that Patroni looks after, by deploy/patroni/patroni.yml, on one etcd."""

import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from app_runtime.testing.base import ENVIRONMENT
from app_runtime.testing.binaries import is_root, postgres_programs
from app_runtime.testing.processes import ProcessIdentity, free_port, spawn, wait_until
from tests.docs.checkout import ROOT
from tests.e2e.replication import children

CONFIGURATION = ROOT / "deploy/patroni/patroni.yml"
EXAMPLE = ROOT / "deploy/patroni/node.env"
UV = ("sh", str(ROOT / "scripts/uv.sh"))
# Postgres does not run as root. As another user Patroni could not read a checkout below root's home, so it runs as root
# in a user namespace that calls it somebody else.
AS_SOMEBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534") if is_root() else ()
PATIENCE = 120.0


def install(folder: Path) -> Path:
    """Install Patroni into the folder, and return the folder of its programs; skips where there is no etcd."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd here: apt-get install etcd-server")
    group = f"{ROOT / 'pyproject.toml'}:patroni"
    for command in (["venv", str(folder)], ["pip", "install", "--python", str(folder), "--group", group]):
        done = subprocess.run([*UV, "--quiet", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "bin"


@contextmanager
def etcd(folder: Path) -> Iterator[int]:
    """An etcd of one member; its port."""
    port, peers = free_port(), free_port()
    urls = {"client": f"http://127.0.0.1:{port}", "peer": f"http://127.0.0.1:{peers}"}
    options = [
        f"--data-dir={folder / 'etcd'}",
        "--name=one",
        f"--initial-cluster=one={urls['peer']}",
        "--unsafe-no-fsync",
    ]
    options += [f"--listen-{whose}-urls={url}" for whose, url in urls.items()]
    options += [f"--advertise-client-urls={urls['client']}", f"--initial-advertise-peer-urls={urls['peer']}"]
    environment = {**ENVIRONMENT, "ETCD_UNSUPPORTED_ARCH": "arm64"} if platform.machine() == "aarch64" else ENVIRONMENT
    with (folder / "etcd.log").open("wb") as log:
        process = spawn([shutil.which("etcd") or "etcd", *options], env=environment, cwd=folder, output=log)
    try:
        assert wait_until(lambda: _asked(f"{urls['client']}/health") is not None, PATIENCE), (
            folder / "etcd.log"
        ).read_text()
        yield port
    finally:
        process.kill()
        process.wait()


class Node:
    """One machine: Patroni and the PostgreSQL that it starts."""

    def __init__(self, name: str, folder: Path, *, programs: Path, environment: dict[str, str]) -> None:
        self.name, self.port, self.api_port = name, free_port(), free_port()
        self._folder = folder / name
        self._folder.mkdir()
        self._programs = programs
        self._environment = {**ENVIRONMENT, **environment, **self._own_environment()}
        self._process: subprocess.Popen[bytes] | None = None

    def _own_environment(self) -> dict[str, str]:
        restapi, postgresql = f"127.0.0.1:{self.api_port}", f"127.0.0.1:{self.port}"
        return {
            "PATRONI_NAME": self.name,
            "PATRONI_RESTAPI_LISTEN": restapi,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": restapi,
            "PATRONI_POSTGRESQL_LISTEN": postgresql,
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": postgresql,
            "PATRONI_POSTGRESQL_DATA_DIR": str(self._folder / "data"),
            "PATRONI_POSTGRESQL_BIN_DIR": str(postgres_programs()),
            "PATRONI_POSTGRESQL_PGPASS": str(self._folder / "pgpass"),
        }

    def start(self) -> None:
        """Start Patroni, which starts Postgres."""
        command = [*AS_SOMEBODY, self._programs / "python", "-m", "patroni", CONFIGURATION]
        with self.log.open("ab") as log:
            self._process = spawn(command, env=self._environment, cwd=self._folder, output=log)

    @property
    def log(self) -> Path:
        return self._folder / "log"

    def state(self) -> dict[str, Any]:  # Any: JSON
        """What the node says of itself; nothing while it does not answer."""
        state: dict[str, Any] = json.loads(_asked(f"http://127.0.0.1:{self.api_port}/patroni") or "{}")
        return state

    def leads(self) -> bool:
        state = self.state()
        return (state.get("role"), state.get("state")) == ("primary", "running")

    def follows(self) -> bool:
        state = self.state()
        return (state.get("role"), state.get("state"), state.get("quorum_standby")) == ("replica", "running", True)

    def lose(self) -> None:
        """kill -9 to all its processes, as if the machine had lost its power."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all its processes: SIGSTOP is a machine that hangs."""
        for pid in self._pids():
            os.kill(pid, number)

    def signal_postgres(self, number: signal.Signals) -> None:
        """Send a signal to its Postgres alone: SIGSTOP is a disk that no longer answers; Patroni goes on."""
        for pid in self._pids_of_postgres():
            os.kill(pid, number)

    def _pids(self) -> list[int]:
        """Patroni first, or it would start Postgres again."""
        pids = [self._process.pid] if self._process is not None and self._process.poll() is None else []
        return pids + self._pids_of_postgres()

    def _pids_of_postgres(self) -> list[int]:
        with suppress(FileNotFoundError):
            postmaster = int((self._folder / "data/postmaster.pid").read_text().split("\n", 1)[0])
            return [postmaster, *children(postmaster)] if ProcessIdentity.of(postmaster) else []
        return []


class Cluster:
    """All nodes; used with `with`."""

    def __init__(self, folder: Path, *, programs: Path, etcd_port: int) -> None:
        self.password = secrets.token_urlsafe(24)
        secret = {f"PATRONI_{who}_PASSWORD": self.password for who in ("SUPERUSER", "REPLICATION", "REWIND")}
        names = {"SUPERUSER": "app", "REPLICATION": "standby", "REWIND": "rewind"}
        users = {f"PATRONI_{who}_USERNAME": name for who, name in names.items()}
        environment = secret | users | {"PATRONI_ETCD3_HOSTS": f"127.0.0.1:{etcd_port}"}
        assert environment.keys() < set(_example()) - {"PATRONI_NAME"}
        self._environment = environment
        self._programs = programs
        self.nodes = [Node(name, folder, programs=programs, environment=environment) for name in ("db1", "db2", "db3")]

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        self.wait_until_whole()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.lose()

    @property
    def leader(self) -> Node:
        return next(node for node in self.nodes if node.leads())

    def wait_until_whole(self) -> None:
        """Return when one node leads, and two follow and confirm its commits."""
        if not wait_until(
            lambda: [node.leads() for node in self.nodes].count(True) == 1 and self._followers() == 2, PATIENCE
        ):
            ends = "\n".join(f"{node.name} {node.state()}:\n{node.log.read_text()[-3000:]}" for node in self.nodes)
            raise AssertionError(f"the cluster is not whole:\n{ends}")

    def wait_for_another(self, lost: Node) -> None:
        """Return when another node than this one takes writes."""
        others = [node for node in self.nodes if node is not lost]
        assert wait_until(lambda: any(node.leads() for node in others), PATIENCE)

    def _followers(self) -> int:
        return [node.follows() for node in self.nodes].count(True)

    def switch_over(self) -> None:
        """Change the primary as an operator does; returns when Patroni says that it is done."""
        api = {**ENVIRONMENT, **self._environment}
        options = ("--primary", self.leader.name, "--force")
        command = [str(self._programs / "patronictl"), "-c", str(CONFIGURATION), "switchover", *options]
        done = subprocess.run(command, env=api, capture_output=True, text=True, check=False)
        assert "Successfully switched over" in done.stdout, done.stdout + done.stderr

    def url(self, database: str) -> str:
        """The URL that all programs have: each node may be the primary."""
        hosts = "&".join(f"host=127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://app:{self.password}@/{database}?{hosts}&target_session_attrs=read-write"

    def leader_url(self, database: str) -> str:
        """The URL of the node that leads now, for SQLAlchemy."""
        return f"postgresql+asyncpg://app:{self.password}@127.0.0.1:{self.leader.port}/{database}"


def _example() -> list[str]:
    return [line.partition("=")[0] for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]


def _asked(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            body: bytes = answer.read()
    except OSError:
        return None
    return body.decode()

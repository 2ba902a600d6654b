"""The base of both servers: a folder with one owner, a port, a process that ends with us, a log."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, ClassVar, Self

from app_runtime.testing import places
from app_runtime.testing.binaries import (
    SHARED_FOLDER,
    is_root,
    private_folder,
)
from app_runtime.testing.errors import FolderInUse, PortTaken, ServerDied, ServerError
from app_runtime.testing.processes import FolderLock, ProcessIdentity, free_port, port_is_free, spawn, wait_until

START_SECONDS = 90.0
ABANDONED_SECONDS = 3600.0
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C", "TZ": "UTC"}


class Server(ABC):
    """One server process on one folder; `start` and `stop`, or a `with` block."""

    name: ClassVar[str]
    # Makes the process end without waiting for its clients, after it has written everything.
    end_signal: ClassVar[signal.Signals] = signal.SIGTERM
    user: ClassVar[str | None] = None

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        """Touch nothing before `start`.

        `folder` holds data, log and password. `port=None` takes any free port. `durable=False` is faster,
        and a crash of the machine may lose data.
        """
        self._home = folder.resolve()
        self.folder = self._placed(self._home)
        self.durable = durable
        self.port = port or 0
        self._wanted_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: FolderLock | None = None
        self._temporary = False

    @classmethod
    def temporary(cls, *, port: int | None = None, durable: bool = False) -> Self:
        """Return a server whose folder `stop` removes, or the next temporary server if we are killed before."""
        base = private_folder(SHARED_FOLDER / f"app-servers-{os.geteuid()}", mode=0o711 if is_root() else 0o700)
        _sweep(base)
        folder = Path(tempfile.mkdtemp(prefix=f"{cls.name.lower()}-", dir=base))
        server = cls(folder, port=port, durable=durable)
        server.folder = server._home = folder
        server._temporary = True
        return server

    @classmethod
    def _placed(cls, folder: Path) -> Path:
        return folder

    @property
    def pid(self) -> int:
        """The pid of the running server; an error before `start`."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running: call start()")
        return self._process.pid

    @property
    def password(self) -> str:
        """Generated with the data and kept beside it, readable by the owner only."""
        return (self.folder / "password").read_text()

    @property
    def log(self) -> Path:
        """The output of the server since its last start."""
        return self.folder / "log"

    def start(self) -> Self:
        """Start the server, and return when clients can connect.

        Raises:
            ServerDied: with the end of its log.
            PortTaken: only for a port that was asked for.
            FolderInUse: when the owner of the folder lives.
            WrongPostgresVersion: for data written by another major version.
        """
        self._find_place()
        private_folder(self.folder, mode=0o711 if is_root() else 0o700)
        self._lock = FolderLock(self.folder)
        try:
            for left_behind in self._lock.remembered():
                left_behind.end(self.end_signal)
            if self._wanted_port and not port_is_free(self._wanted_port):
                raise self._port_taken(self._wanted_port)
            self._prepare()
            self._start_on_a_port()
        except BaseException:
            self.stop()
            raise
        return self

    def _find_place(self) -> None:
        """Match the place of the data with the folder that it belongs to, if it lies elsewhere."""
        if self.folder != self._home:
            places.follow(self._home, self.folder)
            if places.is_of_another_state(self._home, self.folder):
                self.erase()  # guard: test_what_belongs_to_a_folder_that_is_gone_is_not_met_again
            places.join(self._home, self.folder, mode=0o711)

    def erase(self) -> None:
        """Remove all data of a server that is not running, and end it if it was left behind by a dead owner."""
        if self.folder.exists():
            lock = FolderLock(self.folder)
            for left_behind in lock.remembered():
                left_behind.end(self.end_signal)
            shutil.rmtree(self.folder)
            lock.release()

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._process is not None:
            if identity := ProcessIdentity.of(self._process.pid):
                identity.end(self.end_signal)
            self._process.wait()
            self._process = None
        if self._lock is not None:
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()
            self._lock = None

    def is_alive(self) -> bool:
        """Whether the process that `start` made still runs."""
        return self._process is not None and self._process.poll() is None

    def log_end(self) -> str:
        """Return the last lines of the log, for an error that says why the server died."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_on_a_port(self) -> None:
        for _attempt in range(1 if self._wanted_port else 5):  # another may take a free port before we do
            self.port = self._wanted_port or free_port()
            self._run()
            if wait_until(lambda: self._is_ready() or not self.is_alive(), START_SECONDS) and self.is_alive():
                return
            if "in use" not in self.log.read_text(errors="replace"):
                raise ServerDied(f"{self.name} did not start; the end of {self.log}:\n{self.log_end()}")
        raise self._port_taken(self.port)

    def _port_taken(self, port: int) -> PortTaken:
        return PortTaken(f"port {port} is taken: stop what listens there, or choose another port for {self.name}")

    def _run(self) -> None:
        assert self._lock is not None
        with self._new_log() as log:
            self._process = spawn(
                self._command(),
                env=ENVIRONMENT,
                cwd=self.folder,
                output=log,
                user=self._run_as(),
                on_parent_death=self.end_signal,
            )
        identity = ProcessIdentity.of(self._process.pid)
        self._lock.remember([identity] if identity else [])

    def _run_as(self) -> str | None:
        return self.user if is_root() else None

    def _new_log(self) -> IO[bytes]:
        self.log.touch(mode=0o600)
        return self.log.open("wb")

    def _new_password(self) -> str:
        password = secrets.token_urlsafe(24)
        file = self.folder / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        return password

    @abstractmethod
    def _prepare(self) -> None:
        """Make the files that the first start needs."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments, for `self.port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server would serve a client."""


def _sweep(base: Path) -> None:
    """Remove the processes and folders of temporary servers whose owners have died."""
    for folder in base.iterdir():
        try:
            lock = FolderLock(folder, mode="r+")
            left_behind = lock.remembered()
            age = time.time() - folder.stat().st_mtime
        except (FolderInUse, FileNotFoundError):
            continue
        # A young folder that names no process may be that of an owner who has not locked it yet.
        if left_behind or age > ABANDONED_SECONDS:
            for process in left_behind:
                process.end(signal.SIGINT)
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()

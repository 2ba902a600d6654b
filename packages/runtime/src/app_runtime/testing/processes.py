"""Processes that must not outlive us, nor be confused with a later process of the same pid."""

import ctypes
import fcntl
import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal, Self

from app_runtime.testing.errors import FolderInUse

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid together with the start time of its process: the pair is never used twice."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none, or only a zombie."""
        started = _started(pid)
        return cls(pid, started) if started else None

    def is_running(self) -> bool:
        """Return False also if another process has the pid by now."""
        return ProcessIdentity.of(self.pid) == self

    def end(self, how: signal.Signals = signal.SIGTERM, *, patience: float = 10, group: bool = False) -> None:
        """Signal the process, wait `patience` seconds, then kill it. Harmless if it has ended.

        With `group`, signal the process group that it leads; only for processes made by `spawn`.
        """
        send = os.killpg if group else os.kill
        for number, seconds in ((how, patience), (signal.SIGKILL, 5.0)):
            if not self.is_running():
                return
            with suppress(ProcessLookupError):  # it may end before the signal
                send(self.pid, number)
            wait_until(lambda: not self.is_running(), seconds)


class FolderLock:
    """A folder's `lock` file: held as long as the owner lives, and it remembers the processes that the owner started.

    The kernel releases it when the owner dies for any reason. So the next owner knows that the remembered processes
    have lost theirs, and may end them.
    """

    def __init__(self, folder: Path, *, mode: Literal["a+", "r+"] = "a+") -> None:
        """Take the lock; `r+` makes no file, so that another process can remove the folder meanwhile."""
        self._file = (folder / "lock").open(mode, encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise FolderInUse(f"{folder} is in use by another living process: stop that one first") from None

    def remember(self, processes: Sequence[ProcessIdentity]) -> None:
        """Replace the remembered processes, and flush: they are read after a kill -9."""
        self._file.seek(0)
        self._file.truncate()
        json.dump([[0, self._itself], *([process.pid, process.started] for process in processes)], self._file)
        self._file.flush()

    def remembered(self) -> list[ProcessIdentity]:
        """Return the processes of the last owner; none if it left the file empty or half written.

        Return none in a copy of the folder either: the processes belong to the original.
        """
        self._file.seek(0)
        try:
            (first, itself), *processes = json.load(self._file)
        except ValueError:
            return []
        if first:  # the older format, which does not name the file
            processes.insert(0, [first, itself])
        elif itself != self._itself:
            return []  # guard: test_a_copy_of_a_folder_ends_nothing_of_the_original
        return [ProcessIdentity(int(pid), str(started)) for pid, started in processes]

    @property
    def _itself(self) -> str:
        """The identity of the file: a copy has another inode."""
        return f"file {os.fstat(self._file.fileno()).st_ino}"

    def release(self) -> None:
        """Let the next owner in; a second call does nothing."""
        self._file.close()


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: int | IO[bytes],
    user: str | None = None,
    on_parent_death: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process that ends when we are killed, in a session of its own: Ctrl-C reaches only us.

    The kernel ties that end to the starting thread, so it happens only on Linux and from the main thread; otherwise
    the next owner of its folder ends the process (FolderLock).
    """
    tied = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    return subprocess.Popen(  # noqa: S603  what the caller names
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=user,
        group=user and _group_of(user),
        extra_groups=[] if user else None,
        preexec_fn=_die_with_parent(on_parent_death) if tied else None,  # noqa: PLW1509  it takes no lock
    )


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Check the condition every 5 ms, and return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def free_port() -> int:
    """Return a free port of 127.0.0.1; another process may take it first, so be ready to try again.

    It is never one that the kernel gives to outgoing connections (from 32768, on macOS from 49152): a connection
    could take such a port before its server listens.
    """
    ports = iter(lambda: random.randrange(20_000, 32_768), None)  # noqa: S311  # a port, not a secret
    return next(filter(port_is_free, ports))


def port_is_free(port: int) -> bool:
    """Whether a server could listen there, by the rules that servers themselves use (SO_REUSEADDR)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _started(pid: int) -> str | None:
    return _started_by_proc(pid) if sys.platform == "linux" else _started_by_ps(pid)


def _started_by_proc(pid: int) -> str | None:
    try:
        # The name, in brackets, may hold spaces and brackets; state and start time are fields 3 and 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else f"{_boot_id()}/{fields[19]}"


def _started_by_ps(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, started = listed.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _die_with_parent(number: signal.Signals) -> Callable[[], None]:
    # Looked up here: between fork and exec nothing may be imported. The call comes after setuid, which would clear it.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:  # pragma: no cover  coverage does not record between fork and exec
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec

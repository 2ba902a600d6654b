"""Processes that must not outlive us, nor be mistaken for another after their pid was used again."""

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
    """A pid together with the moment it was given out: the pair is never used twice."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none, or only a zombie."""
        started = _started(pid)
        return cls(pid, started) if started else None

    def is_running(self) -> bool:
        """False too when the pid belongs to someone else by now."""
        return ProcessIdentity.of(self.pid) == self

    def end(self, how: signal.Signals = signal.SIGTERM, *, patience: float = 10, group: bool = False) -> None:
        """Signal the process, wait `patience` seconds, then kill it. Harmless when it is gone or is not ours.

        With `group`, everything in the process group it leads; only for processes made by `spawn`.
        """
        send = os.killpg if group else os.kill
        for number, seconds in ((how, patience), (signal.SIGKILL, 5.0)):
            if not self.is_running():
                return
            with suppress(ProcessLookupError):  # it may end between the two
                send(self.pid, number)
            wait_until(lambda: not self.is_running(), seconds)


class FolderLock:
    """A folder's `lock` file: held as long as the owner lives, and it remembers the processes that the owner started.

    The kernel releases it with the owner, however that dies, so whoever gets it next knows that what is written
    there has lost its owner and may be ended.
    """

    def __init__(self, folder: Path, *, mode: Literal["a+", "r+"] = "a+") -> None:
        """Take the lock; with `r+` only where its file is, so that a folder that is being removed can be."""
        self._file = (folder / "lock").open(mode, encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise FolderInUse(f"{folder} is in use by another living process: stop that one first") from None

    def remember(self, processes: Sequence[ProcessIdentity]) -> None:
        """Replace what is written; flushed, for it is read after a kill -9."""
        self._file.seek(0)
        self._file.truncate()
        json.dump([[0, self._itself], *([process.pid, process.started] for process in processes)], self._file)
        self._file.flush()

    def remembered(self) -> list[ProcessIdentity]:
        """What the last owner wrote; nothing when it left the file empty or half written.

        Nothing as well in a copy of the folder: what was started there may be running there.
        """
        self._file.seek(0)
        try:
            (first, itself), *processes = json.load(self._file)
        except ValueError:
            return []
        if first:  # as it was written before it named the file
            processes.insert(0, [first, itself])
        elif itself != self._itself:
            return []  # guard: test_a_copy_of_a_folder_ends_nothing_of_the_original
        return [ProcessIdentity(int(pid), str(started)) for pid, started in processes]

    @property
    def _itself(self) -> str:
        """Which file this is: a copy has another number."""
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
    """Start a process in a session of its own (Ctrl-C is for us, not for it) that ends when we are killed.

    The kernel ties that end to the starting thread, so from a thread other than the main one, and off Linux, it does
    not happen: then the next owner of its folder ends it (FolderLock).
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
    """Whether the condition came true in time; looked at every 5 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now; another may take it first, so be ready to try again.

    Never one of those that the kernel gives to outgoing connections (from 32768, on macOS from 49152): any of these
    could take it between our look and the moment its server listens.
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

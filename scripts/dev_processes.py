"""Runs several programs in one terminal: each line with its program's name in front, and all of them end together."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from app_runtime.testing.processes import FolderLock, ProcessIdentity, spawn

COLOURS = cycle((36, 33, 32, 35, 34, 96))
STOP_SECONDS = 8.0


@dataclass(slots=True)
class Part:
    """A running program; `rest` is the beginning of a line that is not complete yet."""

    name: str
    process: subprocess.Popen[bytes]
    identity: ProcessIdentity | None
    colour: int
    command: Sequence[str | Path]
    env: Mapping[str, str]
    rest: bytes = b""

    def is_running(self) -> bool:
        """Look it up without `wait`: before that call, no other process can get its pid."""
        return self.identity is not None and self.identity.is_running()


class Parts:
    """The programs that live and die together. The lock remembers them for the next owner (see FolderLock)."""

    def __init__(self, lock: FolderLock, *, cwd: Path) -> None:
        self._lock = lock
        self._cwd = cwd
        self._parts: list[Part] = []
        self._outputs = selectors.DefaultSelector()
        self._remember()

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Start a program; its output is printed by `print_output`."""
        process = spawn(command, env=env, cwd=self._cwd, output=subprocess.PIPE)
        part = Part(name, process, ProcessIdentity.of(process.pid), next(COLOURS), command, env)
        self._parts.append(part)
        self._remember()
        assert process.stdout
        self._outputs.register(process.stdout, selectors.EVENT_READ, part)

    def start_again(self, part: Part) -> None:
        """Start a program that has ended once more."""
        self.exit_code(part.name)
        self.start(part.name, part.command, part.env)

    def print_output(self, seconds: float) -> None:
        """Print the output of the next `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self._outputs.get_map():
                time.sleep(left)
            for key, _ in self._outputs.select(left):
                part: Part = key.data
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    self._outputs.unregister(key.fileobj)
                *lines, part.rest = (part.rest + chunk).split(b"\n")
                if not chunk and part.rest:
                    lines, part.rest = [part.rest], b""
                for line in lines:
                    say(line.decode(errors="replace"), name=part.name, colour=part.colour)

    def ended(self) -> Part | None:
        """Return a program that has ended, if there is one."""
        return next((part for part in self._parts if not part.is_running()), None)

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a program, and forget it; None while it runs."""
        part = next(part for part in self._parts if part.name == name)
        if part.is_running():
            return None
        self.print_output(0.05)
        self._parts.remove(part)
        return part.process.wait()

    def stop(self) -> None:
        """End all programs: by SIGTERM, then with the processes that they started by SIGKILL."""
        for part in self._parts:
            if part.is_running():
                part.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(part.is_running() for part in self._parts) and time.monotonic() < deadline:
            self.print_output(0.05)
        for part in self._parts:
            with suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
                os.killpg(part.process.pid, signal.SIGKILL)
            part.process.wait()
        self.print_output(0.05)
        self._parts.clear()

    def _remember(self) -> None:
        own = ProcessIdentity.of(os.getpid())
        self._lock.remember([identity for identity in (own, *(part.identity for part in self._parts)) if identity])


def say(text: str, *, name: str = "dev", colour: int = 1) -> None:
    """Print a line with a name in front of it, in colour on a terminal."""
    prefix = f"{name:<8}| "
    print(f"\033[{colour}m{prefix}\033[0m{text}" if sys.stdout.isatty() else f"{prefix}{text}", flush=True)

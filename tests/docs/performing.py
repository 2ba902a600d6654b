"""Performs a page as its reader would: edits below a folder, commands in one shell beside the page."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Self

from app_runtime.testing.processes import wait_until
from tests.docs.pages import Action, Command, PageError, Step, apply_edit, commands_of, pattern_of, steps_of

START_SECONDS = 300.0
STOP_SECONDS = 90.0
AWAITED_SECONDS = 90.0
"""A slow machine may need longer than the `sleep` of a page for what the next command shows."""


class Shell:
    """One bash for a whole page, so that a variable that is set in one block is there in the next."""

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        self._end = f"end-{token_hex(8)}"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit code and its output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{{ {command}\n}} </dev/null; printf "\\n%s %s\\n" {self._end} $?\n')
        self._process.stdin.flush()
        output = ""
        for line in self._process.stdout:
            if line.startswith(self._end):
                return int(line.split()[1]), output.removesuffix("\n")
            output += line
        raise PageError(f"the shell ended at {command!r}:\n{output}")

    def close(self) -> None:
        """End the shell and all processes that it left behind."""
        with self._process:
            _end_group(self._process, signal.SIGKILL)


class BackgroundCommand:
    """A command in its own terminal; its output is collected."""

    def __init__(self, command: str, cwd: Path, env: Mapping[str, str]) -> None:
        self.output = ""
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", command],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line

    def wait_for(self, shown: str) -> bool:
        """Wait until it has printed the lines that are shown, in any order; False when it ends before, or is too slow.

        Its child processes print in parallel, so their order is random.
        """
        patterns = [pattern_of(line) for line in shown.splitlines() if line.strip() != "…"]

        def are_there() -> bool:
            return all(pattern.search(self.output) for pattern in patterns)

        wait_until(lambda: are_there() or _has_ended(self._process), START_SECONDS)
        if _has_ended(self._process):
            self._reader.join()
        return are_there()

    def stop(self) -> None:
        """Press Ctrl-C, which reaches every process of the terminal."""
        with self._process:
            _end_group(self._process, signal.SIGINT)
            self._reader.join()


class Performer:
    """A reader with a checkout, a shell, and as many terminals as a page asks for."""

    def __init__(self, root: Path, *, env: Mapping[str, str], replace: Mapping[str, str]) -> None:
        self._root = root
        self._env = env
        self._replace = replace
        self._shell = Shell(root, env)
        self._background: dict[str, BackgroundCommand] = {}

    def perform(self, page: Path) -> Self:
        """Do all steps of the page.

        Raises:
            PageError: at the first step that cannot be done, or whose result is not the one that is shown.
        """
        for step in steps_of(page):
            self.do(step)
        return self

    def do(self, step: Step) -> None:
        """Do one step."""
        if step.action is Action.RUN:
            before = ""
            for command in commands_of(step):
                self._run(command, step.where, seconds=AWAITED_SECONDS if before.startswith("sleep ") else 0)
                before = command.text
        elif step.action is Action.RUN_IN_BACKGROUND:
            for command in commands_of(step):
                self._run_in_background(command, step.where)
        else:
            apply_edit(step, self._root)

    def run(self, command: str) -> str:
        """Run a command that is not on the page, in the same shell; return its output.

        Raises:
            PageError: when it fails.
        """
        return self._run(Command(command, ""), "not on the page")

    def close(self) -> None:
        """Stop everything that was started."""
        for running in self._background.values():
            running.stop()
        self._shell.close()

    def _here(self, text: str) -> str:
        for old, new in self._replace.items():
            text = text.replace(old, new)
        return text

    def _run(self, command: Command, where: str, *, seconds: float = 0) -> str:
        """Run a command, again for so many seconds until it prints the output of the page."""
        end = time.monotonic() + seconds
        while True:
            code, output = self._shell.run(self._here(command.text))
            if code != 0:
                raise PageError(f"{where}: exit code {code} of {command.text!r}:\n{output}{self._meanwhile()}")
            if not command.shown or pattern_of(self._here(command.shown)).fullmatch(output.rstrip("\n") + "\n"):
                return output
            if time.monotonic() >= end:
                raise PageError(_not_as_shown(where, command, output + self._meanwhile()))
            time.sleep(0.5)

    def _meanwhile(self) -> str:
        """Return the latest output of the other terminals, for the message of a failure."""
        return "".join(
            f"\n\nMeanwhile {command!r} printed:\n{running.output[-3000:]}"
            for command, running in self._background.items()
        )

    def _run_in_background(self, command: Command, where: str) -> None:
        if command.text in self._background:
            self._background.pop(command.text).stop()
        running = BackgroundCommand(self._here(command.text), self._root, self._env)
        self._background[command.text] = running
        if not running.wait_for(self._here(command.shown)):
            raise PageError(_not_as_shown(where, command, running.output))


def _not_as_shown(where: str, command: Command, output: str) -> str:
    return f"{where}: {command.text!r} is shown to print\n{command.shown}\nbut prints\n{output}"


@contextmanager
def reader(root: Path, *, env: Mapping[str, str], replace: Mapping[str, str] | None = None) -> Iterator[Performer]:
    """A reader in the folder `root`; `replace` maps texts of pages to those of this run. At the end all is stopped."""
    performer = Performer(root, env=env, replace=replace or {})
    try:
        yield performer
    finally:
        performer.close()


def _has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether the process has ended; unlike `poll()` this keeps its pid, which is also the id of its group."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Signal the process and its children, wait up to `STOP_SECONDS`, and kill those that are left."""
    with suppress(ProcessLookupError, PermissionError):  # macOS raises it for a group of zombies
        os.killpg(process.pid, how)
    wait_until(lambda: _has_ended(process), STOP_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

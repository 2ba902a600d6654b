"""The processes of the end-to-end tests: the real programs on real servers, configured by environment variables only.

A test can kill, freeze and start again each of them. Only the mail server is a stand-in: a real SMTP server that keeps
the mails it gets.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

import asyncpg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from app_runtime.testing.processes import free_port, spawn, wait_until
from app_worker.crons import CRONS

KINDS_OF_CRONS = {cron.payload().kind for cron in CRONS}
"""The kinds of jobs that a worker enqueues by itself, one of them each minute."""
PATIENCE = 90.0
"""Seconds after which a test gives up waiting. No test asserts how long anything took, unless a time is promised."""


class Process:
    """`python -m <arguments>`, which is ready once it has logged `ready`; its output is in `log`."""

    def __init__(self, *arguments: str, ready: str, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
        command = [sys.executable, "-m", *arguments]
        with log.open("wb") as output:
            self._popen = spawn(command, env={**inherited, **env}, cwd=log.parent, output=output)
        self.name = arguments[0]
        if not wait_until(lambda: self.has_logged(ready) or self._popen.poll() is not None, PATIENCE):
            self.kill()
        assert self.is_running(), f"{self.name} did not start:\n{self.output}"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def lines(self) -> list[dict[str, Any]]:  # Any: JSON
        """Its log lines, without one that is not yet complete."""
        return [json.loads(line) for line in self.output.splitlines() if line.endswith("}")]

    def has_logged(self, text: str) -> bool:
        return text in self.output

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """kill -9: no handler runs, no connection is closed by us, nothing is written any more."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code; a process that does not end in time fails the test."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end after SIGTERM:\n{self.output}") from None


class Api(Process):
    """`python -m app_api`, at `url`."""

    def __init__(self, *, env: Mapping[str, str], log: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__("app_api", ready="Uvicorn running", env={**env, "APP_HTTP__PORT": str(self.port)}, log=log)


class Worker(Process):
    """`python -m app_worker run`."""

    def __init__(self, *, env: Mapping[str, str], log: Path) -> None:
        super().__init__("app_worker", "run", ready="worker_started", env=env, log=log)

    def ends_of_jobs(self) -> list[dict[str, Any]]:  # Any: JSON
        """Return its lines `job_ended` (a completed job has one at DEBUG only), without those of crons, which tick."""
        return [line for line in self.lines if line["event"] == "job_ended" and line.get("kind") not in KINDS_OF_CRONS]


class MailSink:
    """An SMTP server that keeps the mails it has accepted, in `mails`; it can be told to stall."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.stalled = 0
        self.stalling = False
        """While True a mail is received completely but never answered, so its sender cannot know if it was accepted."""
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._controller.port}"

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name for it
        if self.stalling:
            self.stalled += 1
            await asyncio.Event().wait()  # until the sender goes away
        assert isinstance(envelope.original_content, bytes)
        self.mails.append(message_from_bytes(envelope.original_content, policy=policy.default))
        return "250 OK"


async def eventually[T](look: Callable[[], Awaitable[T]], what: str) -> T:
    """Call `look` until it returns a true value, and return that; fail with `what` after PATIENCE."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (seen := await look()):  # noqa: ASYNC110  # it happens in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited in vain until {what}") from None
    return seen


async def until(condition: Callable[[], Any], what: str) -> None:
    """As `eventually`, for a condition that needs no `await`."""

    async def look() -> bool:
        return bool(condition())

    await eventually(look, what)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:  # Any: asyncpg's connection, which has no types
    """Connect to Postgres for a moment."""
    connection = await asyncpg.connect(dsn, timeout=90)
    try:
        yield connection
    finally:
        await connection.close(timeout=90)
